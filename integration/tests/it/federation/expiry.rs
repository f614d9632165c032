//! A certificate whose time runs out while it is in use, and the next one.

use std::time::Duration;

use serde_json::json;
use tribune_integration::{Federation, Identity, Member, Program, eventually, skip};

use super::{answered, assert_undisturbed, mark, wait_healed};
use crate::LIMIT;

/// How long the certificate lasts: long enough to be loaded and used.
const LIFE: Duration = Duration::from_secs(25);

/// Has the server of the second datacenter show another certificate from now on.
fn show(federation: &mut Federation, identity: &Identity) {
    let node = federation.dc_mut(1).node_mut(0);
    node.configure(&identity.configuration()).unwrap();
    node.put("/v1/agent/reload", &json!(null)).unwrap();
}

#[test]
fn an_expired_certificate_opens_nothing_and_the_next_one_heals() {
    if Program::under_test().is_consul() {
        return skip("Consul's gossip between datacenters has no certificates");
    }
    let mut federation = Federation::start(vec![Member::new("dc1", 1, 0), Member::new("dc2", 1, 0)]).unwrap();
    mark(&federation);
    let brief = federation.authority().ends_in(LIFE, "server", "dc2").unwrap();
    show(&mut federation, &brief);
    let ways = [(0, 1), (1, 0)];
    for (here, there) in ways {
        let (from, to) = (federation.dc(here), federation.dc(there));
        eventually("it is good yet", LIMIT, || Ok(answered(from, 0, to, ""))).unwrap();
    }
    eventually("both are cut off", LIMIT, || {
        Ok(ways.iter().all(|(here, there)| !answered(federation.dc(*here), 0, federation.dc(*there), "")))
    })
    .unwrap();
    for _ in 0..20 {
        for (here, there) in ways {
            assert!(
                !answered(federation.dc(here), 0, federation.dc(there), ""),
                "{here} was let in at {there}"
            );
            assert_undisturbed(federation.dc(here));
        }
    }
    let next = federation.authority().server("dc2").unwrap();
    show(&mut federation, &next);
    println!("healed after {:?}", wait_healed(&federation));
}
