//! Histories of clients while servers are killed, stopped and cut off: each must be one that a single machine doing
//! one thing at a time could have given. Writes without a clear answer count as unknown.
//!
//! `TRIBUNE_CHAOS_SECONDS` says how long each storm lasts. Default reads are not linearizable in Consul when a
//! leader is stopped or cut off; against it only consistent reads are made. That the storms find something is seen
//! when stale reads are passed off as others.

mod faults;
mod kv;
mod locks;
mod registrations;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::IndexedRandom;
use tribune_integration::linear::{Event, Model, Verdict, check};
use tribune_integration::{Answer, ClusterSettings, Network, Program, Request, TestCluster, Until};

use faults::Faults;

const SERVERS: usize = 3;
const CLIENTS: usize = 6;
const SECONDS: u64 = 15;
/// Objects that clients use at one time.
const OBJECTS: u64 = 4;
/// After this clients go on to fresh objects, so that no history grows too long to be judged.
const EPOCH: Duration = Duration::from_secs(4);
/// A request that takes longer has an unknown outcome. Shorter than a fault, so that many have.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// Pause of a client between two requests, at most; ten times that after a failure.
const PAUSE_MS_MAX: u64 = 12;
/// Share of histories that may be too tangled to judge.
const UNDECIDED_MAX: f64 = 0.1;

/// What a client was told.
enum Told<C> {
    /// This, for certain.
    Known(C),
    /// Nothing certain about a call that may change something.
    Unknown(C),
    /// Nothing, and nothing can have changed.
    Nothing,
}

/// One server as a client sees it for one request.
struct Door {
    server: SocketAddr,
    /// The ways to read, one of which is chosen each time.
    reads: &'static [&'static str],
}

const CONSISTENT: &[&str] = &["?consistent"];
const DEFAULT_TOO: &[&str] = &["?consistent", ""];
/// Not linearizable: for the test of these tests.
const STALE: &[&str] = &["?stale"];

/// The histories of all objects, by name.
type Histories<C> = BTreeMap<String, Vec<Event<C>>>;

/// Three servers, in namespaces where possible. The servers end before the network does.
struct Storm {
    cluster: TestCluster,
    network: Option<Network>,
    /// Storms so far: each has objects of its own.
    count: usize,
}

/// What the clients of one storm have in common.
struct Weather {
    number: usize,
    servers: Vec<SocketAddr>,
    reads: &'static [&'static str],
    started: Instant,
    over: AtomicBool,
}

impl Storm {
    fn prepare() -> Self {
        let network = Network::create(SERVERS);
        let hosts = network.as_ref().map(|network| network.hosts().to_vec()).unwrap_or_default();
        let settings = ClusterSettings { servers: SERVERS, hosts, ..ClusterSettings::default() };
        Self { cluster: TestCluster::start_with(settings).unwrap(), network, count: 0 }
    }

    /// Lets clients work while faults happen; what they were told must be linearizable.
    fn rage<M, C>(&mut self, new_client: impl Fn(usize) -> C + Sync)
    where
        M: Model,
        M::Call: Debug + Clone + Send,
        C: FnMut(&Door, &str) -> Told<M::Call>,
    {
        let reads = if Program::under_test().is_consul() { CONSISTENT } else { DEFAULT_TOO };
        match self.rage_with::<M, C>(reads, new_client) {
            Ok(summary) => println!("{summary}"),
            Err(violation) => panic!("{violation}"),
        }
    }

    /// The same with these reads: what happened, or what was wrong.
    fn rage_with<M, C>(
        &mut self,
        reads: &'static [&'static str],
        new_client: impl Fn(usize) -> C + Sync,
    ) -> Result<String, String>
    where
        M: Model,
        M::Call: Debug + Clone + Send,
        C: FnMut(&Door, &str) -> Told<M::Call>,
    {
        let seconds = std::env::var("TRIBUNE_CHAOS_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
        self.count += 1;
        let weather = Weather {
            number: self.count,
            servers: self.cluster.server_addresses(),
            reads,
            started: Instant::now(),
            over: AtomicBool::new(false),
        };
        let histories = Mutex::new(Histories::new());
        let mut faults = Faults::new(&mut self.cluster, self.network.as_ref());
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (weather, histories, new_client) = (&weather, &histories, &new_client);
                scope.spawn(move || work::<M, C>(new_client(client), weather, histories));
            }
            let _until = Until(&weather.over);
            faults.happen(Duration::from_secs(seconds));
        });
        let seen = faults.seen().to_owned();
        let histories = histories.into_inner().unwrap();
        judge::<M>(&histories, &seen)
    }
}

