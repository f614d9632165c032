//! What to try while the demo runs: commands with the ports that were chosen, ready to be copied.

use std::net::SocketAddr;

use super::plan::{BILLING, ClusterPorts, Node, Plan, WEB};
use super::view::dns_name;
use crate::columns::columns;

/// How old a cached answer may be that is taken when the other datacenter cannot be reached, in seconds.
pub(super) const STALE_SECONDS: u32 = 600;

/// The path of the healthy instances of a service, with parameters to narrow it.
pub(super) fn health(service: &str, parameters: &str) -> String {
    format!("/v1/health/service/{service}?passing{parameters}")
}

/// The header that takes old answers.
pub(super) fn old_is_fine() -> (&'static str, String) {
    ("Cache-Control", format!("stale-if-error={STALE_SECONDS}"))
}

/// Which agent is where.
pub(super) fn map(plan: &Plan) -> String {
    let mut rows =
        vec![["  Server", "HTTP", "DNS", "Cluster", "WAN", "Instances"].map(str::to_owned).to_vec()];
    for node in &plan.nodes {
        let ClusterPorts { server, serf_wan, .. } = plan.ports;
        let instances: Vec<String> = node
            .instances
            .iter()
            .map(|instance| format!("{} :{}", instance.id, instance.address.port()))
            .collect();
        rows.push(vec![
            format!("  {}", node.name),
            node.http.to_string(),
            node.dns.to_string(),
            format!("{}:{server}", node.address),
            format!("{}:{serf_wan}", node.wan_address),
            instances.join(", "),
        ]);
    }
    columns(&rows)
}

/// Commands for another terminal; `program` is how this one is called.
pub(super) fn commands(plan: &Plan, program: &str) -> String {
    let (Some(here), Some(there)) = (plan.nodes.first(), plan.nodes.last()) else { return String::new() };
    let (local, remote) = (dns_name(WEB, None), dns_name(BILLING, Some(there.datacenter)));
    let dc = format!("&dc={}", there.datacenter);
    let (name, value) = old_is_fine();
    let http = here.http;
    let lines = [
        ("instances near you, address and port", dig(here, &local)),
        ("instances of the other datacenter, asked here", dig(here, &remote)),
        ("the same over HTTP", curl("", http, &health(BILLING, &dc))),
        (
            "from the cache, also with the link cut: see X-Cache and Age",
            curl(&format!("-i -H '{name}: {value}' "), http, &health(BILLING, &format!("{dc}&cached"))),
        ),
        ("note X-Consul-Index …", curl("-i ", http, &health(WEB, ""))),
        ("… and wait for the answer to change", curl("", http, &health(WEB, "&wait=5m&index=INDEX"))),
        ("who is there", format!("{program} members -http-addr={http}")),
        ("and in all datacenters", format!("{program} members -wan -http-addr={http}")),
    ];
    lines.map(|(about, command)| format!("  # {about}\n  {command}\n")).concat()
}

fn dig(node: &Node, name: &str) -> String {
    format!("dig @{} -p {} {name} SRV", node.dns.ip(), node.dns.port())
}

fn curl(options: &str, http: SocketAddr, target: &str) -> String {
    format!("curl {options}'{http}{target}'")
}

/// What the keys do.
pub(super) const KEYS: [(char, &str); 5] = [
    ('w', "cut the link between the datacenters, or heal it"),
    ('i', "stop an instance of web, or start it again"),
    ('l', "kill the leader of dc1, see who follows, and start it again"),
    ('h', "show this again"),
    ('q', "end"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::plan::tests::plan;

    #[test]
    fn commands_name_the_ports_that_were_chosen() {
        let text = commands(&plan(3), "tribune");
        for command in [
            "  dig @127.0.0.1 -p 8600 web.service.consul SRV\n",
            "  dig @127.0.0.1 -p 8600 billing.service.dc2.consul SRV\n",
            "  curl '127.0.0.1:8500/v1/health/service/billing?passing&dc=dc2'\n",
            "  curl -i -H 'Cache-Control: stale-if-error=600' '127.0.0.1:8500/v1/health/service/billing?passing&dc=dc2&cached'\n",
            "  tribune members -wan -http-addr=127.0.0.1:8500\n",
        ] {
            assert!(text.contains(command), "{command}\n{text}");
        }
    }

    #[test]
    fn every_server_is_on_the_map() {
        let text = map(&plan(3));
        let last = text.lines().last().unwrap();
        let cells: Vec<&str> = last.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(
            cells,
            [
                "dc2-1",
                "127.0.0.1:9500",
                "127.0.0.1:9600",
                "127.0.2.1:8300",
                "127.0.12.1:8302",
                "web-4 :8084, web-5 :8085, billing-1 :9091, billing-2 :9092"
            ]
        );
    }
}
