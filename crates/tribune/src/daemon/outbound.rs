//! For servers that can only dial out (behind NAT, or a firewall that lets nothing in): a connection that they open
//! to another datacenter carries that datacenter's requests back to them.
//!
//! Datacenters that reach each other gossip every few seconds. One from which nothing arrives here may not be able to
//! reach this server: then connections are opened to its servers and served, for as long as they last.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tracing::{debug, info};
use tribune_core::Datacenter;
use tribune_gossip::{Member, Pool, Status};
use tribune_net::{Dialer, Endpoint};

use super::gate::Gate;

/// After so much silence a datacenter cannot reach this server: several rounds of gossip.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Time between two looks at who is silent.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Most connections that are held open.
const ROADS_MAX: usize = 256;

/// When something last arrived from each datacenter. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrivals(Arc<Mutex<HashMap<Datacenter, Instant>>>);

impl Arrivals {
    /// Notes a request of a datacenter.
    pub(super) fn note(&self, from: &Datacenter) {
        self.0.lock().insert(from.clone(), Instant::now());
    }

    fn last(&self, from: &Datacenter) -> Option<Instant> {
        self.0.lock().get(from).copied()
    }
}

/// Opens and serves the connections.
pub(super) struct Outbound {
    pub(super) own: Datacenter,
    pub(super) pool: Pool,
    pub(super) dialer: Dialer,
    pub(super) gate: Gate,
    pub(super) arrivals: Arrivals,
}

impl Outbound {
    /// Looks after silent datacenters; does not end. What it has opened ends when this is dropped.
    pub(super) async fn run(self) {
        let mut roads: HashMap<Endpoint, AbortHandle> = HashMap::new();
        let mut keepers = JoinSet::new();
        let mut known_since: HashMap<Datacenter, Instant> = HashMap::new();
        loop {
            sleep(LOOK_INTERVAL).await;
            while keepers.try_join_next().is_some() {}
            let known = self.known();
            known_since.retain(|datacenter, _| known.iter().any(|it| it.datacenter == *datacenter));
            roads.retain(|endpoint, keeper| {
                let stays = known.contains(endpoint);
                if !stays {
                    keeper.abort();
                }
                stays
            });
            for endpoint in known {
                let since = *known_since.entry(endpoint.datacenter.clone()).or_insert_with(Instant::now);
                let heard = self.arrivals.last(&endpoint.datacenter).map_or(since, |last| last.max(since));
                let is_silent = heard.elapsed() >= SILENCE_MAX;
                if is_silent && roads.len() < ROADS_MAX && !roads.contains_key(&endpoint) {
                    let keeper =
                        keepers.spawn(keep(self.dialer.clone(), endpoint.clone(), self.gate.clone()));
                    roads.insert(endpoint, keeper);
                }
            }
        }
    }

    /// The servers of other datacenters. One that cannot answer this server's probes counts as failed here, though
    /// it may well be reached.
    fn known(&self) -> HashSet<Endpoint> {
        let members = self.pool.members();
        let others = members.iter().filter(|member| {
            member.datacenter != self.own && matches!(member.status, Status::Alive | Status::Failed)
        });
        let endpoint =
            |member: &Member| Endpoint { address: member.address, datacenter: member.datacenter.clone() };
        others.map(endpoint).collect()
    }
}

/// Keeps a connection open; one that ends is opened again after a while.
async fn keep(dialer: Dialer, endpoint: Endpoint, gate: Gate) {
    loop {
        match dialer.reverse(&endpoint).await {
            Ok(road) => {
                info!(%endpoint, "that datacenter does not reach this server; opened a connection for its requests");
                if let Err(error) = road.serve(gate.clone(), std::future::pending()).await {
                    debug!(%endpoint, %error, "a connection for requests of another datacenter ended");
                }
            }
            Err(error) => debug!(%endpoint, %error, "no connection for requests of another datacenter"),
        }
        sleep(LOOK_INTERVAL.mul_f64(1.0 + rand::random::<f64>())).await;
    }
}
