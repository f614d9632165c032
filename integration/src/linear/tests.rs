//! The checker on histories with known verdicts, and beside the checker of todc-utils on random ones.

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use todc_utils::{Action, History, Specification, WGLChecker};

use super::kv::Key;
use super::*;

/// A call somewhere in a history that really happened: its kind, how long before and after it took, and what is
/// done to its answer.
type Seed = (u8, u8, u64, u64, Fate);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// Done, but nobody was told.
    Lost,
    /// Not done, and nobody was told.
    Undone,
    /// Answered with something that was not so.
    Forged,
}

/// Our model as the other checker wants it: the unknown must be done too, but may be done without effect.
struct Theirs<M>(PhantomData<M>);

impl<M: Model> Specification for Theirs<M>
where
    M::State: Debug,
    M::Call: Clone + Debug,
{
    type State = M::State;
    type Operation = (M::Call, bool);

    fn init() -> M::State {
        M::initial()
    }

    fn apply((call, known): &Self::Operation, state: &M::State) -> (bool, M::State) {
        match M::apply(state, call) {
            Some(after) => (true, after),
            None => (!known, state.clone()),
        }
    }
}

fn their_verdict<M: Model>(history: &[Event<M::Call>]) -> bool
where
    M::State: Debug,
    M::Call: Clone + Debug,
{
    let end =
        history.iter().flat_map(|event| [event.sent, event.answered.unwrap_or(0)]).max().unwrap_or(0) + 1;
    let mut actions = Vec::new();
    for (process, Event { call, sent, answered }) in history.iter().enumerate() {
        let operation = (call.clone(), answered.is_some());
        actions.push((*sent, 0, process, Action::Call(operation.clone())));
        actions.push((answered.unwrap_or(end), 1, process, Action::Response(operation)));
    }
    actions.sort_by_key(|(time, order, process, _)| (*time, *order, *process));
    let actions = actions.into_iter().map(|(_, _, process, action)| (process, action)).collect();
    WGLChecker::<Theirs<M>>::is_linearizable(History::from_actions(actions))
}

fn seeds() -> impl Strategy<Value = Vec<Seed>> {
    let fate = prop_oneof![
        12 => Just(Fate::Answered), 1 => Just(Fate::Lost), 1 => Just(Fate::Undone), 1 => Just(Fate::Forged)
    ];
    prop::collection::vec((0..12u8, 0..3u8, 0..35u64, 0..35u64, fate), 1..24)
}

/// Plays the seeds on a real object: `make` gives the call with its true answer, `forge` another one.
fn play<M: Model>(
    seeds: &[Seed],
    mut make: impl FnMut(usize, &Seed, &M::State) -> M::Call,
    forge: impl Fn(M::Call) -> M::Call,
    lose: impl Fn(M::Call) -> Option<M::Call>,
) -> Vec<Event<M::Call>> {
    let (mut state, mut history) = (M::initial(), Vec::new());
    for (number, seed) in seeds.iter().enumerate() {
        let (.., before, after, fate) = *seed;
        let now = 100 + 10 * number as u64;
        let call = make(number, seed, &state);
        if fate != Fate::Undone {
            state = M::apply(&state, &call).expect("a true answer fits");
        }
        let event = |call, answered| Event { call, sent: now - before, answered };
        match fate {
            Fate::Answered => history.push(event(call, Some(now + after))),
            Fate::Forged => history.push(event(forge(call), Some(now + after))),
            Fate::Lost | Fate::Undone => history.extend(lose(call).map(|call| event(call, None))),
        }
    }
    history
}

/// Index of the call `number`, as in the log.
fn index(number: usize) -> u64 {
    2 * number as u64 + 1
}

