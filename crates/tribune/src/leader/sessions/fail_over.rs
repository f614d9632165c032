//! Sessions while leading goes from server to server, and the planted fault that only this finds. A fault is planted
//! for a whole process, so the scene runs in a child.

use std::process::{Command as Child, Output};

use tribune_core::{Behavior, Node, NodeName, Registration, Session};
use tribune_raft::fabric::Fabric;
use tribune_raft::faults::Finder;
use tribune_raft::simulation::{Disk, fix_chance};
use tribune_raft::{Config, ServerInfo, Storage};

use super::*;

const FAULT: &str = "TRIBUNE_PLANTED_FAULT";
const PATIENCE: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(10);
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);

fn run(scene: &str, fault: Option<Fault>) -> (bool, String) {
    let mut child = Child::new(std::env::current_exe().unwrap());
    child.args(["--exact", &format!("leader::sessions::fail_over::{scene}"), "--nocapture"]);
    child.env(FAULT, fault.map_or_else(|| "none".to_owned(), |fault| format!("{fault:?}")));
    let Output { status, stdout, stderr } = child.output().unwrap();
    assert!(String::from_utf8_lossy(&stdout).contains("running 1 test"), "there is no {scene}");
    (status.success(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn planted_faults_are_found_in_their_scenes() {
    if std::env::var(FAULT).is_ok() {
        return;
    }
    let mut checked = 0;
    for fault in Fault::ALL {
        let Finder::Duties(scene) = fault.found_by() else { continue };
        let (passed, text) = run(scene, None);
        assert!(passed, "{text}");
        let (passed, text) = run(scene, Some(fault));
        assert!(!passed, "{fault:?} was not found by {scene}");
        assert!(text.contains("FOUND"), "{scene} fails for another reason: {text}");
        checked += 1;
    }
    assert!(checked > 0);
}

fn info(number: usize) -> ServerInfo {
    let name = NodeName::new(format!("server-{number}")).unwrap();
    ServerInfo { id: format!("id-{number}"), name, address: ([127, 0, 0, 1], 8300 + number as u16).into() }
}

/// Three servers that keep sessions, on simulated disks and a clock that jumps.
struct Datacenter {
    replicas: Vec<Replica>,
    duties: Vec<tokio::task::JoinHandle<()>>,
    stop: CancellationToken,
}

impl Datacenter {
    async fn found() -> Self {
        fix_chance(1);
        let (fabric, stop) = (Fabric::new(1), CancellationToken::new());
        let (mut replicas, mut duties) = (Vec::new(), Vec::new());
        for number in 0..3 {
            let transport = fabric.transport(&info(number).id);
            let storage = Storage::Simulated(Disk::new(number as u64));
            let config = Config { transport, ..Config::new(storage, info(number)) };
            let replica = Replica::start(config).await.unwrap();
            fabric.connect(&info(number).id, &replica);
            duties.push(tokio::spawn(Sessions::new(replica.clone()).run(stop.clone())));
            replicas.push(replica);
        }
        let servers: Vec<_> = (0..3).map(info).collect();
        replicas[0].admin().bootstrap(&servers).await.unwrap();
        Self { replicas, duties, stop }
    }

    async fn propose(&self, command: Command) {
        let outcome = self.replicas[0].propose(&Authority::unrestricted(), command).await.unwrap();
        assert!(outcome.changes(), "{outcome:?}");
    }

    async fn create_session(&self) -> SessionId {
        let name = NodeName::new("n").unwrap();
        let (tagged_addresses, meta) = Default::default();
        let node =
            Node { name: name.clone(), id: "".into(), address: "1.1.1.1".into(), tagged_addresses, meta };
        let registration = Registration { node, skip_node_update: false, service: None, checks: vec![] };
        self.propose(Command::Register(Box::new(registration))).await;
        let id = SessionId::new("00000000-0000-0000-0000-000000000001").unwrap();
        let session = Session {
            id: id.clone(),
            name: "".into(),
            node: name,
            lock_delay: Duration::ZERO,
            behavior: Behavior::Release,
            ttl: Some(TTL),
            ttl_text: "10s".into(),
            node_checks: None,
            service_checks: None,
        };
        self.propose(Command::Session(Box::new(SessionChange::Create(session)))).await;
        id
    }

    /// Has this server lead.
    async fn lead(&self, place: usize) {
        let begun = Instant::now();
        while !self.replicas[place].cluster().is_leader {
            assert!(begun.elapsed() < PATIENCE, "server {place} does not lead");
            // It may lead already by the time this is asked.
            let _ = self.replicas[0].admin().transfer_leader(Some(&info(place).id)).await;
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Renews a session often for as long as this; it must be there all the while.
    async fn renew(&self, id: &SessionId, span: Duration) {
        let begun = Instant::now();
        let mut renewed = begun;
        while begun.elapsed() < span {
            let answer = self.replicas[0].ask_leader(Renewal::question(id).into()).await;
            match answer.as_ref().map(|word| Renewal::from_word(word)) {
                Ok(Some(Renewal::Renewed)) => renewed = Instant::now(),
                Ok(other) => {
                    panic!("FOUND: a session was renewed {:?} ago and now: {other:?}", renewed.elapsed())
                }
                // A leader that has only just begun; there is time until the session would end.
                Err(_) => assert!(renewed.elapsed() < TTL, "no renewal is answered"),
            }
            let state = self.replicas[0].read(Consistency::Default).await.unwrap();
            let is_there = state.view(&Authority::unrestricted()).session(id).is_some();
            assert!(is_there, "FOUND: a session ended {:?} after its renewal", renewed.elapsed());
            sleep(RENEWAL_PAUSE).await;
        }
    }

    async fn end(self) {
        self.stop.cancel();
        for duty in self.duties {
            duty.await.unwrap();
        }
        for replica in &self.replicas {
            replica.kill().await;
        }
    }
}

/// What a server measured when it led before says nothing about sessions that another leader has renewed since.
#[tokio::test(start_paused = true)]
async fn scene_of_a_leader_that_leads_again() {
    let Ok(name) = std::env::var(FAULT) else { return };
    if let Some(fault) = Fault::named(&name) {
        fault.plant();
    }
    let datacenter = Datacenter::found().await;
    datacenter.lead(0).await;
    let id = datacenter.create_session().await;
    datacenter.renew(&id, TTL).await;
    for leader in [1, 2, 0, 2] {
        datacenter.lead(leader).await;
        datacenter.renew(&id, TTL * 3).await;
    }
    datacenter.end().await;
}
