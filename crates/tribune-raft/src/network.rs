//! The calling side: openraft's questions to other servers, put into our words and sent over the [`Transport`].

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::codec::{CodecError, EntryRecord};
use crate::config::{Config, ServerInfo};
use crate::forgetful::Forgetful;
use crate::identity::Identity;
use crate::machine::SnapshotHandle;
use crate::offload::Offload;
use crate::quorum::Quorum;
use crate::snapshot::Place;
use crate::snapshot::outgoing::Outgoing;
use crate::transport::{BODY_BYTES_MAX, Method, Transport, TransportError};
use crate::types::{ServerNode, TypeConfig};
use crate::wire::{self, Append, Appended, Ballot, Candidacy, Handover, Piece, PieceTaken, Taken};

/// Bytes of one append, unless a single entry is longer.
const ENTRIES_BYTES_MAX: usize = 2 << 20;

/// What happens with a server several times a second is told once in this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(30);

/// A piece of a snapshot must be taken within this time; the last one may take as long as the whole may.
const PIECE_PATIENCE: Duration = Duration::from_secs(10);

/// Calls other servers in the name of this one. Clones are cheap.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    transport: Arc<dyn Transport>,
    identity: Arc<Identity>,
    /// When something was last said of each server.
    complained: Arc<Mutex<BTreeMap<String, Instant>>>,
}

/// Why a call failed. `Unreachable` and `Refused` say that it was certainly not processed.
pub(crate) type CallError = TransportError;

impl Caller {
    pub(crate) fn new(config: &Config, identity: Arc<Identity>) -> Self {
        Self { transport: config.transport.clone(), identity, complained: Arc::default() }
    }

    /// One call and its answer.
    pub(crate) async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        server: &ServerInfo,
        method: Method,
        question: Q,
        deadline: Instant,
    ) -> Result<A, CallError> {
        let body = self.encode(server, question, BODY_BYTES_MAX);
        let body = body.map_err(|error| self.unsent(server, method, &error))?;
        self.send(server, method, body, deadline).await
    }

    /// The body of a call, if it is no longer than this.
    fn encode<Q: Serialize>(
        &self,
        server: &ServerInfo,
        question: Q,
        bytes_max: usize,
    ) -> Result<Bytes, CodecError> {
        wire::body_within(&self.identity.envelope(&server.id, question), bytes_max)
    }

    /// The deadline holds whatever the implementor does.
    async fn send<A: DeserializeOwned>(
        &self,
        server: &ServerInfo,
        method: Method,
        body: Bytes,
        deadline: Instant,
    ) -> Result<A, CallError> {
        let call = self.transport.call(server, method, body, deadline);
        let answer = match tokio::time::timeout_at(deadline, call).await {
            Ok(Err(CallError::Refused(reason))) => return Err(self.refused(server, method, reason)),
            Ok(outcome) => outcome?,
            Err(_) => return Err(CallError::Lost("it took too long".to_owned())),
        };
        wire::parse(&answer)
            .map_err(|error| CallError::Lost(format!("the answer is not understood: {error}")))
    }

    fn unsent(&self, server: &ServerInfo, method: Method, error: &CodecError) -> CallError {
        self.refused(server, method, format!("the call was not sent: {error}"))
    }

    /// Calls are repeated several times a second, whatever their callers are told; one line in a while says it.
    fn refused(&self, server: &ServerInfo, method: Method, reason: String) -> CallError {
        self.complain(&server.id, || {
            tracing::warn!(server = %server.id, %method, %reason, "a server refuses our calls");
        });
        CallError::Refused(reason)
    }

    /// Says something of a server, once in a while.
    pub(crate) fn complain(&self, id: &str, say: impl FnOnce()) {
        let now = Instant::now();
        let mut complained = self.complained.lock();
        let last = complained.get(id);
        if last.is_none_or(|at| now.saturating_duration_since(*at) >= COMPLAINT_INTERVAL) {
            complained.insert(id.to_owned(), now);
            say();
        }
    }
}

/// Makes the lines of one replica.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    pub(crate) caller: Caller,
    pub(crate) own_id: u64,
    /// Least time an append may take. openraft allows it the heartbeat interval, whatever it carries; a follower
    /// whose disk is slower than that would be sent the same entries again and again.
    pub(crate) append_patience: Duration,
    pub(crate) quorum: Arc<Quorum>,
    pub(crate) forgetful: Forgetful,
    pub(crate) offload: Offload,
    /// Where this server's snapshots are.
    pub(crate) place: Place,
}

