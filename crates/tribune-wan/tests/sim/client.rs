//! A client of one datacenter, which asks for others the whole time and knows what it may be told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};
use tower::ServiceExt;
use tribune_core::{Folded, Topic};
use tribune_wan::SliceError;

use crate::gateway::{Alive, SLICE_STALE_MAX};
use crate::network::SILENCE_MAX;
use crate::oracle::Verdict;
use crate::site::{LOCAL_PATH, NO_LEADER, SERVICE, SERVICE_PATH, Site, WRITE_PATH, version_of};
use crate::world::World;

/// A question that cannot be answered ends within this time at no distance: the way straight there, one around it and
/// a last one that begins at the last moment, and a flight that is waited for before.
const UNREACHABLE_MAX: Duration = Duration::from_millis(1_600);
/// How long an answer may take from somebody who was there three seconds ago: a write may meet one connection that is
/// dead and not known to be.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Every question that does not wait ends within this time, however slowly the other side answers while it shows
/// that it is there: one answer's time straight, one around, and both once more when an answer breaks off.
const PLAIN_MAX: Duration = Duration::from_secs(45);
/// A write is sent once, after ways that were found closed, and waits for its answer straight and on one way around.
const WRITE_MAX: Duration = Duration::from_secs(25);
/// What a blocking question may take beyond its wait and the sixteenth that servers add.
const WAIT_BEYOND_MAX: Duration = Duration::from_secs(45);
/// How old what a flight under way brings may be, for those who join it.
const FLIGHT_MAX: Duration = Duration::from_secs(45);
/// What the way takes that a change travels before it is seen, and what lies between two answers.
const NEWS_TRAVEL_MAX: Duration = Duration::from_millis(500);
/// What counts as current: signs of life come once a second.
const CURRENT_MAX: Duration = Duration::from_secs(2);
/// How old an answer may be that is given because no newer one can be had, where the client does not say.
const STALE_MAX: u64 = 600;
/// How old a kept answer may be where the client does not say.
const AGE_MAX: u64 = 10;
/// How long a slice is waited for.
const SLICE_MAX: Duration = Duration::from_secs(3);
/// A datacenter nobody has.
const NOWHERE: &str = "nowhere";

const UNREACHABLE: &str = "Remote DC has no server currently reachable";
const NO_PATH: &str = "No path to datacenter";
const UNSURE: &str = "it is not known whether this was carried out";
const NOT_FEDERATED: &str = "is not federated with";
const BROKE_OFF: &str = "the answer broke off";

pub(crate) struct Client {
    world: Arc<World>,
    number: u64,
    home: usize,
    dice: StdRng,
    writes: u64,
    /// The index last seen of each datacenter, with the version it stood for.
    seen: BTreeMap<usize, (u64, u64)>,
}

/// An answer, and when it was asked for.
struct Said {
    status: u16,
    headers: HeaderMap,
    body: String,
    sent: Instant,
    /// Whether nobody could have answered the whole time.
    alone: bool,
    /// What distances add to the time in which that is found out.
    distance: Duration,
    /// Whether the gateway knew of the datacenter the whole time.
    knew: bool,
}

impl Said {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }
}

impl Client {
    pub(crate) fn new(world: Arc<World>, number: u64, home: usize) -> Self {
        let dice = StdRng::seed_from_u64(world.seed ^ (number + 1) << 20);
        Self { world, number, home, dice, writes: 0, seen: BTreeMap::new() }
    }

    /// Asks until it is told to end.
    pub(crate) async fn run(mut self) {
        while !self.world.is_calm() {
            sleep(Duration::from_millis(self.dice.random_range(20..1_500))).await;
            let Some(gateway) = self.world.any_alive(self.home, &mut self.dice) else { continue };
            let other = self.dice.random_range(1..self.world.sites.len());
            let target = (self.home + other) % self.world.sites.len();
            match self.dice.random_range(0..20) {
                0..2 => self.ask_home(&gateway).await,
                2..6 => self.ask_plain(&gateway, target).await,
                6 => self.ask_stale(&gateway, target).await,
                7..12 => self.ask_cached(&gateway, target).await,
                12..14 => self.wait_for_news(&gateway, target).await,
                14..17 => self.write(&gateway, target).await,
                17 => self.ask_slice(&gateway, target).await,
                18 => self.look_at_summaries(&gateway),
                _ => self.ask_nowhere(&gateway).await,
            }
        }
    }

