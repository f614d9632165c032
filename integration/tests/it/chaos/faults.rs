//! What happens to the servers during a storm.

use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::IndexedRandom;
use tribune_integration::{Network, TestCluster};

use super::SERVERS;

/// The shortest and the longest fault; the shortest is about an election timeout.
const FAULT_MS: std::ops::Range<u64> = 300..3000;
/// Peace between two faults.
const PEACE_MS: std::ops::Range<u64> = 200..1500;

/// Does one thing after the other to a datacenter and undoes it.
pub(super) struct Faults<'a> {
    cluster: &'a mut TestCluster,
    network: Option<&'a Network>,
    seen: Vec<String>,
    started: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// `kill -9` and a new start.
    Kill,
    /// SIGSTOP and SIGCONT: the process does not notice.
    Pause,
    /// Nothing passes between one server and the others.
    Isolate,
    /// The server hears nothing but is heard.
    Deafen,
    /// The server is not heard but hears.
    Mute,
    /// The link between two servers is cut; both reach the third.
    CutOne,
    /// A third of all packets between all servers is lost.
    Thin,
}

impl<'a> Faults<'a> {
    pub(super) fn new(cluster: &'a mut TestCluster, network: Option<&'a Network>) -> Self {
        Self { cluster, network, seen: Vec::new(), started: Instant::now() }
    }

    /// Faults for so long; at the end all servers run, reach each other and follow one leader.
    pub(super) fn happen(&mut self, length: Duration) {
        let kinds: &[_] = match self.network {
            Some(_) => &[
                Fault::Kill,
                Fault::Pause,
                Fault::Isolate,
                Fault::Deafen,
                Fault::Mute,
                Fault::CutOne,
                Fault::Thin,
            ],
            None => &[Fault::Kill, Fault::Pause],
        };
        let mut random = rand::rng();
        while self.started.elapsed() < length {
            let fault = *kinds.choose(&mut random).unwrap();
            // The leader is where faults hurt.
            let leader = self.cluster.leader().ok().filter(|_| random.random_bool(0.6));
            let victim = leader.unwrap_or_else(|| random.random_range(0..SERVERS));
            self.one(fault, victim, Duration::from_millis(random.random_range(FAULT_MS)));
            thread::sleep(Duration::from_millis(random.random_range(PEACE_MS)));
        }
        self.cluster.wait_formed().unwrap();
    }

    /// What happened, for messages.
    pub(super) fn seen(&self) -> &[String] {
        &self.seen
    }

    fn one(&mut self, fault: Fault, victim: usize, length: Duration) {
        let at = self.started.elapsed().as_millis();
        self.seen.push(format!("{at} ms: {fault:?} of server {victim} for {} ms", length.as_millis()));
        match fault {
            Fault::Kill => {
                self.cluster.kill(victim).unwrap();
                thread::sleep(length);
                self.cluster.restart(victim).unwrap();
            }
            Fault::Pause => {
                self.cluster.pause(victim).unwrap();
                thread::sleep(length);
                self.cluster.resume(victim).unwrap();
            }
            _ => {
                let network = self.network.unwrap();
                self.cut(network, fault, victim);
                thread::sleep(length);
                network.heal().unwrap();
            }
        }
    }

    fn cut(&self, network: &Network, fault: Fault, victim: usize) {
        let others: Vec<_> = (0..SERVERS).filter(|server| *server != victim).collect();
        match fault {
            Fault::Isolate => network.part(&[victim], &others).unwrap(),
            Fault::Deafen => others.iter().for_each(|other| network.cut_one_way(*other, victim).unwrap()),
            Fault::Mute => others.iter().for_each(|other| network.cut_one_way(victim, *other).unwrap()),
            Fault::CutOne => network.cut(victim, others[0]).unwrap(),
            Fault::Thin => {
                for (from, to) in (0..SERVERS).flat_map(|from| (0..SERVERS).map(move |to| (from, to))) {
                    if from != to {
                        network.lose(from, to, 33).unwrap();
                    }
                }
            }
            Fault::Kill | Fault::Pause => {}
        }
    }
}
