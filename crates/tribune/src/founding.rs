//! How servers without data come to have a datacenter together (`bootstrap_expect`).
//!
//! Each waits until as many servers as expected are among the members. The one with the lowest id then asks the
//! others for their word; a server gives it to one founder at a time and not at all once it has a datacenter. With
//! everybody's word the founder makes the datacenter, of which all of them are voters. So two groups can never be
//! founded by servers that see different members.

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use tribune_gossip::{Member, Pool, Status};
use tribune_raft::{Replica, ServerInfo};

use crate::daemon::{Caller, FOUND_PATH};
use crate::membership;

/// How long a word that was given binds: longer than a founder takes to ask everybody.
const WORD_BINDS: Duration = Duration::from_secs(10);
/// Time between two looks at the members while the datacenter is not there.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How long a server may take to give its word.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Asks a server for its word.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// Id of the server that wants to found the datacenter.
    pub(crate) founder: String,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// It will not found a datacenter with anybody else for a while.
    Given,
    /// It has given its word to another one.
    Bound {
        /// Id of that one.
        founder: String,
    },
    /// It has a datacenter already.
    Settled,
}

/// The word of this server.
#[derive(Debug, Default)]
pub(crate) struct Promise(Mutex<Option<(String, Instant)>>);

impl Promise {
    /// Answers a founder.
    pub(crate) fn answer(&self, proposal: &Proposal, replica: &Replica) -> Word {
        if has_datacenter(replica) {
            return Word::Settled;
        }
        self.give(&proposal.founder, Instant::now())
    }

    fn give(&self, founder: &str, now: Instant) -> Word {
        let mut given = self.0.lock();
        match &*given {
            Some((other, at)) if other != founder && now.duration_since(*at) < WORD_BINDS => {
                Word::Bound { founder: other.clone() }
            }
            _ => {
                *given = Some((founder.to_owned(), now));
                Word::Given
            }
        }
    }
}

/// A server that waits for its datacenter.
pub(crate) struct Founder<'a> {
    pub(crate) own: ServerInfo,
    pub(crate) expected: usize,
    pub(crate) replica: &'a Replica,
    pub(crate) pool: &'a Pool,
    pub(crate) promise: &'a Promise,
    pub(crate) caller: &'a Caller,
}

impl Founder<'_> {
    /// Returns as soon as this server has a datacenter, founded by it or by another one.
    pub(crate) async fn wait(&self) {
        let mut told = 0;
        while !has_datacenter(self.replica) {
            let servers = self.servers();
            if servers.len() != told {
                told = servers.len();
                info!(
                    expected = self.expected,
                    found = told,
                    "waiting for the servers that found the datacenter"
                );
            }
            if servers.len() >= self.expected && servers.iter().all(|server| self.own.id <= server.id) {
                self.try_to_found(&servers).await;
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// The living servers that expect the same number, this one included.
    fn servers(&self) -> Vec<ServerInfo> {
        let expected = self.expected.to_string();
        let founds = |member: &&Member| {
            member.status == Status::Alive
                && membership::is_server(member)
                && member.tags.get("expect") == Some(&expected)
        };
        self.pool.members().iter().filter(founds).filter_map(membership::server_info).collect()
    }

    async fn try_to_found(&self, servers: &[ServerInfo]) {
        let begun = Instant::now();
        let proposal = Proposal { founder: self.own.id.clone() };
        for server in servers {
            let word = if server.id == self.own.id {
                Ok(self.promise.answer(&proposal, self.replica))
            } else {
                self.caller.ask(server.address, FOUND_PATH, &proposal, Instant::now() + ANSWER_TIME).await
            };
            match word {
                Ok(Word::Given) => {}
                Ok(Word::Bound { founder }) => {
                    return info!(server = %server.name, %founder, "a server founds the datacenter with another one");
                }
                Ok(Word::Settled) => {
                    return info!(server = %server.name, "a datacenter is there already; waiting to be taken in");
                }
                Err(error) => {
                    return warn!(server = %server.name, %error, "a server does not answer, so the datacenter cannot be founded yet");
                }
            }
        }
        if begun.elapsed() > WORD_BINDS / 2 {
            return warn!("the servers took too long to give their word; asking again");
        }
        match self.replica.admin().bootstrap(servers).await {
            Ok(()) => info!(servers = servers.len(), "founded the datacenter"),
            Err(error) => warn!(%error, "the datacenter could not be founded"),
        }
    }
}

/// Whether a server is part of a datacenter.
fn has_datacenter(replica: &Replica) -> bool {
    !replica.cluster().servers.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_word_binds_to_one_founder_at_a_time() {
        let promise = Promise::default();
        let begun = Instant::now();
        assert_eq!(promise.give("a", begun), Word::Given);
        assert_eq!(promise.give("b", begun), Word::Bound { founder: "a".to_owned() });
        assert_eq!(promise.give("a", begun + WORD_BINDS / 2), Word::Given);
        assert_eq!(promise.give("b", begun + WORD_BINDS), Word::Bound { founder: "a".to_owned() });
        assert_eq!(promise.give("b", begun + WORD_BINDS * 2), Word::Given);
    }
}
