//! `/v1/txn`: several operations that are all done or none.

use std::sync::Arc;

use http::StatusCode;
use tribune_api::convert;
use tribune_api::txn::{ReadMeta, TxnFailure, TxnJson, failures};
use tribune_api::{ApiError, Layout};
use tribune_core::{Command, Index, Outcome, Transaction};

use crate::call::Call;
use crate::datacenter::{Datacenter, INDEX};
use crate::error::Error;
use crate::limits::BodyLimit;
use crate::read::Read;
use crate::reply::Reply;
use crate::router::Router;

const PATH: &str = "/v1/txn";

pub(crate) fn routes(dc: &Arc<Datacenter>) -> Router {
    let (bytes_max, setting) = (dc.config.txn_bytes_max, "limits.txn_max_req_len");
    Router::default().put(PATH, dc, transact).bounded(PATH, BodyLimit::Set { bytes_max, setting })
}

async fn transact(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    call.query.refuse_foreign()?;
    match convert::transaction(&call.body, dc.config.value_bytes_max)? {
        Err(failures) => Ok(refused(&dc, &failures, None, call.layout)?),
        Ok(transaction) if transaction.only_reads() => look(&dc, &call, &transaction).await,
        Ok(transaction) => {
            let command = Command::Transaction(Box::new(transaction));
            let outcome = dc.replica.propose(&call.authority(), command).await?;
            Ok(reply(&dc, outcome, None, call.layout)?)
        }
    }
}

/// A transaction that only reads is a read: it is answered from the state, as current as it wants.
async fn look(dc: &Datacenter, call: &Call, transaction: &Transaction) -> Result<Reply, Error> {
    let (read, _) = Read::new(dc, call)?;
    let state = read.state().await?;
    let contact = dc.replica.contact();
    let behind = contact.last_contact.unwrap_or_default().as_millis();
    let meta = ReadMeta {
        last_contact: u64::try_from(behind).unwrap_or(u64::MAX),
        known_leader: contact.known_leader,
    };
    let mut reply = reply(dc, state.look(transaction), Some(meta), call.layout)?;
    read.describe(&mut reply, Index(0));
    // Several reads have no one index to wait for.
    reply.headers.remove(INDEX);
    Ok(reply)
}

fn reply(
    dc: &Datacenter,
    outcome: Outcome,
    read: Option<ReadMeta>,
    layout: Layout,
) -> Result<Reply, ApiError> {
    let results = match outcome {
        Outcome::Transacted { results, .. } => results,
        Outcome::Applied | Outcome::Unchanged => Vec::new(),
        Outcome::Refused(refusal) => match failures(&refusal) {
            Some(failures) => return refused(dc, &failures, read, layout),
            None => return Err(refusal.into()),
        },
    };
    Reply::json(&TxnJson { outcome: Ok(&results), datacenter: dc.name(), read }, layout)
}

fn refused(
    dc: &Datacenter,
    failures: &[TxnFailure],
    read: Option<ReadMeta>,
    layout: Layout,
) -> Result<Reply, ApiError> {
    let body = TxnJson { outcome: Err(failures), datacenter: dc.name(), read };
    Ok(Reply::json(&body, layout)?.with_status(StatusCode::CONFLICT))
}
