//! The receiving side: what other servers ask of this one.

use bytes::Bytes;
use openraft::alias::SnapshotOf;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, VoteRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cmp::Ordering;
use std::fmt::Display;
use std::time::Duration;

use super::Replica;
use super::propose::Attempt;
use super::read::ReadIndexed;
use crate::codec::{CodecError, EntryRecord, PositionRecord};
use crate::error::Error;
use crate::machine::SnapshotHandle;
use crate::snapshot::file;
use crate::snapshot::incoming::Step;
use crate::transport::Method;
use crate::types::{Entry, TypeConfig, Vote};
use crate::wire::{
    self, Answered, Append, Appended, Ask, AskHashes, Ballot, Candidacy, Envelope, Handover, Hashes, Order,
    Piece, PieceTaken, Propose, Proposed, ReadFrom, ReadIndex, Taken,
};

/// Why a call was refused. It was certainly not processed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// The body is not what this version understands.
    #[error("the call is not understood: {0}; do the servers run versions that fit together?")]
    Malformed(String),
    /// The call came from a server of another cluster or datacenter, or was meant for another server.
    #[error("{0}")]
    Stranger(String),
    /// This replica takes no part any more.
    #[error("this server has stopped: {0}")]
    Stopped(String),
}

impl From<CodecError> for ServeError {
    fn from(error: CodecError) -> Self {
        Self::Malformed(error.to_string())
    }
}

type Answer = Result<Bytes, ServeError>;

impl Replica {
    /// Answers a call that another server made through its [`crate::Transport`].
    pub async fn serve(&self, method: Method, body: Bytes) -> Result<Bytes, ServeError> {
        match method {
            Method::Append | Method::Heartbeat => answer(&self.serve_append(&body).await?),
            Method::Vote => answer(&self.serve_vote(&body, false).await?),
            Method::PreVote => answer(&self.serve_vote(&body, true).await?),
            Method::Transfer => answer(&self.serve_transfer(&body).await?),
            Method::Snapshot => answer(&self.serve_snapshot(&body).await?),
            Method::Propose => answer(&self.serve_propose(&body).await?),
            Method::ReadIndex => answer(&self.serve_read_index(&body).await?),
            Method::Ask => answer(&self.serve_ask(&body).await?),
            Method::Admin => {
                let order: Envelope<Order> = self.open(&body)?;
                answer(&Box::pin(self.carry_out(&order.payload)).await)
            }
            Method::Hashes => self.serve_hashes(&body),
        }
    }

    /// Opens a call, if it may be answered.
    fn open<T: DeserializeOwned>(&self, body: &[u8]) -> Result<Envelope<T>, ServeError> {
        let envelope: Envelope<T> = wire::parse(body)?;
        self.0.identity.check(&envelope).map_err(|stranger| {
            metrics::counter!("raft.rpc.strangers").increment(1);
            ServeError::Stranger(stranger.to_string())
        })?;
        Ok(envelope)
    }

    /// The same for calls that write to the log or the vote: from then on this server belongs to the cluster.
    async fn open_to_write<T: DeserializeOwned>(&self, body: &[u8]) -> Result<Envelope<T>, ServeError> {
        let envelope = self.open::<T>(body)?;
        self.join(&envelope.cluster).await.map_err(|error| ServeError::Stopped(error.to_string()))?;
        Ok(envelope)
    }

    /// Makes this server part of a cluster, if it is part of none.
    pub(crate) async fn join(&self, cluster: &str) -> Result<(), std::io::Error> {
        if self.0.identity.is_noted(cluster) {
            return Ok(());
        }
        let (identity, cluster) = (self.0.identity.clone(), cluster.to_owned());
        self.0.offload.run(move || identity.join(&cluster)).await?
    }

