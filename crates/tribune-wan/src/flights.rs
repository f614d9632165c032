//! Equal questions asked at once travel once.
//!
//! ```text
//!  first asker ─▶ gathering ── the flight before has landed, or was waited for long enough ──▶ under way ─▶ landed
//!                    ▲ anybody may join                                       ▲ joined only by those who may be
//!                                                                              shown what was true before they asked
//! ```
//!
//! A read that must show every write before it joins only a flight that has not left yet. Flights are driven by
//! those who wait for them and end with the last of them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use futures::task::{ArcWake, AtomicWaker};
use parking_lot::Mutex;

/// How long those who gather wait for the flight before them; then they leave beside it.
const GATHER_MAX: Duration = Duration::from_millis(200);

/// Most rounds in which those who are ready to run may still come; a round without a newcomer is the last.
const ROUNDS_MAX: usize = 64;

/// Which flights an asker may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// Only one that has not left yet.
    BeforeDeparture,
    /// Any.
    Any,
}

type Flight<T> = Shared<BoxFuture<'static, T>>;
type Slots<T> = Arc<Mutex<HashMap<Arc<str>, Slot<T>>>>;

/// All flights by what they ask.
pub(crate) struct Flights<T: Clone> {
    slots: Slots<T>,
    serial: AtomicU64,
}

struct Slot<T: Clone> {
    gathering: Option<(u64, WeakShared<BoxFuture<'static, T>>)>,
    under_way: Option<(u64, WeakShared<BoxFuture<'static, T>>)>,
    /// How many have joined any of its flights.
    joined: u64,
}

impl<T: Clone> Slot<T> {
    fn joinable(&self, join: Join) -> Option<Flight<T>> {
        let of = |flight: &Option<(u64, WeakShared<_>)>| flight.as_ref().and_then(|(_, weak)| weak.upgrade());
        of(&self.gathering).or_else(|| match join {
            Join::Any => of(&self.under_way),
            Join::BeforeDeparture => None,
        })
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Arc::default(), serial: AtomicU64::new(0) }
    }

    /// What the flight brings that asks `key`: one that may be joined, else a new one made by `fly`.
    pub(crate) async fn share<F>(
        &self,
        key: &Arc<str>,
        join: Join,
        fly: impl FnOnce() -> F + Send + 'static,
    ) -> T
    where
        F: Future<Output = T> + Send + 'static,
    {
        let flight = {
            let mut slots = self.slots.lock();
            let empty = || Slot { gathering: None, under_way: None, joined: 0 };
            let slot = slots.entry(key.clone()).or_insert_with(empty);
            slot.joined += 1;
            match slot.joinable(join) {
                Some(flight) => flight,
                None => {
                    let id = self.serial.fetch_add(1, Ordering::Relaxed);
                    let ahead = slot.under_way.as_ref().and_then(|(_, weak)| weak.upgrade());
                    let ticket = Ticket { slots: self.slots.clone(), key: key.clone(), id };
                    let flight = travel(ticket, ahead, fly).boxed().shared();
                    slot.gathering = flight.downgrade().map(|weak| (id, weak));
                    flight
                }
            }
        };
        flight.await
    }
}

async fn travel<T, F>(ticket: Ticket<T>, ahead: Option<Flight<T>>, fly: impl FnOnce() -> F + Send) -> T
where
    T: Clone + Send + Sync,
    F: Future<Output = T> + Send,
{
    match ahead {
        Some(ahead) => {
            let _ = tokio::time::timeout(GATHER_MAX, ahead).await;
        }
        None => gather(&ticket).await,
    }
    ticket.depart();
    fly().await
}

/// Lets everybody join who is ready to run this very moment.
async fn gather<T: Clone>(ticket: &Ticket<T>) {
    let mut joined = ticket.joined();
    for _ in 0..ROUNDS_MAX {
        Turn::new().await;
        let before = std::mem::replace(&mut joined, ticket.joined());
        if before == joined {
            break;
        }
    }
}

/// Lets everything else run that is ready. Unlike a plain yield it is not over before its time when the flight is
/// looked at by several of those who wait for it.
struct Turn {
    over: Arc<TurnOver>,
    yielding: Option<BoxFuture<'static, ()>>,
}

#[derive(Default)]
struct TurnOver {
    is_over: AtomicBool,
    waker: AtomicWaker,
}

impl ArcWake for TurnOver {
    fn wake_by_ref(turn: &Arc<Self>) {
        turn.is_over.store(true, Ordering::Release);
        turn.waker.wake();
    }
}

impl Turn {
    fn new() -> Self {
        Self { over: Arc::default(), yielding: Some(Box::pin(tokio::task::yield_now())) }
    }
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.over.waker.register(cx.waker());
        if let Some(mut yielding) = self.yielding.take() {
            // It is looked at once, to have the turn's own waker called when everybody had a turn.
            let waker = futures::task::waker(self.over.clone());
            let _ = yielding.as_mut().poll(&mut Context::from_waker(&waker));
        }
        if self.over.is_over.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A flight's entry; gone when the flight has landed or nobody waits for it any more.
struct Ticket<T: Clone> {
    slots: Slots<T>,
    key: Arc<str>,
    id: u64,
}

impl<T: Clone> Ticket<T> {
    fn joined(&self) -> u64 {
        self.slots.lock().get(&self.key).map_or(0, |slot| slot.joined)
    }