/// One client until the storm is over.
fn work<M, C>(mut client: C, weather: &Weather, histories: &Mutex<Histories<M::Call>>)
where
    M: Model,
    C: FnMut(&Door, &str) -> Told<M::Call>,
{
    let Weather { number, servers, reads, started, over } = weather;
    let mut random = rand::rng();
    let clock = || u64::try_from(started.elapsed().as_nanos()).unwrap();
    while !over.load(Ordering::Relaxed) {
        let epoch = started.elapsed().as_nanos() / EPOCH.as_nanos();
        let object = format!("chaos-{number}-{epoch}-{}", random.random_range(0..OBJECTS));
        let door = Door { server: *servers.choose(&mut random).unwrap(), reads };
        let sent = clock();
        let told = client(&door, &object);
        let event = match told {
            Told::Known(call) => Some(Event { call, sent, answered: Some(clock()) }),
            Told::Unknown(call) => Some(Event { call, sent, answered: None }),
            Told::Nothing => None,
        };
        let failed = event.as_ref().is_none_or(|event| event.answered.is_none());
        if let Some(event) = event {
            histories.lock().unwrap().entry(object).or_default().push(event);
        }
        let pause = random.random_range(0..=PAUSE_MS_MAX) * if failed { 10 } else { 1 };
        thread::sleep(Duration::from_millis(pause));
    }
}

fn judge<M>(histories: &Histories<M::Call>, faults: &[String]) -> Result<String, String>
where
    M: Model,
    M::Call: Debug + Clone,
{
    let known = |event: &&Event<M::Call>| event.answered.is_some();
    let (all, answered): (usize, usize) = histories.values().fold((0, 0), |(all, answered), history| {
        (all + history.len(), answered + history.iter().filter(known).count())
    });
    let mut undecided = 0;
    for (object, history) in histories {
        match check::<M>(history) {
            Verdict::Linearizable => {}
            Verdict::Undecided => undecided += 1,
            Verdict::Violated(call) => {
                let (call, story) = (&history[call], story(history));
                return Err(format!(
                    "{object} is not linearizable, look at {call:#?} in\n{story}\nfaults: {faults:#?}"
                ));
            }
        }
    }
    let summary = format!(
        "{} objects, {all} calls, {answered} answered, {undecided} objects undecided, faults: {faults:#?}",
        histories.len()
    );
    if answered <= all / 4 {
        return Err(format!("too few answers, the storm tests nothing: {summary}"));
    }
    if undecided as f64 > histories.len() as f64 * UNDECIDED_MAX {
        return Err(format!("too many histories are too tangled to judge: {summary}"));
    }
    Ok(summary)
}

/// A history as lines, in the order of sending.
fn story<C: Debug + Clone>(history: &[Event<C>]) -> String {
    let mut sorted = history.to_vec();
    sorted.sort_by_key(|event| event.sent);
    let micros = |nanos: u64| nanos / 1000;
    let lines = sorted.iter().map(|Event { call, sent, answered }| {
        let answered = answered.map_or("?".to_owned(), |answered| micros(answered).to_string());
        format!("{:>10} – {answered:>10} {call:?}\n", micros(*sent))
    });
    lines.collect()
}

impl Door {
    /// Asks; `None` when there was no good answer.
    fn read(&self, target: &str) -> Option<Answer> {
        let how = self.reads.choose(&mut rand::rng())?;
        let request = Request::new("GET", &format!("{target}{how}"));
        let answer = request.send_within(self.server, REQUEST_LIMIT).ok()?;
        matches!(answer.status, 200 | 404).then_some(answer)
    }

    /// Writes: what a good answer says, whether it may have been done without one, or that it cannot have been.
    fn write(&self, method: &str, target: &str, body: &str) -> Written {
        match Request::new(method, target).body(body).send_within(self.server, REQUEST_LIMIT) {
            Ok(answer) if answer.status == 200 => Written::Answered(answer.text().trim() == "true"),
            Ok(_) => Written::Unknown,
            Err(error) if format!("{error:#}").contains("Connection refused") => Written::Never,
            Err(_) => Written::Unknown,
        }
    }
}

enum Written {
    Answered(bool),
    Unknown,
    Never,
}
