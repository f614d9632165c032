//! HAProxy with a server template that is filled from DNS, and no health checks of its own.

use std::collections::BTreeSet;
use std::fs;

use tribune_integration::{Client, Request, eventually, free_port};

use super::Web;
use crate::LIMIT;

/// Requests that must all be answered by the servers that are up: several rounds of round-robin.
const REQUESTS: usize = 30;

#[test]
fn haproxy_stops_using_a_server_whose_check_is_critical_and_uses_it_again() {
    let Some(haproxy) = Client::find("haproxy") else { return };
    let mut web = Web::start();
    let front = free_port().unwrap();
    let configuration = web.node.folder().join("haproxy.cfg");
    fs::write(&configuration, text(web.node.dns().port(), front)).unwrap();
    let log = web.node.folder().join("haproxy.log");
    let _haproxy = Client::start(&haproxy, &["-f", &configuration.display().to_string()], &log).unwrap();

    wait_for(front, &["one", "two", "three"]);
    web.backends[1].kill();
    web.wait_for_passing(2);
    wait_for(front, &["one", "three"]);
    web.backends[1].revive().unwrap();
    web.wait_for_passing(3);
    wait_for(front, &["one", "two", "three"]);
}

/// Waits until a run of requests is answered by exactly these servers and by nobody else.
fn wait_for(front: u16, expected: &[&str]) {
    let expected: BTreeSet<_> = expected.iter().map(|name| (*name).to_owned()).collect();
    let mut seen = BTreeSet::new();
    let done = eventually("HAProxy follows", LIMIT, || {
        seen = (0..REQUESTS).map(|_| answered_by(front)).collect();
        Ok(seen == expected)
    });
    assert!(done.is_ok(), "HAProxy sends to {seen:?} instead of {expected:?}");
}

/// The name of the server that answered, or what went wrong.
fn answered_by(front: u16) -> String {
    match Request::new("GET", "/").send(([127, 0, 0, 1], front).into()) {
        Ok(answer) if answer.status == 200 => answer.text(),
        Ok(answer) => format!("status {}", answer.status),
        Err(error) => format!("{error:#}"),
    }
}

fn text(dns: u16, front: u16) -> String {
    format!(
        "global
    maxconn 200
defaults
    mode http
    timeout connect 2s
    timeout client 5s
    timeout server 5s
resolvers registry
    nameserver local 127.0.0.1:{dns}
    accepted_payload_size 8192
    resolve_retries 3
    timeout resolve 200ms
    timeout retry 200ms
    hold valid 200ms
    hold obsolete 0s
    hold nx 200ms
frontend front
    bind 127.0.0.1:{front}
    default_backend web
backend web
    balance roundrobin
    server-template web 5 _web._tcp.service.consul resolvers registry resolve-prefer ipv4 init-addr none
"
    )
}