impl Lines {
    fn line(&self, target: u64, node: &ServerNode, append: Method) -> Line {
        self.forgetful.pardon(target);
        Line { lines: self.clone(), target, node: node.clone(), append, confirmed: None }
    }
}

impl RaftNetworkFactory<TypeConfig> for Lines {
    type Network = Line;

    async fn new_client(&mut self, target: u64, node: &ServerNode) -> Line {
        self.line(target, node, Method::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &ServerNode) -> Line {
        self.line(target, node, Method::Heartbeat)
    }
}

/// The way to one server.
#[derive(Debug)]
pub(crate) struct Line {
    lines: Lines,
    target: u64,
    node: ServerNode,
    /// What an append counts as here.
    append: Method,
    /// The last entry that the server has confirmed to have.
    confirmed: Option<u64>,
}

type RpcResult<T> = Result<T, RPCError<TypeConfig>>;

impl Line {
    fn server(&self) -> RpcResult<ServerInfo> {
        let server = self.node.info();
        server.ok_or_else(|| unreachable(format!("the entry of server {} names no address", self.node.id)))
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        question: Q,
        patience: Duration,
    ) -> RpcResult<A> {
        let server = self.server()?;
        let begun = Instant::now();
        let called = self.lines.caller.call(&server, method, question, begun + patience).await;
        called.map_err(|error| self.explain(error, method, begun.elapsed() >= patience, patience))
    }

    fn explain(
        &self,
        error: CallError,
        method: Method,
        late: bool,
        patience: Duration,
    ) -> RPCError<TypeConfig> {
        match error {
            TransportError::Unreachable(reason) | TransportError::Refused(reason) => unreachable(reason),
            TransportError::Lost(_) if late => Timeout {
                action: action(method),
                id: self.lines.own_id,
                target: self.target,
                timeout: patience,
            }
            .into(),
            TransportError::Lost(reason) => NetworkError::from_string(reason).into(),
        }
    }

    /// Sends as many of the entries as fit into one call, and gives how many that were.
    async fn append(&self, mut question: Append, patience: Duration) -> RpcResult<(usize, Appended)> {
        let server = self.server()?;
        let caller = &self.lines.caller;
        let begun = Instant::now();
        let appended = async {
            loop {
                let count = question.entries.len();
                let bytes_max = if count > 1 { ENTRIES_BYTES_MAX } else { BODY_BYTES_MAX };
                let body = match caller.encode(&server, &question, bytes_max) {
                    Err(CodecError::Long(_)) if count > 1 => {
                        question.entries.truncate(count / 2);
                        continue;
                    }
                    encoded => encoded.map_err(|error| caller.unsent(&server, self.append, &error))?,
                };
                let sent = caller.send(&server, self.append, body, begun + patience).await?;
                return Ok((count, sent));
            }
        };
        appended
            .await
            .map_err(|error| self.explain(error, self.append, begun.elapsed() >= patience, patience))
    }

    /// Whether the server has confirmed before that it has this entry. A sign of life names no other.
    fn had_confirmed(&self, index: Option<u64>) -> bool {
        index.is_some() && (self.append == Method::Heartbeat || index <= self.confirmed)
    }

    /// openraft would take the server for one that is on its way for ever.
    fn forgetful(&self) -> RPCError<TypeConfig> {
        if self.lines.forgetful.note(self.target) {
            tracing::error!(
                server = %self.node.id,
                "a server has lost entries that it had confirmed; was its data directory emptied? It is put out and taken in anew as soon as the others are enough without it"
            );
        }
        unreachable("it has lost entries that it had confirmed".to_owned())
    }

    async fn ask_vote(
        &self,
        method: Method,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let question = Candidacy {
            vote: (&rpc.vote).into(),
            last: rpc.last_log_id.as_ref().map(Into::into),
            transfer: rpc.leadership_transfer,
        };
        let Ballot { vote, granted, last } = self.call(method, question, option.soft_ttl()).await?;
        let vote: VoteOf<TypeConfig> = vote.into();
        Ok(VoteResponse::new(vote, last.map(Into::into), granted))
    }