    async fn serve_append(&self, body: &[u8]) -> Result<Appended, ServeError> {
        let Append { vote, previous, entries, commit } = self.open_to_write::<Append>(body).await?.payload;
        let entries: Result<Vec<Entry>, CodecError> =
            entries.into_iter().map(EntryRecord::into_entry).collect();
        let request = AppendEntriesRequest {
            vote: vote.into(),
            prev_log_id: previous.map(Into::into),
            entries: entries?,
            leader_commit: commit.map(Into::into),
        };
        let response = self.0.raft.append_entries(request).await.map_err(|error| self.gone(&error))?;
        if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
            self.0.heard.note();
        }
        Ok(match response {
            AppendEntriesResponse::Success => Appended::All,
            AppendEntriesResponse::PartialSuccess(last) => Appended::UpTo(last.as_ref().map(Into::into)),
            AppendEntriesResponse::Conflict => Appended::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Appended::HigherVote((&vote).into()),
        })
    }

    async fn serve_vote(&self, body: &[u8], only_asking: bool) -> Result<Ballot, ServeError> {
        let Envelope { from, payload: Candidacy { vote, last, transfer }, .. } = match only_asking {
            true => self.open::<Candidacy>(body)?,
            false => self.open_to_write::<Candidacy>(body).await?,
        };
        // Who has nothing may have had what the candidate lacks, unless the candidate founds the cluster.
        if self.is_blank() && last.as_ref().is_some_and(|last| last.index > 0) {
            self.0.caller.complain(&from, || {
                tracing::warn!(
                    candidate = %from,
                    "this server has no data and gives no vote before a leader has sent it the log"
                );
            });
            let own = self.0.metrics.borrow_watched().vote;
            return Ok(Ballot { vote: (&own).into(), granted: false, last: None });
        }
        let mut request = VoteRequest::<TypeConfig>::new(vote.into(), last.map(Into::into));
        request.leadership_transfer = transfer;
        let response = match only_asking {
            true => self.0.raft.pre_vote(request).await,
            false => self.0.raft.vote(request).await,
        };
        let response = response.map_err(|error| self.gone(&error))?;
        Ok(Ballot {
            vote: (&response.vote).into(),
            granted: response.vote_granted,
            last: response.last_log_id.as_ref().map(Into::into),
        })
    }

    /// Whether this server has neither a log nor a vote that it gave.
    fn is_blank(&self) -> bool {
        let metrics = self.0.metrics.borrow_watched();
        metrics.current_term == 0 && metrics.last_log_index.is_none()
    }

    async fn serve_transfer(&self, body: &[u8]) -> Result<Taken, ServeError> {
        let Handover { vote, to, last } = self.open_to_write::<Handover>(body).await?.payload;
        let request = TransferLeaderRequest::new(vote.into(), to, last.map(Into::into));
        let taken = self.0.raft.handle_transfer_leader(request).await.map_err(|error| self.gone(&error))?;
        Ok(match taken {
            Ok(()) => Taken::Yes,
            Err(TransferLeaderError::VoteChanged { actual, .. }) => Taken::VoteChanged((&actual).into()),
            Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
                Taken::Behind(actual.as_ref().map(Into::into))
            }
        })
    }

    async fn serve_snapshot(&self, body: &[u8]) -> Result<PieceTaken, ServeError> {
        let Envelope { from, payload: piece, .. } = self.open_to_write::<Piece>(body).await?;
        let vote: Vote = piece.vote.into();
        let known = self.0.raft.server_metrics().borrow_watched().vote;
        // Votes are ordered in part only; one that is not at least as high as ours is of a leader that was.
        if !matches!(vote.partial_cmp(&known), Some(Ordering::Greater | Ordering::Equal)) {
            return Ok(PieceTaken::HigherVote((&known).into()));
        }
        let position = piece.position;
        match self.0.incoming.take(&from, piece) {
            Step::Continue(length) => Ok(PieceTaken::Continue(length)),
            Step::TooLong => Ok(PieceTaken::Damaged("it is longer than a snapshot may be".to_owned())),
            Step::Complete(pieces) => self.install(vote, position, pieces).await,
        }
    }

    /// Decodes beside the work and installs.
    async fn install(
        &self,
        vote: Vote,
        position: Option<PositionRecord>,
        pieces: Vec<Bytes>,
    ) -> Result<PieceTaken, ServeError> {
        let decoded = self.0.offload.run(move || file::assemble(pieces)).await;
        let (meta, state) = match decoded.map_err(|error| self.gone(&error))? {
            Ok(decoded) => decoded,
            Err(error) => return Ok(PieceTaken::Damaged(error.to_string())),
        };
        if meta.last_log_id.as_ref().map(PositionRecord::from) != position {
            return Ok(PieceTaken::Damaged("it stands elsewhere in the log than was said".to_owned()));
        }
        let snapshot = SnapshotOf::<TypeConfig, SnapshotHandle> { meta, snapshot: SnapshotHandle(state) };
        let installed = self.0.raft.install_full_snapshot(vote, snapshot).await;
        let response = installed.map_err(|error| self.gone(&error))?;
        self.0.heard.note();
        Ok(PieceTaken::Installed((&response.vote).into()))
    }

    async fn serve_propose(&self, body: &[u8]) -> Result<Proposed, ServeError> {
        let Propose { proposal, hold_ms } = self.open::<Propose>(body)?.payload;
        let patience = Duration::from_millis(hold_ms).min(self.0.config.rpc_hold_timeout);
        Ok(match self.attempt_here(proposal, patience).await {
            Attempt::Done { index, reply } => Proposed::Done { index, reply },
            Attempt::NotLeader => Proposed::NotLeader,
            Attempt::Failed(Error::Busy) => Proposed::Busy,
            Attempt::Failed(Error::TooLong(_)) => Proposed::TooLong,
            Attempt::Failed(Error::DiskFull { directory, available, needed }) => {
                Proposed::DiskFull { directory: directory.display().to_string(), available, needed }
            }
            // This server has stopped; another one will lead.
            Attempt::Failed(Error::Stopped(_) | Error::NoLeader(_) | Error::Denied) => Proposed::NotLeader,
            Attempt::Failed(Error::Unknown(reason)) => Proposed::Unknown(reason),
        })
    }

    async fn serve_read_index(&self, body: &[u8]) -> Result<ReadFrom, ServeError> {
        let ReadIndex { confirmed } = self.open::<ReadIndex>(body)?.payload;
        Ok(match self.read_index_for_others(confirmed).await {
            ReadIndexed::From(index) => ReadFrom::Index(index),
            ReadIndexed::NoLeader | ReadIndexed::Stopped => ReadFrom::NotLeader,
        })
    }

    async fn serve_ask(&self, body: &[u8]) -> Result<Answered, ServeError> {
        let Ask { question } = self.open::<Ask>(body)?.payload;
        Ok(self.answer_as_leader(question).await)
    }

    fn serve_hashes(&self, body: &[u8]) -> Answer {
        self.open::<AskHashes>(body)?;
        answer(&Hashes { form: crate::hashes::FORM.to_owned(), hashes: self.0.hashes.known() })
    }

    fn gone(&self, error: &dyn Display) -> ServeError {
        ServeError::Stopped(self.describe(error))
    }
}

fn answer<T: Serialize>(value: &T) -> Answer {
    Ok(wire::body(value)?)
}
