//! Services, nodes, checks and DNS.

use anyhow::{Context, Result, ensure};
use hickory_proto::rr::{RData, RecordType};
use serde_json::json;

use super::{Door, SHOW_LIMIT, good, index};
use crate::dns::DnsProbe;
use crate::http::Request;
use crate::wait::eventually;

pub(super) fn service_comes_and_goes(door: &Door) -> Result<()> {
    let name = door.own("comes");
    let service = json!({"Name": name, "Port": 8080, "Tags": ["one"], "Meta": {"colour": "blue"}});
    door.put_at_home("/v1/agent/service/register", &service.to_string())?;
    let path = format!("/v1/catalog/service/{name}");
    door.wait_for_count(&path, 1)?;
    let found = door.json(&path)?;
    ensure!(found[0]["ServicePort"] == 8080 && found[0]["ServiceMeta"]["colour"] == "blue", "{found}");
    ensure!(found[0]["Node"] == door.home_node.as_str(), "on another node: {found}");
    door.wait_for_count(&format!("/v1/health/service/{name}?passing"), 1)?;
    door.put_at_home(&format!("/v1/agent/service/deregister/{name}"), "")?;
    door.wait_for_count(&path, 0)
}

pub(super) fn health_follows_the_check(door: &Door) -> Result<()> {
    let name = door.own("health");
    let service = json!({"Name": name, "Port": 80, "Check": {"TTL": "1h", "Status": "passing"}});
    door.put_at_home("/v1/agent/service/register", &service.to_string())?;
    let passing = format!("/v1/health/service/{name}?passing");
    door.wait_for_count(&passing, 1)?;
    door.put_at_home(&format!("/v1/agent/check/fail/service:{name}?note=broken"), "")?;
    door.wait_for_count(&passing, 0)?;
    let all = door.json(&format!("/v1/health/checks/{name}"))?;
    ensure!(all[0]["Status"] == "critical" && all[0]["Output"] == "broken", "{all}");
    let critical = door.json("/v1/health/state/critical")?.to_string();
    ensure!(critical.contains(&format!("service:{name}")), "not among the critical: {critical}");
    door.put_at_home(&format!("/v1/agent/check/pass/service:{name}"), "")?;
    door.wait_for_count(&passing, 1)?;
    door.put_at_home(&format!("/v1/agent/service/deregister/{name}"), "")
}

pub(super) fn outside_node(door: &Door) -> Result<()> {
    let (node, name) = (door.own("outside"), door.own("legacy"));
    let body = json!({
        "Node": node, "Address": "10.9.0.1",
        "Service": {"Service": name, "Port": 5432, "Meta": {"version": "9"}},
        "Check": {"CheckID": "alive", "Name": "alive", "Status": "warning", "ServiceID": name},
    });
    let answer = door.catalog("register", body)?;
    ensure!(answer.text() == "true", "{}", answer.text());
    let found = door.json(&format!("/v1/health/service/{name}"))?;
    ensure!(
        found[0]["Node"]["Address"] == "10.9.0.1" && found[0]["Checks"][0]["Status"] == "warning",
        "{found}"
    );
    let on_node = door.json(&format!("/v1/catalog/node/{node}"))?;
    ensure!(on_node["Services"][&name]["Port"] == 5432, "{on_node}");
    door.catalog("deregister", json!({"Node": node, "ServiceID": name}))?;
    door.wait_for_count(&format!("/v1/catalog/service/{name}"), 0)?;
    door.catalog("deregister", json!({"Node": node}))?;
    let gone = door.send("GET", &format!("/v1/catalog/node/{node}"), "")?;
    ensure!(gone.text() == "null", "the node is still there: {}", gone.text());
    Ok(())
}

pub(super) fn datacenter_in_the_body(door: &Door) -> Result<()> {
    let (node, name) = (door.own("body-node"), door.own("body"));
    let service = json!({"Service": name, "Port": 1});
    let mut body = json!({"Node": node, "Address": "10.9.0.7", "Service": service});
    if let Some(datacenter) = &door.datacenter {
        body["Datacenter"] = datacenter.as_str().into();
    }
    let register = "/v1/catalog/register";
    good("PUT", register, Request::new("PUT", register).body(body.to_string()).send(door.ask)?)?;
    door.wait_for_count(&format!("/v1/catalog/service/{name}"), 1)?;
    door.catalog("deregister", json!({"Node": node})).map(drop)
}

