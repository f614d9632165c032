//! The road to other servers. There is none yet: a datacenter of one server needs none, and every call to
//! another one says so at once.

use std::future::Future;

use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use crate::machine::SnapshotHandle;
use crate::types::{ServerNode, TypeConfig};

/// Makes the connections of one replica.
#[derive(Debug, Clone, Default)]
pub(crate) struct NoRoad;

impl RaftNetworkFactory<TypeConfig> for NoRoad {
    type Network = Unconnected;

    async fn new_client(&mut self, _target: u64, node: &ServerNode) -> Unconnected {
        Unconnected { server: node.id.clone() }
    }
}

/// A server that cannot be reached.
#[derive(Debug)]
pub(crate) struct Unconnected {
    server: String,
}

impl Unconnected {
    fn unreachable(&self) -> Unreachable<TypeConfig> {
        Unreachable::from_string(format!("server {} is unreachable: no road to other servers", self.server))
    }
}

type RpcResult<T> = Result<T, RPCError<TypeConfig>>;

impl RaftNetworkV2<TypeConfig> for Unconnected {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<TypeConfig>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        Err(self.unreachable().into())
    }

    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: VoteOf<TypeConfig>,
        _snapshot: SnapshotOf<TypeConfig, SnapshotHandle>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(self.unreachable().into())
    }

    async fn transfer_leader(
        &mut self,
        _request: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<TypeConfig>> {
        Err(self.unreachable().into())
    }
}
