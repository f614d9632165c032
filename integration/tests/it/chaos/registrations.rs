//! Instances that are registered, changed and deregistered in the catalog.

use std::collections::BTreeMap;

use rand::RngExt;
use serde_json::{Value, json};
use tribune_integration::linear::{Catalog, CatalogCall};

use super::{CLIENTS, Door, Storm, Told, Written};

/// Instances of each service, each on a node of its own.
const INSTANCES: u32 = 3;

#[test]
fn registrations_are_linearizable_while_servers_are_killed_stopped_and_cut_off() {
    let mut storm = Storm::prepare();
    storm.rage::<Catalog, _>(|number| {
        let mut next = u32::try_from(number).unwrap() + 1;
        move |door: &Door, service: &str| {
            next += u32::try_from(CLIENTS).unwrap();
            call(door, service, next)
        }
    });
}

fn call(door: &Door, service: &str, version: u32) -> Told<CatalogCall> {
    let mut random = rand::rng();
    let instance = random.random_range(0..INSTANCES);
    let (node, id) = (format!("chaos-node-{instance}"), format!("{service}-{instance}"));
    let (target, body, call) = match random.random_range(0..10) {
        0..4 => {
            let service =
                json!({"ID": id, "Service": service, "Port": 80, "Meta": {"version": version.to_string()}});
            let body = json!({"Node": node, "Address": "10.0.0.1", "Service": service});
            ("/v1/catalog/register", body, CatalogCall::Register { instance, version })
        }
        4..6 => {
            let body = json!({"Node": node, "ServiceID": id});
            ("/v1/catalog/deregister", body, CatalogCall::Deregister(instance))
        }
        _ => return list(door, service),
    };
    match door.write("PUT", target, &body.to_string()) {
        Written::Answered(done) => {
            assert!(done, "a registration was answered with something else than true");
            Told::Known(call)
        }
        Written::Unknown => Told::Unknown(call),
        Written::Never => Told::Nothing,
    }
}

fn list(door: &Door, service: &str) -> Told<CatalogCall> {
    let kind = if rand::rng().random() { "catalog" } else { "health" };
    let Some(answer) = door.read(&format!("/v1/{kind}/service/{service}")) else { return Told::Nothing };
    let found = answer.json().unwrap();
    let instances = found.as_array().unwrap().iter().map(|entry| match kind {
        "catalog" => instance(&entry["ServiceID"], &entry["ServiceMeta"]),
        _ => instance(&entry["Service"]["ID"], &entry["Service"]["Meta"]),
    });
    Told::Known(CatalogCall::List(instances.collect::<BTreeMap<_, _>>()))
}

fn instance(id: &Value, meta: &Value) -> (u32, u32) {
    let number = id.as_str().unwrap().rsplit('-').next().unwrap();
    (number.parse().unwrap(), meta["version"].as_str().unwrap().parse().unwrap())
}
