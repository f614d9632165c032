//! From committed entries to the published state.
//!
//! One writer applies batches to its own copy of the state (a clone costs nothing), publishes it once per batch,
//! answers the proposers, and then wakes those who wait for what changed. Whoever is answered or woken therefore
//! finds the change already published.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use futures::{Stream, TryStreamExt};
use openraft::alias::SnapshotOf;
use openraft::storage::{ApplyResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::watch;
use tribune_core::{Index, Outcome, State, Topic};

use crate::published::Published;
use crate::snapshot::{SnapshotBuilder, Snapshots};
use crate::types::{Entry, LogId, Proposal, Reply, SnapshotMeta, StoredMembership, TypeConfig};
use crate::watches::Watches;

/// The state machine of one replica.
#[derive(Debug)]
pub(crate) struct Machine {
    state: State,
    applied: Option<LogId>,
    membership: StoredMembership,
    published: Published,
    watches: Arc<Watches>,
    /// Told the term of the newest entry applied, whenever it is another one.
    applied_term: watch::Sender<u64>,
    snapshots: Arc<Snapshots>,
}

/// A snapshot in memory: a state that costs nothing to hold.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotHandle(pub(crate) State);

impl Machine {
    pub(crate) fn new(
        published: Published,
        watches: Arc<Watches>,
        applied_term: watch::Sender<u64>,
        snapshots: Arc<Snapshots>,
    ) -> Self {
        Self {
            state: State::default(),
            applied: None,
            membership: StoredMembership::default(),
            published,
            watches,
            applied_term,
            snapshots,
        }
    }

    /// Applies one entry; its outcome, if it was a command.
    fn apply_entry(&mut self, entry: Entry, touched: &mut BTreeSet<Topic>) -> Option<Outcome> {
        let index = Index(entry.log_id.index);
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Normal(Proposal(command)) => {
                let effect = self.state.apply(index, &command);
                touched.extend(effect.touched);
                Some(effect.outcome)
            }
            EntryPayload::Blank => {
                self.state.advance(index);
                None
            }
            EntryPayload::Membership(membership) => {
                self.state.advance(index);
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                None
            }
        }
    }

    fn tell_term(&self) {
        let term = self.applied.map_or(0, |id| id.committed_leader_id().term);
        self.applied_term.send_if_modified(|told| std::mem::replace(told, term) != term);
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }

    fn builder(&self) -> SnapshotBuilder {
        SnapshotBuilder::new(self.snapshots.clone(), self.meta(), self.state.clone())
    }
}

type Answer = (ApplyResponder<TypeConfig>, Reply);

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<(Entry, Option<ApplyResponder<TypeConfig>>), io::Error>>
            + Unpin
            + OptionalSend,
    {
        let begun = Instant::now();
        let mut touched = BTreeSet::new();
        let mut answers: Vec<Answer> = Vec::new();
        while let Some((entry, responder)) = entries.try_next().await? {
            let reply = Reply(self.apply_entry(entry, &mut touched));
            answers.extend(responder.map(|responder| (responder, reply)));
        }
        self.published.store(self.state.clone());
        self.tell_term();
        for (responder, reply) in answers {
            responder.send(reply);
        }
        for topic in &touched {
            self.watches.announce(topic);
        }
        metrics::histogram!("raft.fsm.apply").record(begun.elapsed().as_secs_f64() * 1e3);
        metrics::gauge!("raft.applied_index").set(self.state.index().0 as f64);
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        (force || self.snapshots.is_due()).then(|| self.builder())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.builder()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotHandle,
    ) -> Result<(), io::Error> {
        let begun = Instant::now();
        self.snapshots.keep(meta.clone(), snapshot.0.clone()).await?;
        self.state = snapshot.0;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.published.store(self.state.clone());
        self.tell_term();
        self.watches.announce_all();
        metrics::histogram!("raft.fsm.restore").record(begun.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotHandle>>, io::Error> {
        Ok(self.snapshots.current())
    }
}