pub(super) fn filters(door: &Door) -> Result<()> {
    let (node, name) = (door.own("filtered"), door.own("filter"));
    for (id, colour) in [("one", "red"), ("two", "blue"), ("three", "blue")] {
        let service =
            json!({"ID": format!("{name}-{id}"), "Service": name, "Tags": [id], "Meta": {"colour": colour}});
        door.catalog("register", json!({"Node": node, "Address": "10.9.0.2", "Service": service}))?;
    }
    let count = |filter: &str| -> Result<usize> {
        let list = door.json(&format!("/v1/catalog/service/{name}?filter={filter}"))?;
        Ok(list.as_array().context("not a list")?.len())
    };
    let blue = count("ServiceMeta.colour%20==%20%22blue%22")?;
    let two = count("%22two%22%20in%20ServiceTags%20and%20ServiceMeta.colour%20!=%20red")?;
    let none = count("not%20ServiceTags%20is%20not%20empty")?;
    ensure!((blue, two, none) == (2, 1, 0), "blue {blue}, two {two}, none {none}");
    let tagged = door.json(&format!("/v1/catalog/service/{name}?tag=three"))?;
    ensure!(tagged.as_array().is_some_and(|list| list.len() == 1), "{tagged}");
    door.catalog("deregister", json!({"Node": node})).map(drop)
}

pub(super) fn dns(door: &Door) -> Result<()> {
    let (node, name) = (door.own("dns-node"), door.own("dns"));
    let service = json!({"Service": name, "Port": 4242, "Address": "10.9.0.3", "Tags": ["first"]});
    door.catalog("register", json!({"Node": node, "Address": "10.9.0.4", "Service": service}))?;
    let label = door.datacenter.as_ref().map(|datacenter| format!("{datacenter}.")).unwrap_or_default();
    let probe = DnsProbe::new(door.dns);
    let (srv, address) =
        (format!("first.{name}.service.{label}consul."), format!("{name}.service.{label}consul."));
    let mut last = String::new();
    let answered = eventually("DNS answers", SHOW_LIMIT, || {
        let (ports, addresses) = (probe.ask(&srv, RecordType::SRV)?, probe.ask(&address, RecordType::A)?);
        last = format!("{:?} {:?}", ports.answers, addresses.answers);
        let port =
            ports.answers.iter().any(|record| matches!(&record.data, RData::SRV(srv) if srv.port == 4242));
        let at = |record: &hickory_proto::rr::Record| matches!(&record.data, RData::A(a) if a.0.octets() == [10, 9, 0, 3]);
        Ok(port && addresses.answers.iter().any(at))
    });
    answered.with_context(|| format!("last answers: {last}"))?;
    door.catalog("deregister", json!({"Node": node})).map(drop)
}

pub(super) fn lists(door: &Door) -> Result<()> {
    let nodes = door.json("/v1/catalog/nodes")?;
    ensure!(nodes.to_string().contains(&format!("\"{}\"", door.home_node)), "no {}: {nodes}", door.home_node);
    let services = door.json("/v1/catalog/services")?;
    ensure!(services["consul"].is_array(), "{services}");
    let datacenters = door.json("/v1/catalog/datacenters")?;
    if let Some(datacenter) = &door.datacenter {
        ensure!(datacenters.to_string().contains(datacenter), "{datacenters}");
        let all = nodes.as_array().context("not a list")?;
        ensure!(all.iter().all(|node| node["Datacenter"] == datacenter.as_str()), "of elsewhere: {nodes}");
    }
    let leader = door.send("GET", "/v1/status/leader", "")?;
    ensure!(leader.status == 200 && leader.body.len() > 2, "leader: {} {}", leader.status, leader.text());
    Ok(())
}

pub(super) fn headers(door: &Door) -> Result<()> {
    for mode in ["", "?stale", "?consistent"] {
        for path in ["/v1/catalog/nodes", "/v1/health/state/any", "/v1/catalog/services"] {
            let answer = good("GET", path, door.send("GET", &format!("{path}{mode}"), "")?)?;
            ensure!(index(&answer)? > 0, "index 0");
            ensure!(answer.header("x-consul-knownleader") == Some("true"), "{path}{mode}: no known leader");
            let contact = answer.header("x-consul-lastcontact").context("no X-Consul-Lastcontact")?;
            contact.parse::<u64>().with_context(|| format!("X-Consul-Lastcontact: {contact}"))?;
        }
    }
    let both = door.send("GET", "/v1/catalog/nodes?stale&consistent", "")?;
    ensure!(both.status == 400, "stale and consistent at once was answered {}", both.status);
    Ok(())
}

pub(super) fn cached(door: &Door) -> Result<()> {
    let path = "/v1/health/service/consul?cached";
    let first = good("GET", path, door.send("GET", path, "")?)?;
    ensure!(first.header("x-cache").is_some(), "no X-Cache at first");
    let mut last = String::new();
    let hit = eventually("a cached answer", SHOW_LIMIT, || {
        let answer = good("GET", path, door.send("GET", path, "")?)?;
        last = format!("{:?}", answer.headers);
        Ok(answer.header("x-cache") == Some("HIT") && answer.header("age").is_some())
    });
    hit.with_context(|| format!("last headers: {last}"))
}

pub(super) fn unknown_datacenter(door: &Door) -> Result<()> {
    let answer = Request::new("GET", "/v1/catalog/nodes?dc=nowhere").send(door.ask)?;
    ensure!(answer.status == 500, "answered {}", answer.status);
    ensure!(answer.text().contains("No path to datacenter"), "answered {}", answer.text());
    Ok(())
}
