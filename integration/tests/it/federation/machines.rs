//! Three datacenters of three servers on machines of their own, with packet filters between them.

use tribune_integration::{Federation, FederationSettings, Host, Member, Network, Program, eventually};

use super::{HEALED_LIMIT, answered, ask, assert_undisturbed, mark, promised, reaches, wait_healed};
use crate::LIMIT;

const SERVERS: usize = 3;

/// The machines of a datacenter.
fn machines(datacenter: usize) -> Vec<usize> {
    (datacenter * SERVERS..(datacenter + 1) * SERVERS).collect()
}

fn start(network: &Network) -> Federation {
    let member = |number: usize| {
        let hosts: Vec<Host> = machines(number).iter().map(|host| network.hosts()[*host].clone()).collect();
        Member { hosts, ..Member::new(&format!("dc{}", number + 1), SERVERS, 0) }
    };
    let settings =
        FederationSettings { linked: false, ..FederationSettings::linked((0..3).map(member).collect()) };
    let federation = Federation::start_with(settings).unwrap();
    mark(&federation);
    federation
}

#[test]
fn three_datacenters_live_through_cuts_one_way_links_and_loss() {
    let Some(network) = Network::create(3 * SERVERS) else { return };
    let federation = start(&network);
    let (one, two) = (machines(0), machines(1));

    // Two datacenters lose each other; the third reaches both.
    network.part(&one, &two).unwrap();
    assert_third_is_reached(&federation);
    network.heal().unwrap();
    wait_healed(&federation);

    // Nothing from the first reaches the second.
    for (from, to) in one.iter().flat_map(|from| two.iter().map(move |to| (*from, *to))) {
        network.cut_one_way(from, to).unwrap();
    }
    assert_third_is_reached(&federation);
    network.heal().unwrap();
    wait_healed(&federation);

    // Of all packets between the two, 30 in 100 are lost.
    for (from, to) in one.iter().flat_map(|from| two.iter().map(move |to| (*from, *to))) {
        network.lose(from, to, 30).unwrap();
        network.lose(to, from, 30).unwrap();
    }
    for server in 0..SERVERS {
        assert_undisturbed(federation.dc(0));
        let (from, to) = (federation.dc(0), federation.dc(1));
        eventually("answers come through all the loss", promised(LIMIT), || {
            Ok(answered(from, server, to, ""))
        })
        .unwrap();
    }
    network.heal().unwrap();
    wait_healed(&federation);
}

/// While the first two datacenters cannot reach each other directly.
fn assert_third_is_reached(federation: &Federation) {
    federation.dcs().iter().for_each(assert_undisturbed);
    for (here, there) in [(0, 2), (1, 2), (2, 0), (2, 1)] {
        let reached = || Ok(reaches(federation.dc(here), federation.dc(there)));
        eventually("a datacenter that is not cut off answers", promised(HEALED_LIMIT), reached).unwrap();
    }
    let (from, to) = (federation.dc(0), federation.dc(1));
    if Program::under_test().is_consul() {
        // It may answer or not, but only from the right place.
        let _ = ask(from, 0, to, "");
        return;
    }
    // The third one passes questions on.
    eventually("the third datacenter relays", promised(HEALED_LIMIT), || Ok(answered(from, 0, to, "")))
        .unwrap();
}