    fn site(&self, number: usize) -> &Arc<Site> {
        &self.world.sites[number]
    }

    fn expect(&self, holds: bool, what: impl FnOnce() -> String) {
        self.world.oracle.expect(holds, || format!("client {}: {}", self.number, what()));
    }

    /// The answer, unless the gateway ends before it.
    async fn ask(&self, gateway: &Alive, target: usize, request: Request<Full<Bytes>>) -> Option<Said> {
        let (sent, asked) = (Instant::now(), format!("{} {}", request.method(), request.uri()));
        let datacenter = self.site(target).name.clone();
        let known = || gateway.forwarder.datacenters().contains(&datacenter);
        let knew = known();
        let distance = self.world.distances(gateway, target);
        let answered = async {
            let response = match gateway.layer.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let (head, body) = response.into_parts();
            (head, body.collect().await)
        };
        let (head, body) = tokio::select! {
            biased;
            () = gateway.fate.over() => return None,
            answered = answered => answered,
        };
        let [there, here] = [target, self.home].map(|at| self.world.network.alone_since(&self.site(at).name));
        // Who is cut off in the middle waits for what was on its way around.
        let cut_off_meanwhile = here.is_some_and(|since| since > sent);
        let alone = target != self.home
            && !cut_off_meanwhile
            && [there, here].into_iter().flatten().any(|since| since <= sent);
        let knew = knew && known();
        let body = match body {
            Ok(body) => String::from_utf8(body.to_bytes().to_vec()).unwrap(),
            Err(error) => format!("{BROKE_OFF}: {error}"),
        };
        let (status, headers) = (head.status.as_u16(), head.headers);
        let kept = ["x-cache", "age", "x-consul-knownleader"].map(|name| headers.get(name));
        self.world.oracle.note(&format!("client {} asked {asked}: {status} {body} {kept:?}", self.number));
        let ours = headers.keys().all(|name| !name.as_str().starts_with("x-tribune-"));
        self.expect(ours, || format!("what nodes say to one another reached a client: {headers:?}"));
        Some(Said { status, headers, body, sent, alone, distance, knew })
    }

    fn get(&self, target: usize, more: &str) -> Request<Full<Bytes>> {
        let uri = format!("{SERVICE_PATH}?dc={}{more}", self.site(target).name);
        Request::get(uri).body(Full::default()).unwrap()
    }

    async fn ask_home(&self, gateway: &Alive) {
        let request = Request::get(LOCAL_PATH).body(Full::default()).unwrap();
        let Some(said) = self.ask(gateway, self.home, request).await else { return };
        let name = self.site(self.home).name.as_str();
        self.expect(said.status == 200 && said.body == name, || format!("home said {}", said.body));
        self.expect(said.sent.elapsed().is_zero(), || format!("home took {:?}", said.sent.elapsed()));
        let Some(own) = self.ask(gateway, self.home, self.get(self.home, "&stale")).await else { return };
        self.told(&own, self.home, own.sent);
        self.world.oracle.count("home");
    }

    async fn ask_plain(&mut self, gateway: &Alive, target: usize) {
        let Some(said) = self.ask(gateway, target, self.get(target, "")).await else { return };
        self.in_time("plain", &said, PLAIN_MAX);
        if let Some(version) = self.told(&said, target, said.sent) {
            self.seen.insert(target, (said.number("x-consul-index").unwrap(), version));
        }
    }

    async fn ask_stale(&self, gateway: &Alive, target: usize) {
        let Some(said) = self.ask(gateway, target, self.get(target, "&stale")).await else { return };
        self.in_time("stale", &said, PLAIN_MAX);
        self.told(&said, target, said.sent - FLIGHT_MAX);
    }