fn kv_history(seeds: &[Seed]) -> Vec<Event<KvCall>> {
    // What the key really is: value, and the index of the call that wrote it.
    let mut truth: Option<(u32, u64)> = None;
    let make = |number: usize, (kind, pick, .., fate): &Seed, _: &Key| {
        let (value, now) = (number as u32, Some((number as u32, index(number))));
        let (call, after) = match kind {
            0..4 => (KvCall::Read(truth), truth),
            4..7 => (KvCall::Put(value), now),
            7 => (KvCall::Delete, None),
            _ => {
                let expected = truth.map_or(0, |(_, index)| index).saturating_sub(u64::from(*pick));
                let fits = expected == truth.map_or(0, |(_, index)| index);
                (KvCall::Swap { expected, value, done: Some(fits) }, if fits { now } else { truth })
            }
        };
        if *fate != Fate::Undone {
            truth = after;
        }
        call
    };
    let forge = |call| match call {
        KvCall::Read(Some((value, index))) => KvCall::Read(Some((value.wrapping_sub(1), index - 1))),
        KvCall::Read(None) => KvCall::Read(Some((0, 1))),
        KvCall::Swap { expected, value, done } => {
            KvCall::Swap { expected, value, done: done.map(|done| !done) }
        }
        other => other,
    };
    let lose = |call| match call {
        KvCall::Read(_) => None,
        KvCall::Swap { expected, value, .. } => Some(KvCall::Swap { expected, value, done: None }),
        other => Some(other),
    };
    play::<Kv>(seeds, make, forge, lose)
}

fn lock_history(seeds: &[Seed]) -> Vec<Event<LockCall>> {
    let make = |_: usize, (kind, session, ..): &Seed, held: &<Lock as Model>::State| {
        let session = u32::from(*session);
        let answers = [true, false].map(Some).into_iter();
        let possible = |call: &LockCall| Lock::apply(held, call).is_some();
        let read = |holder: Option<u32>| {
            (0..64).map(move |acquired| LockCall::Read { holder, acquired }).find(possible)
        };
        match kind {
            0..5 => answers.map(|done| LockCall::Acquire { session, done }).find(possible),
            5..9 => answers.map(|done| LockCall::Release { session, done }).find(possible),
            _ => [None, Some(0), Some(1), Some(2)].into_iter().find_map(read),
        }
        .expect("some answer is true")
    };
    let forge = |call| match call {
        LockCall::Acquire { session, done } => LockCall::Acquire { session, done: done.map(|done| !done) },
        LockCall::Release { session, done } => LockCall::Release { session, done: done.map(|done| !done) },
        LockCall::Read { holder, acquired } => LockCall::Read { holder, acquired: acquired + 1 },
    };
    let lose = |call| match call {
        LockCall::Acquire { session, .. } => Some(LockCall::Acquire { session, done: None }),
        LockCall::Release { session, .. } => Some(LockCall::Release { session, done: None }),
        LockCall::Read { .. } => None,
    };
    play::<Lock>(seeds, make, forge, lose)
}

fn catalog_history(seeds: &[Seed]) -> Vec<Event<CatalogCall>> {
    let make = |number: usize, (kind, instance, ..): &Seed, service: &<Catalog as Model>::State| {
        let (instance, version) = (u32::from(*instance), number as u32);
        match kind {
            0..4 => CatalogCall::Register { instance, version },
            4..6 => CatalogCall::Deregister(instance),
            _ => CatalogCall::List(service.clone()),
        }
    };
    let forge = |call| match call {
        CatalogCall::List(mut found) => {
            if found.pop_first().is_none() {
                found.insert(0, 0);
            }
            CatalogCall::List(found)
        }
        other => other,
    };
    let lose = |call| (!matches!(call, CatalogCall::List(_))).then_some(call);
    play::<Catalog>(seeds, make, forge, lose)
}

