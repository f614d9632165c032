//! dig: what an administrator types.

use std::process::Command;

use tribune_integration::Client;

use super::Web;

#[test]
fn dig_finds_instances_over_udp_and_tcp() {
    let Some(dig) = Client::find("dig") else { return };
    let web = Web::start();
    let port = web.node.dns().port().to_string();
    let ask = |arguments: &[&str]| {
        let output = Command::new(&dig).args(["@127.0.0.1", "-p", &port]).args(arguments).output().unwrap();
        assert!(output.status.success(), "dig failed: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };

    for transport in ["+notcp", "+tcp"] {
        let answer = ask(&["_web._tcp.service.consul", "SRV", "+noall", "+answer", transport]);
        assert_eq!(answer.lines().count(), 3, "{answer}");
        for (last, backend) in (1..).zip(&web.backends) {
            let ending = format!("1 1 {} 7f00010{last}.addr.dc1.consul.", backend.address().port());
            assert!(answer.lines().any(|line| line.ends_with(&ending)), "{ending} is missing in\n{answer}");
        }
    }
    let addresses = ask(&["web.service.consul", "A", "+short"]);
    assert_eq!(addresses.lines().count(), 3, "{addresses}");
    let tagged = ask(&["two.web.service.consul", "SRV", "+short"]);
    assert!(tagged.contains(&web.backends[1].address().port().to_string()), "{tagged}");
    let missing = ask(&["none.service.consul", "A"]);
    assert!(missing.contains("status: NXDOMAIN") && missing.contains("SOA"), "{missing}");
    let stranger = ask(&["example.com", "A"]);
    assert!(stranger.contains("status: REFUSED"), "{stranger}");
    let odd_type = ask(&["web.service.consul", "TYPE1000"]);
    assert!(odd_type.contains("status: NOERROR") && odd_type.contains("ANSWER: 0"), "{odd_type}");
}