    async fn ask_cached(&mut self, gateway: &Alive, target: usize) {
        let max_age = [None, None, Some(1), Some(5), Some(30)][self.dice.random_range(0..5)];
        let if_error = [None, None, Some(20), Some(60)][self.dice.random_range(0..4)];
        let is_strict = self.dice.random_range(0..6) == 0;
        let control = [
            max_age.map(|age| format!("max-age={age}")),
            if_error.map(|age| format!("stale-if-error={age}")),
            is_strict.then(|| "must-revalidate".to_owned()),
        ];
        let control = control.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let mut request = self.get(target, "&cached");
        request.headers_mut().insert("cache-control", control.parse().unwrap());
        let Some(said) = self.ask(gateway, target, request).await else { return };
        self.in_time("cached", &said, PLAIN_MAX);
        match said.header("x-cache") {
            Some("HIT") => {
                let age = said.number("age");
                self.expect(age.is_some(), || "a kept answer without its age".to_owned());
                let age = age.unwrap_or_default();
                let is_last_good = said.header("x-consul-knownleader") == Some("false");
                let accepted = match (is_last_good, is_strict, max_age) {
                    (true, ..) => if_error.unwrap_or(STALE_MAX),
                    (false, true, _) => 0,
                    (false, false, given) => given.unwrap_or(AGE_MAX),
                };
                self.expect(age <= accepted, || format!("{age} s old, where {control:?} was asked for"));
                let given_up = is_last_good && if_error.is_none() && (is_strict || max_age.is_some());
                self.expect(!given_up, || format!("an old answer, where {control:?} was asked for"));
                // A connection may have been dead for as long as nobody could know, and ages are cut to seconds.
                let slack = CURRENT_MAX + SILENCE_MAX + NEWS_TRAVEL_MAX + Duration::from_secs(1);
                let known = Instant::now() - Duration::from_secs(age) - slack;
                self.told(&said, target, known);
                self.world.oracle.count(if is_last_good { "last good" } else { "hit" });
            }
            _ => {
                self.told(&said, target, said.sent - FLIGHT_MAX);
            }
        }
    }

    async fn wait_for_news(&mut self, gateway: &Alive, target: usize) {
        let Some((index, before)) = self.seen.get(&target).copied() else { return };
        let wait = self.dice.random_range(1..12);
        let request = self.get(target, &format!("&index={index}&wait={wait}s"));
        let Some(said) = self.ask(gateway, target, request).await else { return };
        let wait = Duration::from_secs(wait);
        self.in_time("waiting", &said, wait + wait / 16 + WAIT_BEYOND_MAX);
        let Some(version) = self.told(&said, target, said.sent - FLIGHT_MAX) else { return };
        let now = said.number("x-consul-index").unwrap();
        self.expect(now >= index && version >= before, || format!("index {index} led back to {now}"));
        self.seen.insert(target, (now, version));
        self.world.oracle.count("news");
    }

    async fn write(&mut self, gateway: &Alive, target: usize) {
        self.writes += 1;
        let id = self.number * 1_000_000 + self.writes;
        self.world.oracle.intend(target, id);
        let uri = format!("{WRITE_PATH}{id}?dc={}", self.site(target).name);
        let request = Request::put(uri).body(Full::from(id.to_string())).unwrap();
        let Some(said) = self.ask(gateway, target, request).await else {
            return self.world.oracle.judged(id, Verdict::Unknown);
        };
        self.in_time("write", &said, WRITE_MAX);
        let verdict = match said.status {
            200 if said.body.starts_with(BROKE_OFF) => Verdict::Unknown,
            200 => Verdict::Done,
            _ if said.body.contains(UNSURE) => Verdict::Unknown,
            _ => Verdict::NotDone,
        };
        match verdict {
            Verdict::Done => {
                let expected = format!("{} wrote", self.site(target).name);
                self.expect(said.body == expected, || format!("{expected} was expected, {} came", said.body));
            }
            Verdict::NotDone => self.refused(&said, target),
            Verdict::Unknown => {}
        }
        self.world.oracle.count(&format!("write {verdict:?}"));
        self.world.oracle.judged(id, verdict);
    }

    async fn ask_slice(&self, gateway: &Alive, target: usize) {
        let (sent, site) = (Instant::now(), self.site(target));
        let topic = Topic::Service(Folded::new(SERVICE));
        let fetched = tokio::select! {
            biased;
            () = gateway.fate.over() => return,
            fetched = gateway.slices.fetch(&site.name, &topic) => fetched,
        };
        let took = sent.elapsed();
        self.expect(took <= SLICE_MAX, || format!("a slice took {took:?}"));
        self.world.oracle.note(&format!(
            "client {} fetched a slice of {}: {}",
            self.number,
            site.name,
            fetched.is_ok()
        ));
        match fetched {
            Ok(state) => {
                let version = version_of(&state, site.name.as_str());
                self.expect(version.is_some(), || format!("a slice that is not of {}", site.name));
                self.is_true(
                    version.unwrap_or_default(),
                    target,
                    Instant::now() - SLICE_STALE_MAX - SILENCE_MAX,
                );
                self.world.oracle.count("slice");
            }
            Err(SliceError::Unreachable | SliceError::Unknown) => self.world.oracle.count("no slice"),
        }
    }

