//! A snapshot that arrives in pieces. One at a time is gathered, up to a limit; one that stops arriving is let go.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::codec::{PositionRecord, VoteRecord};
use crate::wire::Piece;

/// Bytes of one snapshot. More than any datacenter's state; keeps a sender from filling the memory.
const SNAPSHOT_BYTES_MAX: u64 = 4 << 30;

/// A snapshot whose next piece does not come within this time is let go. The sender begins anew then.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is gathered now.
#[derive(Debug, Default)]
pub(crate) struct Incoming(Mutex<Option<Gathered>>);

#[derive(Debug)]
struct Gathered {
    from: String,
    vote: VoteRecord,
    position: Option<PositionRecord>,
    pieces: Vec<Bytes>,
    length: u64,
    touched: Instant,
}

/// What a piece came to.
#[derive(Debug)]
pub(crate) enum Step {
    /// This many bytes are here; those behind them come next.
    Continue(u64),
    /// All of them.
    Complete(Vec<Bytes>),
    /// Longer than a snapshot may be.
    TooLong,
}

impl Incoming {
    /// Takes a piece that `from` sent.
    pub(crate) fn take(&self, from: &str, piece: Piece) -> Step {
        let Piece { vote, position, offset, bytes, last } = piece;
        let mut place = self.0.lock();
        let is_same = |held: &Gathered| held.from == from && held.vote == vote && held.position == position;
        let mut held = place.take().filter(is_same).unwrap_or_else(|| Gathered {
            from: from.to_owned(),
            vote,
            position,
            pieces: Vec::new(),
            length: 0,
            touched: Instant::now(),
        });
        held.touched = Instant::now();
        if held.length == offset {
            held.length += bytes.len() as u64;
            if held.length > SNAPSHOT_BYTES_MAX {
                return Step::TooLong;
            }
            held.pieces.push(bytes);
            if last {
                return Step::Complete(held.pieces);
            }
        }
        let length = held.length;
        *place = Some(held);
        Step::Continue(length)
    }

    /// Lets go of what stopped arriving.
    pub(crate) fn expire(&self) {
        self.0.lock().take_if(|held| held.touched.elapsed() > PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, text: &'static str, last: bool) -> Piece {
        let vote = VoteRecord { term: 1, server: 1, committed: true };
        Piece { vote, position: None, offset, bytes: Bytes::from_static(text.as_bytes()), last }
    }

    #[test]
    fn pieces_are_gathered_in_order_and_a_repeated_one_counts_once() {
        let incoming = Incoming::default();
        assert!(matches!(incoming.take("a", piece(0, "one", false)), Step::Continue(3)));
        assert!(matches!(incoming.take("a", piece(0, "one", false)), Step::Continue(3)));
        assert!(matches!(incoming.take("a", piece(6, "three", true)), Step::Continue(3)));
        assert!(
            matches!(incoming.take("a", piece(3, "two", true)), Step::Complete(pieces) if pieces.len() == 2)
        );
    }

    #[test]
    fn another_sender_begins_anew() {
        let incoming = Incoming::default();
        incoming.take("a", piece(0, "one", false));
        assert!(matches!(incoming.take("b", piece(3, "two", true)), Step::Continue(0)));
        assert!(
            matches!(incoming.take("b", piece(0, "one", true)), Step::Complete(pieces) if pieces.len() == 1)
        );
    }
}
