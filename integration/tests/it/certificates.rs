//! Who may talk to the ports of a server: certificates that are missing, over, of strangers or of the wrong role.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tribune_integration::{
    Authority, Client, ClusterSettings, Identity, Program, TestCluster, calm, free_port, skip,
};

/// How long curl may take for one request.
const SECONDS: &str = "20";

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// No request was let through at all.
    Shut,
    /// It was answered that the caller may not.
    Forbidden,
    /// It was answered.
    Through,
}

/// Asks with curl, a client that nobody here wrote.
fn ask(curl: &Path, to: SocketAddr, identity: Option<&Identity>, method: &str, path: &str) -> (Came, String) {
    let mut command = Command::new(curl);
    command.args(["--silent", "--show-error", "--insecure", "--http2", "--max-time", SECONDS]);
    command.args(["--output", "/dev/null", "--write-out", "%{http_code}", "--request", method]);
    if let Some(identity) = identity {
        command.arg("--cert").arg(&identity.certificate).arg("--key").arg(&identity.key);
    }
    let output = command.arg(format!("https://{to}{path}")).output().unwrap();
    let code = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = format!("{code} {}", String::from_utf8_lossy(&output.stderr));
    let came = match code.as_str() {
        _ if !output.status.success() => Came::Shut,
        "401" | "403" => Came::Forbidden,
        _ => Came::Through,
    };
    (came, said)
}

#[test]
fn only_the_right_certificates_are_let_in() {
    if Program::under_test().is_consul() {
        return skip("its ports speak another protocol");
    }
    let Some(curl) = Client::find("curl") else { return };
    let program = Program::under_test();
    let (own, stranger) = (Authority::create(&program).unwrap(), Authority::create(&program).unwrap());
    let https = free_port().unwrap();
    let settings =
        ClusterSettings { servers: 1, federated: true, configuration: calm(), ..ClusterSettings::default() };
    let places = settings.places().unwrap();
    let mut extra = own.server("dc1").unwrap().configuration();
    extra["ports"] = json!({"https": https});
    let mut cluster = TestCluster::launch(settings, places, &[extra]).unwrap();
    cluster.wait_formed().unwrap();
    let place = cluster.place(0);
    let at = |port: u16| SocketAddr::from((place.host.address, port));
    let (rpc, wan, https) = (at(place.ports.server), at(place.ports.serf_wan), at(https));

    let (server, client) = (own.server("dc1").unwrap(), own.client("dc1").unwrap());
    let (far_server, far_client) = (own.server("dc2").unwrap(), own.client("dc2").unwrap());
    let (over, early) = (own.expired("server", "dc1").unwrap(), own.not_yet("server", "dc1").unwrap());
    let (far_over, forged) = (own.expired("server", "dc2").unwrap(), stranger.server("dc1").unwrap());
    let far_forged = stranger.server("dc2").unwrap();
    let look = ("GET", "/v1/status/leader");
    let vote = ("POST", "/raft/vote");
    // Whoever may ask for what is registered may not command the agent, however that is written.
    let (stop, stop_escaped) = (("PUT", "/v1/agent/leave"), ("PUT", "/v1/%61gent/leave"));
    let gossip = ("POST", "/gossip/packet");
    let cases = [
        ("a server of this datacenter on the RPC port", rpc, Some(&server), look, Came::Through),
        ("nobody on the RPC port", rpc, None, look, Came::Shut),
        ("a certificate that is over on the RPC port", rpc, Some(&over), look, Came::Shut),
        ("a certificate before its time on the RPC port", rpc, Some(&early), look, Came::Shut),
        ("a stranger on the RPC port", rpc, Some(&forged), vote, Came::Shut),
        ("a client agent that votes", rpc, Some(&client), vote, Came::Forbidden),
        ("a client agent that asks", rpc, Some(&client), look, Came::Through),
        ("a client agent that stops the server", rpc, Some(&client), stop, Came::Forbidden),
        ("a client agent that does so in disguise", rpc, Some(&client), stop_escaped, Came::Forbidden),
        ("a server of another datacenter that votes", rpc, Some(&far_server), vote, Came::Shut),
        ("a client agent of another datacenter that votes", rpc, Some(&far_client), vote, Came::Shut),
        ("a server of another datacenter that gossips", wan, Some(&far_server), gossip, Came::Through),
        ("one that asks before it has joined", wan, Some(&far_server), look, Came::Forbidden),
        ("nobody on the WAN port", wan, None, gossip, Came::Shut),
        ("a certificate that is over on the WAN port", wan, Some(&far_over), gossip, Came::Shut),
        ("a stranger on the WAN port", wan, Some(&far_forged), gossip, Came::Shut),
        ("a client agent on the WAN port", wan, Some(&far_client), gossip, Came::Shut),
        ("a client agent over HTTPS", https, Some(&client), look, Came::Through),
        ("nobody over HTTPS", https, None, look, Came::Shut),
        ("a certificate that is over over HTTPS", https, Some(&over), look, Came::Shut),
        ("a stranger over HTTPS", https, Some(&forged), look, Came::Shut),
    ];
    let wrong: Vec<_> = cases
        .into_iter()
        .filter_map(|(who, to, identity, (method, path), expected)| {
            let (came, said) = ask(&curl, to, identity, method, path);
            (came != expected).then(|| format!("{who}: {came:?} instead of {expected:?}: {said}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), cluster.log_tails());
    cluster.write("after", "fine").unwrap();
}