    fn depart(&self) {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get_mut(&self.key)
            && slot.gathering.as_ref().is_some_and(|(id, _)| *id == self.id)
        {
            slot.under_way = slot.gathering.take();
        }
    }
}

impl<T: Clone> Drop for Ticket<T> {
    fn drop(&mut self) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(&self.key) else { return };
        let is_mine = |flight: &mut (u64, _)| flight.0 == self.id;
        let _ = slot.gathering.take_if(is_mine);
        let _ = slot.under_way.take_if(|flight| flight.0 == self.id);
        if slot.gathering.is_none() && slot.under_way.is_none() {
            slots.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn key() -> Arc<str> {
        "k".into()
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_come_at_once_share_one_flight() {
        let flights = Flights::new();
        let flown = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let flown = flown.clone();
            let key = key();
            let flights = &flights;
            async move {
                let fly = move || async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    flown.fetch_add(1, Ordering::Relaxed)
                };
                flights.share(&key, Join::BeforeDeparture, fly).await
            }
        };
        let brought = futures::future::join_all((0..1000).map(|_| ask())).await;
        assert_eq!(brought, vec![0; 1000]);
        assert_eq!(flown.load(Ordering::Relaxed), 1);
        assert!(flights.slots.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flight_that_has_left_is_joined_only_by_those_who_may() {
        let (flights, key) = (Flights::new(), key());
        let fly = |number: u8| {
            move || async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                number
            }
        };
        let later = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let any = flights.share(&key, Join::Any, fly(2));
            futures::join!(flights.share(&key, Join::BeforeDeparture, fly(3)), any)
        };
        let (first, (fresh, any)) = futures::join!(flights.share(&key, Join::Any, fly(1)), later);
        // Whoever takes any flight takes the one that gathers, if there is one: it is newer.
        assert_eq!((first, fresh, any), (1, 3, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flight_that_hangs_does_not_hold_up_the_next() {
        let (flights, key) = (Flights::new(), key());
        let hanging = flights.share(&key, Join::Any, futures::future::pending::<u8>);
        let next = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            flights.share(&key, Join::BeforeDeparture, || async { 2 }).await
        };
        let either = futures::future::select(Box::pin(hanging), Box::pin(next)).await;
        assert!(matches!(either, futures::future::Either::Right((2, _))));
        drop(either);
        assert!(flights.slots.lock().is_empty(), "a flight nobody waits for leaves nothing behind");
    }
}
