//! A replica with data, for tests.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::time::Duration;

use tribune_core::{
    Authority, Behavior, Blob, Check, CheckId, Command, Deregistration, InstanceId, KvChange, KvKey, KvPut,
    Node, NodeName, Outcome, PutMode, Registration, ServiceInstance, ServiceName, Session, SessionChange,
    SessionId, Status, Target, Weights,
};
use tribune_raft::{Config, Replica, ServerInfo, Storage};

pub(crate) const SERVER: &str = "5b9a9c9e-0000-4000-8000-000000000001";

pub(crate) fn config(storage: &Storage) -> Config {
    let name = NodeName::new("server-1").unwrap();
    let server = ServerInfo { id: SERVER.into(), name, address: "127.0.0.1:8300".parse().unwrap() };
    Config { bootstrap: true, ..Config::new(storage.clone(), server) }
}

pub(crate) async fn start(storage: &Storage) -> Replica {
    Replica::start(config(storage)).await.unwrap()
}

pub(crate) async fn propose(replica: &Replica, command: Command) -> Outcome {
    replica.propose(&Authority::unrestricted(), command).await.unwrap()
}

pub(crate) fn instance_id(service: &str) -> InstanceId {
    InstanceId::new(format!("{service}-1")).unwrap()
}

fn node(number: u32) -> Node {
    Node {
        name: NodeName::new(format!("node-{number}")).unwrap(),
        id: "".into(),
        address: "10.0.0.1".into(),
        tagged_addresses: Default::default(),
        meta: Default::default(),
    }
}

pub(crate) fn register(number: u32, service: &str) -> Command {
    let instance = ServiceInstance {
        id: instance_id(service),
        name: ServiceName::new(service).unwrap(),
        tags: ["primary".into(), "v1".into()].into(),
        address: "10.0.0.2".into(),
        tagged_addresses: Default::default(),
        meta: Default::default(),
        port: 8080,
        socket_path: "".into(),
        weights: Weights::default(),
        enable_tag_override: false,
        connect_native: false,
    };
    let service = Some(instance);
    Command::Register(Box::new(Registration {
        node: node(number),
        skip_node_update: false,
        service,
        checks: vec![],
    }))
}

pub(crate) fn register_with_meta(number: u32, service: &str, text: &str) -> Command {
    let mut command = register(number, service);
    if let Command::Register(registration) = &mut command {
        registration.node.meta = [("text".into(), text.into())].into_iter().collect();
    }
    command
}

pub(crate) fn put_key(key: &str, value: impl Into<Vec<u8>>) -> Command {
    let (key, value) = (KvKey::new(key).unwrap(), Blob::from(value.into()));
    let put = KvPut { key, value, flags: 0, mode: PutMode::Always };
    Command::Kv(Box::new(KvChange::Put(put)))
}

pub(crate) fn session_id(number: u32) -> SessionId {
    SessionId::new(&format!("00000000-0000-0000-0000-{number:012}")).unwrap()
}

/// A session with a time to live, on the node of this number.
pub(crate) fn create_session(id: u32, on: u32) -> Command {
    let session = Session {
        id: session_id(id),
        name: "".into(),
        node: node(on).name,
        lock_delay: Duration::ZERO,
        behavior: Behavior::Release,
        ttl: Some(Duration::from_secs(10)),
        ttl_text: "10s".into(),
        node_checks: None,
        service_checks: None,
    };
    change_sessions(SessionChange::Create(session))
}

pub(crate) fn change_sessions(change: SessionChange) -> Command {
    Command::Session(Box::new(change))
}

pub(crate) fn check_of_nobody() -> Command {
    let check = Check {
        id: CheckId::new("alive").unwrap(),
        name: "alive".into(),
        status: Status::Passing,
        notes: "".into(),
        output: "".into(),
        service_id: Some(instance_id("nobody")),
        kind: "ttl".into(),
        definition: None,
        interval: "".into(),
        timeout: "".into(),
    };
    Command::Register(Box::new(Registration {
        node: node(1),
        skip_node_update: false,
        service: None,
        checks: vec![check],
    }))
}

pub(crate) fn deregister(number: u32) -> Command {
    Command::Deregister(Deregistration { node: node(number).name, target: Target::Node })
}

pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
