//! Finds out where this node lies in the network and tells the catalog: from the round trips that are measured to
//! other nodes, and the places that those have told.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use tribune_core::coordinate::{Coordinate, Locator, Placed};
use tribune_core::{Authority, Command, Folded, Index, NodeName, Topic};
use tribune_raft::Replica;
use tribune_wan::Uplink;

/// Time between two looks at what was measured.
const ROUND_INTERVAL: Duration = Duration::from_secs(15);

/// Time before the first look: the node is not in the catalog before its leader has put it there.
const FIRST_ROUND: Duration = Duration::from_secs(3);

/// A place that has moved by less is not told: each telling is a write that all servers keep.
const MOVE_MIN: Duration = Duration::from_micros(500);

/// A node's name and the round trip to it.
pub(crate) type Measurement = (String, Duration);

/// Most peers whose places a client agent asks for in one round.
const PEERS_ASKED_MAX: usize = 8;

/// Where places are looked up and told.
pub(crate) enum Map {
    /// A server has all of them.
    Held(Replica),
    /// A client agent asks for one after the other.
    Asked(Uplink),
}

impl Map {
    /// Where a node lies, as far as it has told; a reason when nobody could be asked.
    async fn place(&self, node: &str) -> Result<Option<Coordinate>, String> {
        let key = Folded::new(node);
        let asked = match self {
            Self::Held(replica) => return Ok(replica.state().coordinate(key.as_str()).copied()),
            Self::Asked(uplink) => uplink.changed(&Topic::Node(key.clone()), Index(0), Duration::ZERO).await,
        };
        let slice = asked.map_err(|error| error.to_string())?;
        Ok(slice.state.coordinate(key.as_str()).copied())
    }

    async fn tell(&self, placed: Placed) -> Result<(), String> {
        let command = Command::PutCoordinates(vec![placed]);
        let told = match self {
            Self::Held(replica) => {
                let told = replica.propose(&Authority::unrestricted(), command).await;
                told.map_err(|error| error.to_string())
            }
            Self::Asked(uplink) => uplink.propose(&command).await.map_err(|error| error.to_string()),
        };
        told.map(drop)
    }

    /// Those of the measured peers that are looked at in this round: all where that costs nothing.
    fn pick<'m>(&self, measured: &'m [Measurement], chance: u64) -> Vec<&'m Measurement> {
        let most = match self {
            Self::Held(_) => usize::MAX,
            Self::Asked(_) => PEERS_ASKED_MAX,
        };
        let start = usize::try_from(chance % measured.len().max(1) as u64).unwrap_or(0);
        measured.iter().cycle().skip(start).take(measured.len().min(most)).collect()
    }
}

/// The surveyor of this node.
pub(crate) struct Surveyor {
    map: Map,
    node: NodeName,
    /// `None` until it is known where the catalog has the node.
    locator: Option<Locator>,
}

impl Surveyor {
    /// A surveyor that goes on from where the catalog has the node.
    pub(crate) fn new(map: Map, node: NodeName) -> Self {
        Self { map, node, locator: None }
    }

    /// Looks at what `measured` gives from time to time, until `stop`.
    pub(crate) async fn run(
        mut self,
        measured: impl Fn() -> Vec<Measurement> + Send,
        stop: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval_at(Instant::now() + FIRST_ROUND, ROUND_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.round(&measured(), rand::random()).await,
            }
        }
    }

    /// What could not be asked or told is left to the next round.
    async fn round(&mut self, measured: &[Measurement], chance: u64) {
        if let Err(error) = self.look(measured, chance).await {
            debug!(error, "this node's place in the network could not be found out or told");
        }
    }

    async fn look(&mut self, measured: &[Measurement], chance: u64) -> Result<(), String> {
        let told = self.map.place(self.node.as_str()).await?;
        let locator = self.locator.get_or_insert_with(|| told.map(Locator::at).unwrap_or_default());
        locator.keep_peers(|peer| measured.iter().any(|(node, _)| node == peer));
        for (number, (node, round_trip)) in self.map.pick(measured, chance).into_iter().enumerate() {
            if let Some(place) = self.map.place(node).await? {
                locator.measured(node, &place, *round_trip, chance.wrapping_add(number as u64));
            }
        }
        let coordinate = locator.place();
        if told.is_some_and(|told| !has_moved(&told, &coordinate)) {
            return Ok(());
        }
        self.map.tell(Placed { node: self.node.clone(), coordinate }).await
    }
}

fn has_moved(from: &Coordinate, to: &Coordinate) -> bool {
    let least = MOVE_MIN.as_secs_f64();
    let parts = from.vec.iter().zip(&to.vec);
    let others = [(&from.height, &to.height), (&from.adjustment, &to.adjustment)];
    parts.chain(others).any(|(from, to)| (from - to).abs() >= least)
}

#[cfg(test)]
mod tests {
    use tribune_core::{Node, Pairs, Registration};
    use tribune_raft::{Config, ServerInfo, Storage};

    use super::*;

    async fn replica() -> Replica {
        let name = NodeName::new("n1").unwrap();
        let address = "127.0.0.1:8300".parse().unwrap();
        let server = ServerInfo { id: "id".to_owned(), name, address };
        let replica = Replica::start(Config { bootstrap: true, ..Config::new(Storage::Memory, server) });
        replica.await.unwrap()
    }

    async fn register(replica: &Replica, name: &str) {
        let node = Node {
            name: NodeName::new(name).unwrap(),
            id: "".into(),
            address: "10.0.0.1".into(),
            tagged_addresses: Pairs::default(),
            meta: Pairs::default(),
        };
        let registration = Registration { node, skip_node_update: false, service: None, checks: Vec::new() };
        let command = Command::Register(Box::new(registration));
        replica.propose(&Authority::unrestricted(), command).await.unwrap();
    }

    #[tokio::test]
    async fn two_nodes_come_to_know_how_far_they_are() {
        let replica = replica().await;
        for name in ["n1", "n2"] {
            register(&replica, name).await;
        }
        let surveyor = |name: &str| Surveyor::new(Map::Held(replica.clone()), NodeName::new(name).unwrap());
        let (mut first, mut second) = (surveyor("n1"), surveyor("n2"));
        for chance in 0..200 {
            first.round(&[("n2".to_owned(), Duration::from_millis(40))], chance).await;
            second.round(&[("n1".to_owned(), Duration::from_millis(40))], chance + 1000).await;
        }
        let state = replica.state();
        let distance = state.coordinate("n1").unwrap().distance(state.coordinate("n2").unwrap());
        assert!((30..50).contains(&distance.as_millis()), "{distance:?}");
        // What does not move is not told again.
        let index = state.index();
        let place = *state.coordinate("n1").unwrap();
        let mut again = surveyor("n1");
        again.round(&[], 7).await;
        assert_eq!(replica.state().coordinate("n1"), Some(&place));
        assert_eq!(replica.state().index(), index);
        replica.shutdown().await;
    }
}
