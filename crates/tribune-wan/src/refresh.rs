//! Keeps hot entries of the cache fresh: one blocking query per entry to the other side, and one sign of life a
//! second per datacenter, by which entries know how old they are.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tribune_core::Datacenter;

use crate::body::NotCollected;
use crate::cache::{Answer, ForwardCache};
use crate::courier::KNOCK_PATH;
use crate::exchange::{Carrier, collect};
use crate::parcel::{self, Kind, Parcel};

/// How long the other side may stay silent about an entry: within this time a gateway that has gone without a word
/// is found out.
const WAIT: Duration = Duration::from_secs(30);
/// Pause between signs of life.
const PULSE: Duration = Duration::from_secs(1);
/// Pause after a failed query; doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest pause after a failed query.
const PAUSE_MAX: Duration = Duration::from_millis(1500);
/// Pause between two answers, so that an entry that changes all the time costs little.
const CHANGES_APART: Duration = Duration::from_millis(50);

/// Owner of the tasks that keep entries fresh; they end with it.
pub(crate) struct Refresher {
    tasks: Mutex<Tasks>,
    entries_max: usize,
    idle_max: Duration,
}

#[derive(Default)]
struct Tasks {
    keepers: JoinSet<Datacenter>,
    /// Per datacenter: how many entries are kept fresh, and who asks for signs of life.
    pulses: HashMap<Datacenter, (usize, AbortHandle)>,
    pulse_tasks: JoinSet<()>,
}

impl Tasks {
    fn reap(&mut self) {
        while let Some(ended) = self.keepers.try_join_next() {
            let Ok(datacenter) = ended else { continue };
            if let Some((entries, pulse)) = self.pulses.get_mut(&datacenter) {
                *entries -= 1;
                if *entries == 0 {
                    pulse.abort();
                    self.pulses.remove(&datacenter);
                }
            }
        }
        while self.pulse_tasks.try_join_next().is_some() {}
    }
}

impl Refresher {
    pub(crate) fn new(entries_max: usize, idle_max: Duration) -> Self {
        Self { tasks: Mutex::default(), entries_max, idle_max }
    }

    /// Has an entry kept fresh from now on, unless it is already or there are too many.
    pub(crate) fn keep(
        &self,
        carrier: &Arc<dyn Carrier>,
        cache: &Arc<Mutex<ForwardCache>>,
        datacenter: &Datacenter,
        parcel: &Parcel,
        key: &Arc<str>,
    ) {
        let mut tasks = self.tasks.lock();
        tasks.reap();
        if tasks.keepers.len() >= self.entries_max || !cache.lock().take_care(key) {
            return;
        }
        let keeper = Keeper {
            carrier: carrier.clone(),
            cache: cache.clone(),
            datacenter: datacenter.clone(),
            parcel: parcel.clone(),
            key: key.clone(),
            idle_max: self.idle_max,
        };
        tasks.keepers.spawn(keeper.run());
        let tasks = &mut *tasks;
        let pulse_tasks = &mut tasks.pulse_tasks;
        let start = || (0, pulse_tasks.spawn(pulse(carrier.clone(), datacenter.clone())));
        tasks.pulses.entry(datacenter.clone()).or_insert_with(start).0 += 1;
    }
}

/// Asks for a sign of life again and again.
async fn pulse(carrier: Arc<dyn Carrier>, datacenter: Datacenter) {
    loop {
        let knock = Parcel::internal(KNOCK_PATH, Bytes::new(), Kind::Read);
        // What matters is whether something came, which the carrier notes.
        drop(carrier.carry(&datacenter, knock).await);
        tokio::time::sleep(PULSE).await;
    }
}

/// What came of a question.
enum Asked {
    Answer(Answer),
    TooLong,
    Nothing,
}

struct Keeper {
    carrier: Arc<dyn Carrier>,
    cache: Arc<Mutex<ForwardCache>>,
    datacenter: Datacenter,
    parcel: Parcel,
    key: Arc<str>,
    idle_max: Duration,
}

impl Keeper {
    async fn run(self) -> Datacenter {
        let mut pause = PAUSE_MIN;
        // The answer has just come, and whatever changes from now on answers the query that is sent next.
        self.cache.lock().set_live(&self.key, true, None);
        loop {
            let index = self.cache.lock().next_index(&self.key, self.idle_max, Instant::now());
            let Some(index) = index else { return self.datacenter };
            match self.ask(index).await {
                Asked::Answer(answer) if answer.status == StatusCode::OK && answer.index.is_some() => {
                    pause = PAUSE_MIN;
                    self.keep(answer);
                    tokio::time::sleep(CHANGES_APART).await;
                }
                Asked::Answer(answer) if answer.is_no_answer() => {
                    pause = self.lose(pause).await;
                }
                Asked::Nothing => pause = self.lose(pause).await,
                Asked::Answer(_) | Asked::TooLong => {
                    // It is no longer answered, or not in a way that can be kept: the last answer is no longer true.
                    self.cache.lock().remove(&self.key);
                    return self.datacenter;
                }
            }
        }
    }

    /// The other side is away; gives the next pause after having made this one.
    async fn lose(&self, pause: Duration) -> Duration {
        let heard = self.carrier.heard(&self.datacenter);
        self.cache.lock().set_live(&self.key, false, heard);
        tokio::time::sleep(pause).await;
        (pause * 2).min(PAUSE_MAX)
    }

    fn keep(&self, answer: Answer) {
        let mut cache = self.cache.lock();
        cache.renew(&self.key, Arc::new(answer), Instant::now());
        cache.set_live(&self.key, true, None);
    }

    async fn ask(&self, index: u64) -> Asked {
        let mut parcel = self.parcel.clone();
        parcel.query = parcel::without(&parcel.query, &["index", "wait"]);
        parcel.query = parcel::with_pair(&parcel.query, "index", &index.to_string());
        parcel.query = parcel::with_pair(&parcel.query, "wait", &format!("{}s", WAIT.as_secs()));
        // While it stands, signs of life confirm the entry; whoever passes it on elsewhere would leave a gap.
        parcel.kind = Kind::Stand(WAIT);
        let Ok(response) = self.carrier.carry(&self.datacenter, parcel).await else { return Asked::Nothing };
        match collect(response).await {
            Ok(answer) => Asked::Answer(answer),
            Err(NotCollected::TooLong) => Asked::TooLong,
            Err(NotCollected::Broken(_)) => Asked::Nothing,
        }
    }
}
