//! The commands of the real program against a real node in this process.

#![allow(clippy::unwrap_used, reason = "a test harness fails by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tribune::Daemon;
use tribune::config::{Source, Sources};
use tribune::logging::Log;
use tribune::settings::Settings;

/// How long a busy machine may take for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A development node on ports of the system's choice.
struct Node {
    runtime: Runtime,
    daemon: Option<Daemon>,
    address: String,
}

/// What a command said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Node {
    fn start() -> Self {
        let fragment =
            r#"node_name = "alpha"  ports { http = 0  dns = 0  server = 0  serf_lan = 0  serf_wan = 0 }"#;
        let sources =
            Sources { files: vec![Source::Fragment(fragment.into())], is_dev: true, ..Sources::default() };
        let (config, _) = sources.read().unwrap();
        let (settings, _) = Settings::resolve(&config).unwrap();
        let runtime = Runtime::new().unwrap();
        let log = Log::silent("info".parse().unwrap());
        let daemon = runtime.block_on(Daemon::start(settings, log, Some(sources))).unwrap();
        let address = daemon.http()[0].to_string();
        let node = Self { runtime, daemon: Some(daemon), address };
        node.until("catalog nodes", |said| said.out.contains("alpha"));
        node
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tribune"));
        command.args(line.split(' ')).env("CONSUL_HTTP_ADDR", &self.address).env_remove("CONSUL_HTTP_TOKEN");
        command
    }

    fn run(&self, line: &str) -> Said {
        Said::from(self.command(line).output().unwrap())
    }

    /// Runs the command again and again until it says what is awaited.
    fn until(&self, line: &str, awaited: impl Fn(&Said) -> bool) -> Said {
        let began = Instant::now();
        loop {
            let said = self.run(line);
            if awaited(&said) {
                return said;
            }
            assert!(began.elapsed() < PATIENCE, "{line}: {said:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn check(&self, line: &str, code: i32, out: &str, err: &str) {
        let said = self.run(line);
        assert_eq!((said.code, said.out.as_str()), (code, out), "{line}: {said:?}");
        assert!(said.err.starts_with(err) && said.err.is_empty() == err.is_empty(), "{line}: {said:?}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            self.runtime.block_on(daemon.stop(false));
        }
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn what_a_node_shows_is_printed_as_consul_prints_it() {
    let node = Node::start();
    let members = node.run("members");
    // Columns are as wide as the port that the system chose.
    let words: Vec<&str> = members.out.split_whitespace().collect();
    assert_eq!(
        words[..9].join(" "),
        "Node Address Status Type Build Protocol DC Segment alpha",
        "{members:?}"
    );
    assert!(words[9].starts_with("127.0.0.1:"), "{members:?}");
    node.check("members -status=left", 2, "", "");
    node.check("members -status=(", 1, "", "Failed to compile status regexp");
    node.check("catalog datacenters", 0, "dc1\n", "");
    node.check("catalog services -tags", 0, "consul\n", "");
    node.check("catalog nodes -service=none", 0, "", "No nodes match the given query");
    node.check("catalog services -node=none", 0, "", "No services match the given query");
    node.check("catalog nodes -filter=bad==", 1, "", "Error listing nodes: Unexpected response code: ");
    let nodes = node.run("catalog nodes -stale");
    assert!(nodes.out.starts_with("Node   ID        Address    DC\nalpha  "), "{nodes:?}");
    let info = node.run("info");
    assert!(info.out.starts_with("agent:\n\tcheck_monitors = 0\n"), "{info:?}");
    node.check("reload", 0, "Configuration reload triggered\n", "");
}

#[test]
fn services_come_and_go_by_files_and_flags() {
    let node = Node::start();
    let folder = tempfile::tempdir().unwrap();
    let json =
        write(folder.path(), "web.json", r#"{"service": {"name": "web", "id": "w1", "tags": ["b", "a"]}}"#);
    let hcl = write(folder.path(), "two.hcl", "services { name = \"x1\" }\nservices { name = \"x2\" }\n");
    node.check(
        &format!("services register {json} {hcl}"),
        0,
        "\
Registered service: web\nRegistered service: x1\nRegistered service: x2\n",
        "",
    );
    node.check("services register -name=api -port 80 -tag=t -meta=k=v", 0, "Registered service: api\n", "");
    let all = "api         t\nconsul      \nweb         a,b\nx1          \nx2\n";
    node.until("catalog services -tags", |said| said.out == all);
    node.check(&format!("services deregister {json}"), 0, "Deregistered service: w1\n", "");
    node.check("services deregister -id=api", 0, "Deregistered service: api\n", "");
    node.until("catalog services", |said| said.out == "consul\nx1\nx2\n");
    node.check("services register", 1, "", "Service registration requires at least one argument or flags.");
    node.check(
        &format!("services register -name=a {hcl}"),
        1,
        "",
        "Service registration requires arguments or -id",
    );
    node.check("services register nofile.json", 1, "", "Error: config: Open failed on nofile.json");
    let refused = node.run("services register -port=1");
    assert!(refused.err.contains("400 (Missing service name)"), "{refused:?}");
}

#[test]
fn maintenance_is_switched_and_shown() {
    let node = Node::start();
    node.check("services register -name=web", 0, "Registered service: web\n", "");
    node.check("maint", 0, "", "");
    node.check("maint -enable -reason=disk", 0, "Node maintenance is now enabled\n", "");
    node.check(
        "maint -enable -service=web -reason=new",
        0,
        "Service maintenance is now enabled for \"web\"\n",
        "",
    );
    node.check(
        "maint",
        0,
        "\
Node:\n  Name:   alpha\n  Reason: disk\n\nService:\n  ID:     web\n  Reason: new\n\n",
        "",
    );
    node.check("maint -disable", 0, "Node maintenance is now disabled\n", "");
    node.check("maint -disable -service=web", 0, "Service maintenance is now disabled for \"web\"\n", "");
    node.check("maint", 0, "", "");
    let unknown = node.run("maint -enable -service=none");
    assert!(unknown.err.starts_with("Error enabling service maintenance: Unexpected response code: 404"));
    node.check("maint -enable -disable", 1, "", "Only one of -enable or -disable may be provided");
}

#[test]
fn a_watch_shows_a_view_once_or_runs_a_program_at_each_change() {
    let node = Node::start();
    node.check("watch -type=services", 0, "{\n    \"consul\": []\n}\n", "");
    node.check("watch -type=service", 1, "", "Must specify a single service to watch");
    node.check("watch -type=event -name=a", 0, "[]\n", "");
    node.check("watch -type=services -shell=false false", 1, "", "Error executing handler: exit status 1");

    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let script = format!("(echo $CONSUL_INDEX; cat) >> {}", seen.display());
    let mut watch = node
        .command("watch -type=services sh -c")
        .arg(format!("'{script}'"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let lines = |count: usize| {
        let began = Instant::now();
        loop {
            let text = std::fs::read_to_string(&seen).unwrap_or_default();
            if text.lines().count() >= count {
                return text;
            }
            assert!(began.elapsed() < PATIENCE, "{text:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    assert!(lines(2).ends_with("{\"consul\":[]}\n"));
    node.check("services register -name=web", 0, "Registered service: web\n", "");
    let text = lines(4);
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(text.ends_with("{\"consul\":[],\"web\":[]}\n"), "{text:?}");
    let indexes: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(indexes.len() == 2 && indexes[0] < indexes[1], "{indexes:?}");
}

#[test]
fn a_node_that_is_away_is_named() {
    let mut node = Node::start();
    let address = node.address.clone();
    node.check("monitor -log-level=foo", 1, "", "Error starting monitor: Unexpected response code: 400");
    let mut daemon = node.daemon.take().unwrap();
    let (ask, asked) = tokio::sync::oneshot::channel();
    let (allow, allowed) = tokio::sync::oneshot::channel();
    let leaving = node.runtime.spawn(async move {
        daemon.ending().await;
        ask.send(()).unwrap();
        allowed.await.unwrap();
        daemon.stop(true).await;
    });
    let mut leave = node.command("leave").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    node.runtime.block_on(asked).unwrap();
    assert!(node.run("members").out.contains("alive"));
    assert!(leave.try_wait().unwrap().is_none(), "it was said to have left before it had");
    allow.send(()).unwrap();
    let said = Said::from(leave.wait_with_output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (0, "Graceful leave complete\n"), "{said:?}");
    // It has left by then, so nothing is waited for before the next command.
    let said = Said::from(
        Command::new(env!("CARGO_BIN_EXE_tribune"))
            .args(["members", "-http-addr", &address])
            .output()
            .unwrap(),
    );
    assert_eq!(said.code, 1);
    assert!(
        said.err.starts_with(&format!(
            "Error retrieving members: cannot connect to http://{address}: connection refused"
        )),
        "{said:?}"
    );
    node.runtime.block_on(leaving).unwrap();
}

#[test]
fn what_needs_no_node_works_without_one() {
    let run = |line: &str| {
        Said::from(Command::new(env!("CARGO_BIN_EXE_tribune")).args(line.split(' ')).output().unwrap())
    };
    let key = run("keygen");
    assert_eq!((key.code, key.out.len()), (0, 45), "32 bytes in base64 and a line feed: {key:?}");
    assert_ne!(key.out, run("keygen").out);
    assert_eq!(run("-v").out, run("version").out);
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&format!("completion {shell}"));
        assert!(script.code == 0 && script.out.contains("datacenters"), "{shell}: {}", script.err);
    }
    let unknown = run("acl token list");
    assert_eq!((unknown.code, unknown.out.as_str()), (127, ""));
    assert!(unknown.err.contains("not part of this version") && unknown.err.contains("\n    members "));
    assert_eq!(run("members -bogus").code, 1);
    assert_eq!(run("catalog").code, 1);
}

#[test]
fn keys_are_written_shown_carried_over_and_removed() {
    let node = Node::start();
    let folder = tempfile::tempdir().unwrap();
    node.check("kv put app/a 1", 0, "Success! Data written to: app/a\n", "");
    node.check("kv put -flags=7 app/b/c x", 0, "Success! Data written to: app/b/c\n", "");
    node.check("kv get app/a", 0, "1\n", "");
    node.check("kv get /app/a", 0, "1\n", "");
    node.check("kv get none", 1, "", "Error! No key exists at: none");
    node.check("kv get -keys app/", 0, "app/a\napp/b/\n", "");
    node.check("kv get -recurse -base64 app/", 0, "app/a:MQ==\napp/b/c:eA==\n", "");
    let detailed = node.run("kv get -detailed app/b/c");
    assert!(detailed.out.contains("\nFlags            7\n"), "{detailed:?}");
    node.check("kv put -cas -modify-index=1 app/a 2", 1, "", "Error! Did not write to app/a: CAS failed");
    node.check("kv put -acquire app/a 2", 1, "", "Error! Missing -session");
    let exported = node.run("kv export app/");
    assert!(exported.out.contains("\n\t\t\"flags\": 7,\n\t\t\"value\": \"eA==\"\n"), "{exported:?}");
    let file = write(folder.path(), "keys.json", &exported.out);
    node.check("kv delete -recurse app/", 0, "Success! Deleted keys with prefix: app/\n", "");
    node.check(
        &format!("kv import -prefix=copy/ @{file}"),
        0,
        "Imported: copy/app/a\nImported: copy/app/b/c\n",
        "",
    );
    node.check("kv delete copy/app/a", 0, "Success! Deleted key: copy/app/a\n", "");
    let watched = node.run("watch -type=key -key=copy/app/b/c");
    assert!(watched.out.starts_with("{\n    \"Key\": \"copy/app/b/c\",\n"), "{watched:?}");
    node.check("watch -type=keyprefix -prefix=none", 0, "null\n", "");
}

#[test]
fn a_program_runs_while_the_lock_is_held() {
    let node = Node::start();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = write(
        folder.path(),
        "work.sh",
        &format!("echo begin >> {0}; sleep 0.2; test $CONSUL_LOCK_HELD && echo end >> {0}", log.display()),
    );
    node.check("lock p", 1, "", "Key prefix and child command must be specified");
    node.check("lock -n=0 p true", 1, "", "Lock holder limit must be positive");
    node.check("lock -child-exit-code p false", 2, "", "");
    node.check("lock p false", 0, "", "");
    let together: Vec<_> =
        (0..3).map(|_| node.command(&format!("lock p sh {script}")).spawn().unwrap()).collect();
    for mut one in together {
        assert!(one.wait().unwrap().success());
    }
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "begin\nend\n".repeat(3));
    node.check("kv get -keys -separator= p", 0, "", "");

    // Two at once; the third waits for longer than it is given.
    let hold = || node.command("lock -n=2 s sleep 1000").spawn().unwrap();
    let mut holders = [hold(), hold()];
    node.until("kv get s/.lock", |said| said.out.matches("true").count() == 2);
    let refused = node.run("lock -n=2 -timeout=300ms s true");
    assert!(refused.err.contains("timeout during lock acquisition"), "{refused:?}");
    let conflict = node.run("lock -n=3 s true");
    assert!(conflict.err.contains("semaphore limit conflict (lock: 2, local: 3)"), "{conflict:?}");

    // A session that ends takes the lock from its holder, whose program is stopped.
    destroy_contenders(&node, "s/");
    for holder in &mut holders {
        assert!(!holder.wait().unwrap().success(), "a lock that was lost cannot be let go");
    }

    // Of a holder that was killed nothing stays once its session has ended.
    let mut killed = node.command("lock -n=2 t sleep 20").spawn().unwrap();
    node.until("kv get t/.lock", |said| said.out.contains("true"));
    killed.kill().unwrap();
    killed.wait().unwrap();
    destroy_contenders(&node, "t/");
    node.until("kv get -keys -separator= t/", |said| said.out == "t/.lock\n");
}

/// Ends the sessions of all that hold a semaphore or wait for it.
fn destroy_contenders(node: &Node, prefix: &str) {
    for line in node.run(&format!("kv get -recurse {prefix}")).out.lines() {
        let session = line.strip_prefix(prefix).and_then(|rest| rest.split(':').next()).unwrap().to_owned();
        if session != ".lock" {
            node.runtime.block_on(destroy(&node.address, &session));
        }
    }
}

async fn destroy(address: &str, session: &str) {
    let addresses = vec![address.parse().unwrap()];
    let client = tribune_client::Client::new(tribune_client::Config { addresses, ..Default::default() });
    client.unwrap().destroy_session(session).await.unwrap();
}
