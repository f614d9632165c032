//! What an agent prints once it runs, in the form that tools for Consul read.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::daemon::Daemon;
use crate::settings::Settings;
use crate::version;

/// Text for standard output, behind `==> Starting …`.
pub(super) fn text(settings: &Settings, daemon: &Daemon) -> String {
    let network = &settings.network;
    let client: Vec<String> = network.client.iter().map(ToString::to_string).collect();
    let reach = daemon.reach();
    let wan = reach.wan.map_or(-1, |wan| i32::from(wan.port()));
    let is_server = settings.cluster.is_server();
    let founds_alone = settings.cluster.founds_alone() && !settings.is_dev;
    let segment = if is_server { "<all>" } else { "<default>" };
    let (encrypted, secured) = (settings.cluster.gossip_key.is_some(), daemon.uses_tls());
    let lines = [
        ("Version", format!("'{}'", version::TRIBUNE)),
        ("Node ID", format!("'{}'", daemon.node_id())),
        ("Node name", format!("'{}'", settings.identity.name)),
        ("Datacenter", format!("'{}' (Segment: '{segment}')", settings.datacenter)),
        ("Server", format!("{is_server} (Bootstrap: {founds_alone})")),
        (
            "Client Addr",
            format!(
                "[{}] (HTTP: {}, HTTPS: {}, gRPC: -1, DNS: {})",
                client.join(" "),
                port(daemon.http()),
                port(daemon.https()),
                port(daemon.dns())
            ),
        ),
        ("Cluster Addr", format!("{} (LAN: {}, WAN: {wan})", network.advertise, reach.lan.port())),
        (
            "Encrypt",
            format!(
                "Gossip: {encrypted}, TLS-Outgoing: {secured}, TLS-Incoming: {secured}, Auto-Encrypt-TLS: false"
            ),
        ),
    ];
    let mut text = String::new();
    for (name, value) in lines {
        let _ = writeln!(text, "{name:>18}: {value}");
    }
    text.push_str("\n==> Log data will now stream in as it occurs:\n\n");
    text
}

/// The port that is served, which the system may have chosen; -1 when the interface is off.
fn port(addresses: &[SocketAddr]) -> i32 {
    addresses.first().map_or(-1, |address| i32::from(address.port()))
}