    /// Sends all pieces, beginning where the receiver has left off.
    async fn send_pieces(
        &self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, SnapshotHandle>,
        patience: Duration,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let deadline = Instant::now() + patience;
        let SnapshotOf::<TypeConfig, SnapshotHandle> { meta, snapshot: SnapshotHandle(state) } = snapshot;
        let position = meta.last_log_id.as_ref().map(Into::into);
        let (place, offload) = (self.lines.place.clone(), self.lines.offload);
        let (opening, rewriting) = ((meta.clone(), state.clone()), (meta, state));
        let mut outgoing =
            offload.run(move || Outgoing::open(&place, &opening.0, &opening.1)).await.flatten();
        let mut offset = 0;
        loop {
            let opened = Arc::new(outgoing.map_err(|error| NetworkError::from_string(error.to_string()))?);
            let source = opened.clone();
            let read = offload.run(move || source.piece(offset)).await.flatten();
            let (bytes, last) = read.map_err(|error| NetworkError::from_string(error.to_string()))?;
            let piece = Piece { vote: (&vote).into(), position, offset, bytes, last };
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = if last { left } else { left.min(PIECE_PATIENCE) };
            let taken: PieceTaken = self.call(Method::Snapshot, piece, patience).await?;
            let from_file = matches!(*opened, Outgoing::File { .. });
            let opened =
                Arc::into_inner(opened).ok_or_else(|| io::Error::other("a piece is still being read"));
            outgoing = match taken {
                PieceTaken::Continue(wanted) => {
                    offset = wanted;
                    opened
                }
                PieceTaken::Installed(vote) | PieceTaken::HigherVote(vote) => {
                    return Ok(SnapshotResponse::new(vote.into()));
                }
                PieceTaken::Damaged(reason) if from_file => {
                    tracing::error!(%reason, "a snapshot's file is damaged; it is sent from memory");
                    offset = 0;
                    let rewriting = rewriting.clone();
                    offload.run(move || Outgoing::write(&rewriting.0, &rewriting.1)).await.flatten()
                }
                PieceTaken::Damaged(reason) => {
                    return Err(NetworkError::from_string(format!("it arrived damaged: {reason}")).into());
                }
            };
        }
    }
}

fn action(method: Method) -> RPCTypes {
    match method {
        Method::Vote | Method::PreVote => RPCTypes::Vote,
        Method::Snapshot => RPCTypes::InstallSnapshot,
        Method::Transfer => RPCTypes::TransferLeader,
        _ => RPCTypes::AppendEntries,
    }
}

fn unreachable(reason: String) -> RPCError<TypeConfig> {
    Unreachable::from_string(reason).into()
}

impl RaftNetworkV2<TypeConfig> for Line {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<TypeConfig>> {
        if !self.lines.quorum.may_append() {
            return Err(unreachable(
                "no majority answers; leaving the others time to find a leader".to_owned(),
            ));
        }
        let patience = match self.append {
            Method::Heartbeat => option.soft_ttl(),
            _ => option.soft_ttl().max(self.lines.append_patience),
        };
        let question = Append {
            vote: (&rpc.vote).into(),
            previous: rpc.prev_log_id.as_ref().map(Into::into),
            entries: rpc.entries.iter().map(EntryRecord::from).collect(),
            commit: rpc.leader_commit.as_ref().map(Into::into),
        };
        let (sent, appended) = self.append(question, patience).await?;
        let previous = rpc.prev_log_id.map(|id| id.index);
        Ok(match appended {
            Appended::All => {
                let last =
                    sent.checked_sub(1).and_then(|last| rpc.entries.get(last)).map(|entry| entry.log_id);
                self.confirmed = self.confirmed.max(last.map(|id| id.index)).max(previous);
                match sent == rpc.entries.len() {
                    true => AppendEntriesResponse::Success,
                    false => AppendEntriesResponse::PartialSuccess(last),
                }
            }
            Appended::UpTo(last) => AppendEntriesResponse::PartialSuccess(last.map(Into::into)),
            Appended::Conflict if self.had_confirmed(previous) => return Err(self.forgetful()),
            Appended::Conflict => AppendEntriesResponse::Conflict,
            Appended::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote.into()),
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        self.ask_vote(Method::Vote, rpc, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        self.ask_vote(Method::PreVote, rpc, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, SnapshotHandle>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sending = std::pin::pin!(self.send_pieces(vote, snapshot, option.soft_ttl()));
        match select(sending, std::pin::pin!(cancel)).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right((closed, _)) => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<TypeConfig>> {
        let question = Handover {
            vote: request.from_leader().into(),
            to: *request.to_node_id(),
            last: request.last_log_id().map(Into::into),
        };
        Ok(match self.call(Method::Transfer, question, option.soft_ttl()).await? {
            Taken::Yes => Ok(()),
            Taken::VoteChanged(actual) => Err(TransferLeaderError::VoteChanged {
                expected: *request.from_leader(),
                actual: actual.into(),
            }),
            Taken::Behind(actual) => Err(TransferLeaderError::LogNotFlushed {
                expected: request.last_log_id().copied(),
                actual: actual.map(Into::into),
            }),
        })
    }
}
