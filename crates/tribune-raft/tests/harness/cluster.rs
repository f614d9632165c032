//! Several replicas on one fabric.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;
use tribune_core::{Authority, Command, Datacenter, NodeName, Outcome};
use tribune_raft::fabric::Fabric;
use tribune_raft::{Config, Error, Replica, ServerInfo, Storage};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    pub(crate) fabric: Fabric,
    pub(crate) running: BTreeMap<String, Replica>,
    directories: BTreeMap<String, TempDir>,
    adjust: fn(Config) -> Config,
}

pub(crate) fn server(number: usize) -> ServerInfo {
    let name = NodeName::new(format!("server-{number}")).unwrap();
    ServerInfo { id: id(number), name, address: ([127, 0, 0, 1], 8300 + number as u16).into() }
}

pub(crate) fn id(number: usize) -> String {
    format!("5b9a9c9e-0000-4000-8000-{number:012}")
}

impl Cluster {
    /// Founds a cluster of servers 1 to `count`.
    pub(crate) async fn found(count: usize) -> Self {
        Self::found_with(count, |config| config).await
    }

    pub(crate) async fn found_with(count: usize, adjust: fn(Config) -> Config) -> Self {
        let mut cluster =
            Self { fabric: Fabric::new(1), running: BTreeMap::new(), directories: BTreeMap::new(), adjust };
        let servers: Vec<_> = (1..=count).map(server).collect();
        for number in 1..=count {
            cluster.start(number).await;
        }
        for number in 1..=count {
            let founded = cluster.get(number).admin().bootstrap(&servers).await;
            assert!(matches!(founded, Ok(()) | Err(tribune_raft::AdminError::Initialised)), "{founded:?}");
        }
        cluster.leader().await;
        cluster
    }

    pub(crate) fn config(&mut self, number: usize) -> Config {
        let info = server(number);
        let directory =
            self.directories.entry(info.id.clone()).or_insert_with(|| tempfile::tempdir().unwrap());
        let storage = Storage::Directory(directory.path().join("raft"));
        let transport = self.fabric.transport(&info.id);
        (self.adjust)(Config { transport, ..Config::new(storage, info) })
    }

    /// Starts a server, with the data it had.
    pub(crate) async fn start(&mut self, number: usize) -> Replica {
        let config = self.config(number);
        let replica = Replica::start(config).await.unwrap();
        self.fabric.connect(&id(number), &replica);
        self.running.insert(id(number), replica.clone());
        replica
    }

    /// Where the server keeps its data.
    pub(crate) fn directory(&self, number: usize) -> PathBuf {
        self.directories[&id(number)].path().join("raft")
    }

    /// Starts a server on another network.
    pub(crate) async fn start_as(
        &mut self,
        number: usize,
        fabric: &Fabric,
        datacenter: Datacenter,
    ) -> Replica {
        let transport = fabric.transport(&id(number));
        let config = Config { transport, datacenter, ..self.config(number) };
        Replica::start(config).await.unwrap()
    }

    /// Ends a server without a farewell.
    pub(crate) async fn kill(&mut self, number: usize) {
        let replica = self.running.remove(&id(number)).unwrap();
        self.fabric.disconnect(&id(number));
        replica.kill().await;
    }

    pub(crate) async fn stop(&mut self, number: usize) {
        let replica = self.running.remove(&id(number)).unwrap();
        replica.shutdown().await;
        self.fabric.disconnect(&id(number));
    }

    pub(crate) fn get(&self, number: usize) -> &Replica {
        &self.running[&id(number)]
    }

    /// The number of the server that all running members take for their leader, once it hears from them.
    pub(crate) async fn leader(&self) -> usize {
        self.leader_among(&self.numbers()).await
    }

    pub(crate) async fn leader_among(&self, numbers: &[usize]) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let is_member = |number: &&usize| {
                self.get(**number).cluster().servers.iter().any(|one| one.server.id == id(**number))
            };
            let members: Vec<usize> = numbers.iter().filter(is_member).copied().collect();
            let known: Vec<_> = members.iter().map(|number| self.get(*number).cluster().leader).collect();
            if let Some(Some(first)) = known.first()
                && known.iter().all(|leader| leader.as_ref() == Some(first))
                && members.contains(&number(&first.id))
                && self.is_heard(number(&first.id), &members).await
            {
                return number(&first.id);
            }
            assert!(Instant::now() < deadline, "no leader: {known:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether this server leads and all those have answered it lately.
    async fn is_heard(&self, leader: usize, members: &[usize]) -> bool {
        let replica = self.get(leader);
        if !replica.cluster().is_leader {
            return false;
        }
        let Ok(progress) = replica.admin().progress().await else { return false };
        members.iter().all(|member| {
            let one = progress.iter().find(|one| one.server.id == id(*member));
            one.is_some_and(|one| one.last_contact.is_some_and(|ago| ago < Duration::from_secs(1)))
        })
    }

    pub(crate) fn numbers(&self) -> Vec<usize> {
        self.running.keys().map(|id| number(id)).collect()
    }

    /// Some running server that does not lead.
    pub(crate) async fn follower(&self) -> usize {
        let leader = self.leader().await;
        self.numbers().into_iter().find(|number| *number != leader).unwrap()
    }

    pub(crate) async fn end(self) {
        let ends = self.running.values().map(Replica::kill);
        futures::future::join_all(ends).await;
    }
}

pub(crate) fn number(id: &str) -> usize {
    id.rsplit('-').next().unwrap().parse().unwrap()
}

pub(crate) async fn try_propose(replica: &Replica, command: Command) -> Result<Outcome, Error> {
    replica.propose(&Authority::unrestricted(), command).await
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
