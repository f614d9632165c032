//! Blocking queries as a stream of changes.
//!
//! One question is under way at a time, inside the poll of whoever holds the stream: nothing is spawned, and
//! dropping the stream ends the question. Three rules keep it honest:
//!
//! - The index of an answer is where the next question waits. When it goes backwards (an agent was restored from
//!   a snapshot, or another agent answers), the next question starts from the beginning.
//! - An answer with the same contents as the one before is no change and is not handed on.
//! - Trouble, and answers that come early without a change, are followed by a pause that doubles each time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::debug;

use crate::answer::{Answer, Source};
use crate::client::{Client, decode};
use crate::endpoint::{Reply, Trouble};
use crate::error::{Error, Failure};
use crate::request::Request;
use crate::retry::Policy;

/// After a change the next question is held back by a random time up to this, so that a thousand watchers woken
/// by one change do not all return in the same instant. What changes meanwhile is not missed.
const SPREAD_MAX: Duration = Duration::from_millis(20);

/// The present answer and then each change of it. Never ends by itself.
///
/// An error is handed on so that the holder knows it sees nothing new for now; the watch goes on trying, with
/// growing pauses. Whoever does not want that drops it.
///
/// ```no_run
/// # async fn run(client: tribune_client::Client) {
/// use futures::StreamExt;
/// use tribune_client::health;
///
/// let mut changes = client.watch(health::service("web").passing());
/// while let Some(change) = changes.next().await {
///     match change {
///         Ok(answer) => println!("{} instances", answer.value.len()),
///         Err(error) => eprintln!("still using the last answer: {error}"),
///     }
/// }
/// # }
/// ```
pub struct Watch<T> {
    changes: BoxStream<'static, Result<Answer<T>, Error>>,
}

impl<T: DeserializeOwned + Send + 'static> Watch<T> {
    pub(crate) fn new(client: Client, request: Request) -> Self {
        let follower = Follower { client, request, cursor: Cursor::default(), pace: Pace::default() };
        let changes = futures::stream::unfold(follower, |mut follower| async move {
            let change = follower.next().await;
            Some((change, follower))
        });
        Self { changes: changes.boxed() }
    }
}

impl<T> Stream for Watch<T> {
    type Item = Result<Answer<T>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.changes.poll_next_unpin(cx)
    }
}

impl<T> std::fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

struct Follower {
    client: Client,
    request: Request,
    cursor: Cursor,
    pace: Pace,
}

impl Follower {
    /// Asks until there is a change or an error to tell of.
    async fn next<T: DeserializeOwned>(&mut self) -> Result<Answer<T>, Error> {
        loop {
            let config = self.client.config();
            tokio::time::sleep(self.pace.pause(&config.retry, rand::random())).await;
            let wait = config.watch_wait;
            let asked = Instant::now();
            let request = self.request.clone().blocking(self.cursor.index, wait);
            let seen = match self.client.round(&request).await {
                Ok(reply) => self.look(reply),
                Err(Trouble::Final(error)) => Err(error),
                Err(Trouble::NotDone(last) | Trouble::Unsure(last)) => Err(unavailable(last)),
            };
            match seen {
                Ok(Some(answer)) => {
                    self.pace = Pace::Changed;
                    return Ok(answer);
                }
                Ok(None) => self.pace = self.pace.unchanged(asked.elapsed() >= wait / 2),
                Err(error) => {
                    self.pace = self.pace.troubled();
                    debug!(%error, "a watch has trouble");
                    return Err(error);
                }
            }
        }
    }

    fn look<T: DeserializeOwned>(&mut self, reply: Reply) -> Result<Option<Answer<T>>, Error> {
        let answer = decode(&reply, Source::Agent)?;
        if answer.index.0 == 0 {
            return Err(Error::Malformed {
                address: reply.address,
                reason: "it has no index, so this question cannot be watched; ask it from time to time"
                    .into(),
            });
        }
        Ok(self.cursor.moves(answer.index.0, reply.body).then_some(answer))
    }
}

fn unavailable(last: Failure) -> Error {
    Error::Unavailable { attempts: 1, last }
}

/// Where a watch stands.
#[derive(Debug, Default)]
struct Cursor {
    index: u64,
    body: Option<Bytes>,
}

impl Cursor {
    /// Takes in an answer; says whether it tells anything new.
    fn moves(&mut self, index: u64, body: Bytes) -> bool {
        self.index = if index < self.index { 0 } else { index };
        let is_new = self.body.as_ref() != Some(&body);
        self.body = Some(body);
        is_new
    }
}

/// How soon the next question may follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Pace {
    /// Nothing was asked yet.
    #[default]
    First,
    /// There was a change.
    Changed,
    /// The agent waited as it was asked to, and nothing changed.
    Waited,
    /// This often in a row there was an error, or an answer without a change that came early.
    Held(u32),
}

impl Pace {
    fn unchanged(self, waited: bool) -> Self {
        if waited { Self::Waited } else { self.troubled() }
    }

    fn troubled(self) -> Self {
        match self {
            Self::Held(times) => Self::Held(times.saturating_add(1)),
            _ => Self::Held(1),
        }
    }

    fn pause(self, policy: &Policy, chance: f64) -> Duration {
        match self {
            Self::First | Self::Waited => Duration::ZERO,
            Self::Changed => SPREAD_MAX.mul_f64(chance),
            Self::Held(times) => policy.delay(times, chance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_goes_backwards_starts_over() {
        let mut cursor = Cursor::default();
        assert!(cursor.moves(10, "a".into()));
        assert!(cursor.moves(12, "b".into()));
        assert!(!cursor.moves(5, "b".into()), "same contents, even though the index moved");
        assert_eq!(cursor.index, 0);
        assert!(!cursor.moves(5, "b".into()));
        assert_eq!(cursor.index, 5);
    }

    #[test]
    fn nothing_makes_a_watch_spin() {
        let policy = Policy::default();
        let mut pace = Pace::First;
        let mut total = Duration::ZERO;
        for _ in 0..20 {
            pace = pace.unchanged(false);
            total += pace.pause(&policy, 0.5);
        }
        assert!(total > Duration::from_secs(60), "{total:?}");
        assert_eq!(pace.unchanged(true).pause(&policy, 0.5), Duration::ZERO);
        assert_eq!(Pace::Changed.pause(&policy, 1.0), SPREAD_MAX);
    }
}
