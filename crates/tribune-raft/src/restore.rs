//! Putting a whole state in the place of the present one, through the log.
//!
//! The state comes as a beginning, pieces and an end, each an entry of its own, so that no entry is large. All
//! servers gather the pieces as they apply them and change over at the end, at the same index. All steps must
//! stand in one term and close together; otherwise the restore comes to nothing on all servers alike. No snapshot
//! is built while pieces are gathered, so a server that starts again finds them all in its log.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes of one restore. A state of some million instances is smaller.
pub(crate) const RESTORE_BYTES_MAX: u64 = 4 << 30;

/// Entries that may lie between the beginning and the end. A restore that has not ended by then was given up.
const SPAN_MAX: u64 = 65_536;

/// One entry of a restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Step {
    Begin { id: String },
    Piece { id: String, offset: u64, bytes: Bytes },
    End { id: String, length: u64 },
}

/// What has been gathered of a restore.
#[derive(Debug, Default)]
pub(crate) struct Staging(Option<Staged>);

#[derive(Debug)]
struct Staged {
    id: String,
    term: u64,
    begun: u64,
    pieces: Vec<Bytes>,
    length: u64,
}

/// What a step came to.
#[derive(Debug)]
pub(crate) enum Taken {
    /// More is to come.
    Gathered,
    /// All pieces are here.
    Complete(Vec<Bytes>),
    /// The restore has come to nothing.
    Failed(String),
}

impl Staging {
    /// Whether a restore is under way.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Notes that an entry is applied, whatever it holds: a restore that another leader or too many entries have
    /// overtaken was given up.
    pub(crate) fn pass(&mut self, term: u64, index: u64) {
        self.0.take_if(|staged| staged.term != term || index - staged.begun > SPAN_MAX);
    }

    /// Takes the step that stands at `index` in `term`.
    pub(crate) fn take(&mut self, step: &Arc<Step>, term: u64, index: u64) -> Taken {
        match &**step {
            Step::Begin { id } => {
                let id = id.clone();
                self.0 = Some(Staged { id, term, begun: index, pieces: Vec::new(), length: 0 });
                Taken::Gathered
            }
            Step::Piece { id, offset, bytes } => match self.of(id) {
                Some(staged) if staged.length == *offset => {
                    staged.length += bytes.len() as u64;
                    staged.pieces.push(bytes.clone());
                    if staged.length > RESTORE_BYTES_MAX {
                        return self.fail(format!("it is longer than {RESTORE_BYTES_MAX} bytes"));
                    }
                    Taken::Gathered
                }
                Some(_) => self.fail("its pieces came in another order".to_owned()),
                None => Taken::Failed(overtaken()),
            },
            Step::End { id, length } => match self.of(id) {
                Some(staged) if staged.length == *length => {
                    let pieces = self.0.take().map(|staged| staged.pieces);
                    Taken::Complete(pieces.unwrap_or_default())
                }
                Some(_) => self.fail("a piece of it is missing".to_owned()),
                None => Taken::Failed(overtaken()),
            },
        }
    }

    fn of(&mut self, id: &str) -> Option<&mut Staged> {
        self.0.as_mut().filter(|staged| staged.id == id)
    }

    fn fail(&mut self, reason: String) -> Taken {
        self.0 = None;
        Taken::Failed(reason)
    }
}

fn overtaken() -> String {
    "the leader changed or another restore began meanwhile; begin again".to_owned()
}