fn judge<M: Model>(seeds: &[Seed], history: &[Event<M::Call>])
where
    M::State: Debug + Hash,
    M::Call: Clone + Debug,
{
    let ours = check::<M>(history);
    let honest = seeds.iter().all(|(.., fate)| *fate != Fate::Forged);
    assert!(!honest || ours == Verdict::Linearizable, "{ours:?}: {history:#?}");
    if !history.is_empty() {
        assert_eq!(ours == Verdict::Linearizable, their_verdict::<M>(history), "{ours:?}: {history:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn both_checkers_agree_on_keys(seeds in seeds()) {
        judge::<Kv>(&seeds, &kv_history(&seeds));
    }

    #[test]
    fn both_checkers_agree_on_locks(seeds in seeds()) {
        judge::<Lock>(&seeds, &lock_history(&seeds));
    }

    #[test]
    fn both_checkers_agree_on_the_catalog(seeds in seeds()) {
        judge::<Catalog>(&seeds, &catalog_history(&seeds));
    }
}

#[test]
fn forged_answers_are_often_found() {
    // Guards the tests above: a checker that accepts everything would agree with itself on honest histories.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut violated = [0; 3];
    for _ in 0..300 {
        let seeds = seeds().new_tree(&mut runner).unwrap().current();
        let verdicts = [
            check::<Kv>(&kv_history(&seeds)),
            check::<Lock>(&lock_history(&seeds)),
            check::<Catalog>(&catalog_history(&seeds)),
        ];
        for (count, verdict) in violated.iter_mut().zip(verdicts) {
            *count += usize::from(matches!(verdict, Verdict::Violated(_)));
        }
    }
    assert!(violated.iter().all(|count| *count > 30), "{violated:?} of 300");
}

fn event(call: KvCall, sent: u64, answered: u64) -> Event<KvCall> {
    Event { call, sent, answered: Some(answered) }
}

#[test]
fn a_stale_read_is_found() {
    let history =
        [event(KvCall::Put(1), 0, 1), event(KvCall::Put(2), 2, 3), event(KvCall::Read(Some((1, 5))), 4, 5)];
    assert_eq!(check::<Kv>(&history), Verdict::Violated(2));
}

#[test]
fn concurrent_writes_may_be_seen_in_either_order_but_in_one() {
    let writes = [event(KvCall::Put(1), 0, 10), event(KvCall::Put(2), 0, 10)];
    let reads = |first, second| {
        let reads = [event(KvCall::Read(Some(first)), 11, 12), event(KvCall::Read(Some(second)), 13, 14)];
        check::<Kv>(&[&writes[..], &reads].concat())
    };
    assert_eq!(reads((1, 5), (1, 5)), Verdict::Linearizable);
    assert_eq!(reads((2, 5), (2, 5)), Verdict::Linearizable);
    assert!(matches!(reads((1, 5), (2, 6)), Verdict::Violated(_)));
    assert!(matches!(reads((2, 5), (2, 6)), Verdict::Violated(_)), "an index changed by itself");
}

#[test]
fn an_unanswered_write_may_be_seen_later_or_never() {
    let lost = Event { call: KvCall::Put(2), sent: 2, answered: None };
    let after = |read| {
        check::<Kv>(&[event(KvCall::Put(1), 0, 1), lost.clone(), event(KvCall::Read(Some(read)), 10, 11)])
    };
    assert_eq!(after((1, 5)), Verdict::Linearizable);
    assert_eq!(after((2, 7)), Verdict::Linearizable);
    assert!(matches!(after((3, 7)), Verdict::Violated(_)));
}

#[test]
fn a_lost_update_is_found() {
    let swap = |value, sent| event(KvCall::Swap { expected: 5, value, done: Some(true) }, sent, sent + 1);
    let history =
        [event(KvCall::Put(1), 0, 1), event(KvCall::Read(Some((1, 5))), 2, 3), swap(2, 4), swap(3, 4)];
    assert!(matches!(check::<Kv>(&history), Verdict::Violated(_)));
}

#[test]
fn long_histories_take_no_time() {
    // Eight clients that overlap all the time, 4,000 calls on one key.
    let mut history = Vec::new();
    for number in 0..2000u64 {
        history.push(event(KvCall::Put(number as u32), number * 10, number * 10 + 9));
        history.push(event(
            KvCall::Read(Some((number as u32, number + 1))),
            number * 10 + 5,
            number * 10 + 39,
        ));
    }
    assert_eq!(check::<Kv>(&history), Verdict::Linearizable);
}
