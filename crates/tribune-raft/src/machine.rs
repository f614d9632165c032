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

use crate::faults::{Fault, Lapse};
use crate::hashes::StateHashes;
use crate::offload::Offload;
use crate::published::Published;
use crate::restore::{Staging, Taken};
use crate::snapshot::{SnapshotBuilder, Snapshots, file};
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
    /// Told the last entry in the published state.
    applied_index: watch::Sender<u64>,
    snapshots: Arc<Snapshots>,
    staging: Staging,
    hashes: Arc<StateHashes>,
    offload: Offload,
    /// The state before the last entry; only kept while a fault is planted.
    before: State,
    lapse: Lapse,
}

/// Those who are told what the machine has come to.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) published: Published,
    pub(crate) watches: Arc<Watches>,
    pub(crate) applied_term: watch::Sender<u64>,
    pub(crate) applied_index: watch::Sender<u64>,
    /// Of this server, in tests.
    pub(crate) lapse: Lapse,
}

/// A snapshot in memory: a state that costs nothing to hold.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotHandle(pub(crate) State);

impl Machine {
    pub(crate) fn new(
        told: Told,
        snapshots: Arc<Snapshots>,
        hashes: Arc<StateHashes>,
        offload: Offload,
    ) -> Self {
        Self {
            state: State::default(),
            applied: None,
            membership: StoredMembership::default(),
            published: told.published,
            watches: told.watches,
            applied_term: told.applied_term,
            applied_index: told.applied_index,
            snapshots,
            staging: Staging::default(),
            hashes,
            offload,
            before: State::default(),
            lapse: told.lapse,
        }
    }

    /// Applies one entry; what it gave.
    async fn apply_entry(&mut self, entry: Entry, touched: &mut Touched) -> Result<Reply, io::Error> {
        let index = Index(entry.log_id.index);
        let term = entry.log_id.committed_leader_id().term;
        self.applied = Some(entry.log_id);
        if Fault::SnapshotAheadOfItself.is_planted() {
            self.before = self.state.clone();
        }
        self.staging.pass(term, index.0);
        let reply = match entry.payload {
            EntryPayload::Normal(Proposal::Command(_)) if self.lapse.happens() => {
                self.state.advance(index);
                Reply::Outcome(Outcome::Applied)
            }
            EntryPayload::Normal(Proposal::Command(command)) => {
                let effect = self.state.apply(index, &command);
                touched.topics.extend(effect.touched);
                Reply::Outcome(effect.outcome)
            }
            EntryPayload::Normal(Proposal::Restore(step)) => {
                self.state.advance(index);
                match self.staging.take(&step, term, index.0) {
                    Taken::Gathered => Reply::Restored(Ok(())),
                    Taken::Failed(reason) => Reply::Restored(Err(reason)),
                    Taken::Complete(pieces) => {
                        let made = self.offload.run(move || file::assemble_rebased(pieces, index)).await?;
                        Reply::Restored(made.map_err(|error| error.to_string()).map(|mut state| {
                            state.succeed(&self.state, index);
                            self.state = state;
                            touched.all = true;
                        }))
                    }
                }
            }
            EntryPayload::Blank => {
                self.state.advance(index);
                Reply::Nothing
            }
            EntryPayload::Membership(membership) => {
                self.state.advance(index);
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Reply::Nothing
            }
        };
        self.hashes.reached(index.0, &self.state);
        Ok(reply)
    }

    /// Publishes the state, then tells how far it has come.
    fn publish(&self) {
        self.published.store(self.state.clone());
        self.tell_term();
        self.applied_index.send_replace(self.applied.map_or(0, |id| id.index));
    }

    fn tell_term(&self) {
        let term = self.applied.map_or(0, |id| id.committed_leader_id().term);
        self.applied_term.send_if_modified(|told| std::mem::replace(told, term) != term);
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }

    /// What [`Fault::AppliedOutOfOrder`] stands for: the last command of a batch is applied first.
    async fn apply_out_of_order<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<(Entry, Option<ApplyResponder<TypeConfig>>), io::Error>>
            + Unpin
            + OptionalSend,
    {
        let mut batch: Vec<_> = entries.try_collect().await?;
        let is_command = |entry: &Entry| matches!(entry.payload, EntryPayload::Normal(_));
        if batch.len() > 1 && batch.iter().all(|(entry, _)| is_command(entry)) {
            let last = batch.len() - 1;
            let (first, rest) = batch.split_at_mut(last);
            std::mem::swap(&mut first[0].0.payload, &mut rest[0].0.payload);
        }
        let mut touched = Touched::default();
        for (entry, responder) in batch {
            let reply = self.apply_entry(entry, &mut touched).await?;
            self.publish();
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        self.watches.announce_all();
        Ok(())
    }

    fn builder(&self) -> SnapshotBuilder {
        let state = match Fault::SnapshotAheadOfItself.is_planted() {
            true => self.before.clone(),
            false => self.state.clone(),
        };
        SnapshotBuilder::new(self.snapshots.clone(), self.meta(), state)
    }
}

type Answer = (ApplyResponder<TypeConfig>, Reply);

/// What a batch has changed.
#[derive(Debug, Default)]
struct Touched {
    topics: BTreeSet<Topic>,
    /// The whole state is another one.
    all: bool,
}

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
        let mut touched = Touched::default();
        let mut answers: Vec<Answer> = Vec::new();
        if Fault::AppliedOutOfOrder.is_planted() {
            return self.apply_out_of_order(entries).await;
        }
        while let Some((entry, responder)) = entries.try_next().await? {
            let reply = self.apply_entry(entry, &mut touched).await?;
            answers.extend(responder.map(|responder| (responder, reply)));
        }
        self.publish();
        for (responder, reply) in answers {
            responder.send(reply);
        }
        match touched.all {
            true => self.watches.announce_all(),
            false => self.watches.announce(&touched.topics),
        }
        metrics::histogram!("raft.fsm.apply").record(begun.elapsed().as_secs_f64() * 1e3);
        metrics::gauge!("raft.applied_index").set(self.state.index().0 as f64);
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        // What a restore has gathered is not part of a snapshot.
        let free = !self.staging.is_open();
        (free && (force || self.snapshots.is_due())).then(|| self.builder())
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
        self.staging = Staging::default();
        self.publish();
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
