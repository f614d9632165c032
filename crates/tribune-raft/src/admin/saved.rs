//! Saving the whole state and putting a saved one back.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tribune_core::state::Record;
use tribune_core::{Index, State};

use super::{Admin, AdminError};
use crate::cluster::ClusterServer;
use crate::error::Error;
use crate::replica::Consistency;
use crate::restore::{RESTORE_BYTES_MAX, Step};
use crate::snapshot::file;
use crate::types::{Proposal, Reply, SnapshotMeta};

/// A state at one moment, with what one wants to know of it later.
#[derive(Debug, Clone)]
pub struct Saved {
    /// The state. [`State::records`] gives it piece by piece.
    pub state: Arc<State>,
    /// The last entry in it.
    pub index: Index,
    /// The term it was taken in.
    pub term: u64,
    /// The servers at that time.
    pub servers: Vec<ClusterServer>,
}

impl Admin {
    /// The state, with everything that was acknowledged before the call. Costs nothing but the question to a
    /// majority.
    pub async fn save(&self) -> Result<Saved, Error> {
        let state = self.0.read(Consistency::Consistent).await?;
        let cluster = self.0.cluster();
        Ok(Saved { index: state.index(), state, term: cluster.term, servers: cluster.servers })
    }

    /// Puts the state that the records make in the place of the present one, on all servers at the same index.
    ///
    /// Everything counts as changed then, and no index that is waited for falls: keys and sessions are modified then,
    /// other objects keep the indexes they were saved with unless those lie ahead of the log. When this fails with anything but `Unknown`, the state is as it was.
    pub async fn restore(&self, records: Vec<Record>) -> Result<(), AdminError> {
        let (offload, index) = (self.0.0.offload, self.0.state().index());
        let (id, pieces) = offload.run(move || prepare(records, index)).await.map_err(failed)??;
        let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if length > RESTORE_BYTES_MAX {
            return Err(AdminError::Invalid(format!(
                "the state has {length} bytes, at most {RESTORE_BYTES_MAX} can be restored"
            )));
        }
        self.step(Step::Begin { id: id.clone() }).await?;
        let mut offset = 0;
        for bytes in pieces {
            let next = offset + bytes.len() as u64;
            self.step(Step::Piece { id: id.clone(), offset, bytes }).await?;
            offset = next;
        }
        self.step(Step::End { id, length }).await
    }

    async fn step(&self, step: Step) -> Result<(), AdminError> {
        let is_end = matches!(step, Step::End { .. });
        let (_, reply) =
            self.0.write(Proposal::Restore(Arc::new(step))).await.map_err(|error| match error {
                // As long as the end has not been proposed, nothing comes of the steps before.
                Error::Unknown(reason) if !is_end => AdminError::Invalid(format!(
                    "the restore was broken off, nothing was changed; begin again: {reason}"
                )),
                other => other.into(),
            })?;
        match reply {
            Reply::Restored(Ok(())) => Ok(()),
            Reply::Restored(Err(reason)) => {
                Err(AdminError::Invalid(format!("the restore came to nothing: {reason}")))
            }
            Reply::Nothing | Reply::Outcome(_) => {
                Err(AdminError::Unknown("the log gave another kind of outcome".to_owned()))
            }
        }
    }
}

/// Makes pieces of the records, once it is certain that they make a state, and the id of the restore that begins at
/// `index`. Blocks.
fn prepare(records: Vec<Record>, index: Index) -> Result<(String, Vec<Bytes>), AdminError> {
    // They stand nowhere in a log.
    let pieces = file::pieces(&SnapshotMeta::default(), records.into_iter()).map_err(failed)?;
    let invalid = |error: file::ReadError| {
        AdminError::Invalid(format!("this is no state that could be restored: {error}"))
    };
    file::assemble(pieces.clone()).map_err(invalid)?;
    Ok((restore_id(&pieces, index), pieces))
}

/// Another one for each restore: what is restored, and when.
fn restore_id(pieces: &[Bytes], index: Index) -> String {
    let mut hasher = Sha256::new();
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.update(index.0.to_le_bytes());
    hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn failed(error: std::io::Error) -> AdminError {
    AdminError::Invalid(format!("the restore could not be prepared: {error}"))
}
