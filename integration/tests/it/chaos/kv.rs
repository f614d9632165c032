//! Keys that are read, written, compared and swapped, and deleted.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rand::RngExt;
use tribune_integration::Answer;
use tribune_integration::linear::{Kv, KvCall};

use super::{CLIENTS, Door, STALE, Storm, Told, Written};

/// Storms in which a stale read must have been caught.
const STORMS: usize = 4;

#[test]
fn keys_are_linearizable_while_servers_are_killed_stopped_and_cut_off() {
    let mut storm = Storm::prepare();
    storm.rage::<Kv, _>(client);
}

#[test]
fn stale_reads_passed_off_as_others_are_caught() {
    let mut storm = Storm::prepare();
    let caught = (0..STORMS).any(|_| {
        let found = storm.rage_with::<Kv, _>(STALE, client);
        found.is_err_and(|error| error.contains("not linearizable"))
    });
    assert!(caught, "{STORMS} storms with stale reads looked linearizable: these tests find nothing");
}

fn client(number: usize) -> impl FnMut(&Door, &str) -> Told<KvCall> {
    let mut client = Client { next: u32::try_from(number).unwrap() + 1, seen: BTreeMap::new() };
    move |door: &Door, key: &str| client.call(door, key)
}

struct Client {
    /// A value that nobody has written before.
    next: u32,
    /// The newest ModifyIndex that this client saw of each key.
    seen: BTreeMap<String, u64>,
}

impl Client {
    fn call(&mut self, door: &Door, key: &str) -> Told<KvCall> {
        let target = format!("/v1/kv/{key}");
        let kind = rand::rng().random_range(0..10);
        if kind < 4 {
            return self.read(door, key, &target);
        }
        let value = self.value();
        let swap = |done| {
            let expected = self.seen.get(key).copied().unwrap_or(0);
            (format!("{target}?cas={expected}"), KvCall::Swap { expected, value, done })
        };
        let (method, target, unknown, call): (_, _, _, &dyn Fn(bool) -> KvCall) = match kind {
            4..7 => ("PUT", target.clone(), KvCall::Put(value), &|_| KvCall::Put(value)),
            7..9 => {
                let (target, unknown) = swap(None);
                ("PUT", target, unknown, &|done| swap(Some(done)).1)
            }
            _ => ("DELETE", target.clone(), KvCall::Delete, &|_| KvCall::Delete),
        };
        match door.write(method, &target, &value.to_string()) {
            Written::Answered(done) => Told::Known(call(done)),
            Written::Unknown => Told::Unknown(unknown),
            Written::Never => Told::Nothing,
        }
    }

    fn read(&mut self, door: &Door, key: &str, target: &str) -> Told<KvCall> {
        let Some(answer) = door.read(target) else { return Told::Nothing };
        let found = entry(&answer);
        self.seen.insert(key.to_owned(), found.map_or(0, |(_, index)| index));
        Told::Known(KvCall::Read(found))
    }

    fn value(&mut self) -> u32 {
        let value = self.next;
        self.next += u32::try_from(CLIENTS).unwrap();
        value
    }
}

/// The value and the ModifyIndex, if the key is there.
fn entry(answer: &Answer) -> Option<(u32, u64)> {
    if answer.status == 404 {
        return None;
    }
    let body = answer.json().unwrap();
    let value = BASE64_STANDARD.decode(body[0]["Value"].as_str().unwrap()).unwrap();
    Some((String::from_utf8(value).unwrap().parse().unwrap(), body[0]["ModifyIndex"].as_u64().unwrap()))
}
