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
    let wan = network.serf_wan_port.map_or(-1, i32::from);
    let lines = [
        ("Version", format!("'{}'", version::TRIBUNE)),
        ("Node ID", format!("'{}'", daemon.node_id())),
        ("Node name", format!("'{}'", settings.identity.name)),
        ("Datacenter", format!("'{}' (Segment: '<all>')", settings.datacenter)),
        ("Server", format!("true (Bootstrap: {})", settings.is_bootstrap)),
        (
            "Client Addr",
            format!(
                "[{}] (HTTP: {}, HTTPS: -1, gRPC: -1, DNS: {})",
                client.join(" "),
                port(daemon.http()),
                port(daemon.dns())
            ),
        ),
        ("Cluster Addr", format!("{} (LAN: {}, WAN: {wan})", network.advertise, network.serf_lan_port)),
        (
            "Encrypt",
            "Gossip: false, TLS-Outgoing: false, TLS-Incoming: false, Auto-Encrypt-TLS: false".to_owned(),
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