    fn look_at_summaries(&self, gateway: &Alive) {
        let now = Instant::now();
        for presence in gateway.summaries.of(SERVICE) {
            let site = self.world.sites.iter().find(|site| site.name == presence.datacenter).unwrap();
            let slack = match site.number == self.home {
                true => Duration::ZERO,
                // What changes more often than once a second is told together.
                false => CURRENT_MAX + SILENCE_MAX + NEWS_TRAVEL_MAX + Duration::from_secs(1),
            };
            let oldest = site.version_at(now - presence.age - slack);
            let total = presence.tally.total();
            let was_so = (oldest..=site.version()).any(|version| Site::instances(version) == total);
            self.expect(was_so, || format!("{} has {total} instances, {:?} ago?", site.name, presence.age));
        }
        self.world.oracle.count("summaries");
    }

    async fn ask_nowhere(&self, gateway: &Alive) {
        let request = Request::get(format!("{SERVICE_PATH}?dc={NOWHERE}")).body(Full::default()).unwrap();
        let Some(said) = self.ask(gateway, self.home, request).await else { return };
        self.expect(said.status == 500 && said.body.contains(NO_PATH), || {
            format!("nowhere said {}", said.body)
        });
        self.expect(said.sent.elapsed().is_zero(), || "nowhere is found out at once".to_owned());
    }

    /// A question has not taken longer than it may.
    fn in_time(&self, kind: &'static str, said: &Said, most: Duration) {
        let took = said.sent.elapsed();
        self.world.oracle.took(kind, took.as_millis());
        self.expect(took <= most, || format!("{kind} took {took:?}"));
        if said.alone {
            let (what, most) = match kind {
                "write" => ("unreachable for a write", UNREACHABLE_MAX + said.distance + ANSWER_MAX),
                "waiting" => ("unreachable for what waits", most),
                _ => ("unreachable", UNREACHABLE_MAX + said.distance),
            };
            self.world.oracle.took(what, took.saturating_sub(said.distance).as_millis());
            self.expect(took <= most, || format!("{kind} took {took:?} to find out that nobody is there"));
        }
    }

    /// What an answer tells is of the right datacenter, and was true at or after `known`. `None` for a refusal.
    fn told(&self, said: &Said, target: usize, known: Instant) -> Option<u64> {
        if said.status != 200 || said.body.starts_with(BROKE_OFF) {
            self.refused(said, target);
            return None;
        }
        let (name, version) = said.body.split_once(' ').unwrap_or_default();
        let (expected, version) = (self.site(target).name.as_str(), version.parse());
        self.expect(name == expected, || format!("asked for {expected}, and {} was told", said.body));
        let version = version.ok()?;
        self.is_true(version, target, known);
        self.world.oracle.count("answers");
        Some(version)
    }

    fn is_true(&self, version: u64, target: usize, known: Instant) {
        let site = self.site(target);
        let (oldest, newest) = (site.version_at(known), site.version());
        self.expect(version <= newest, || {
            format!("{}: version {version}, and {newest} is the newest", site.name)
        });
        self.expect(version >= oldest, || {
            let behind = known.elapsed();
            format!("{}: version {version}, where {oldest} was there {behind:?} ago already", site.name)
        });
    }

    /// A refusal says what is true.
    fn refused(&self, said: &Said, target: usize) {
        let text = said.body.as_str();
        let is_known = match (said.status, text) {
            (500, UNREACHABLE) => true,
            (500, NO_LEADER) => self.site(target).was_leaderless_since(said.sent - FLIGHT_MAX),
            (500, _) if text.contains(NO_PATH) => !said.knew,
            (403, _) if text.contains(NOT_FEDERATED) => self.world.was_unaware(target),
            _ => said.status == 500 && text.contains(BROKE_OFF),
        };
        self.expect(is_known, || {
            format!(
                "{} {text}, from {} for {}",
                said.status,
                self.site(self.home).name,
                self.site(target).name
            )
        });
        let refusals = [UNREACHABLE, NO_LEADER, NO_PATH, NOT_FEDERATED, BROKE_OFF];
        self.world.oracle.count(refusals.into_iter().find(|known| text.contains(known)).unwrap_or("refused"));
    }
}
