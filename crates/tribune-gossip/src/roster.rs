//! Everybody this node knows of: what the protocol said about each, since when, and the list that is shown. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tribune_core::Folded;

use crate::bulletin::Bulletin;
use crate::member::{Facts, Key, Member, Peer, Status};

/// How much a new measurement counts against the smoothed round-trip time.
const ROUND_TRIP_WEIGHT: u32 = 4;

/// What is known of one member, beside its facts.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) peer: Peer,
    pub(crate) active: bool,
    /// It said good-bye, or was dismissed.
    pub(crate) left: bool,
    pub(crate) since: Instant,
    pub(crate) round_trip: Option<Duration>,
}

impl Entry {
    /// How the member is, given what it last said of itself.
    pub(crate) fn status(&self, leaving: bool) -> Status {
        match (self.active, self.left || leaving) {
            (true, _) if leaving => Status::Leaving,
            (true, _) => Status::Alive,
            (false, true) => Status::Left,
            (false, false) => Status::Failed,
        }
    }
}

/// Two living members that cannot both be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) shown: Member,
    pub(crate) hidden: Member,
}

/// Everybody known, this node included.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    entries: BTreeMap<Key, Entry>,
    active: usize,
}

impl Roster {
    pub(crate) fn get(&self, key: Key) -> Option<&Entry> {
        self.entries.get(&key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many are there, this node included.
    pub(crate) fn active(&self) -> usize {
        self.active
    }

    /// A member is there. Says how it was before, if it was known.
    pub(crate) fn up(&mut self, peer: Peer, now: Instant) -> Option<Entry> {
        let before = self.entries.get(&peer.key).cloned();
        let since = before.as_ref().filter(|it| it.active).map_or(now, |it| it.since);
        let round_trip = before.as_ref().and_then(|it| it.round_trip);
        self.put(Entry { peer, active: true, left: false, since, round_trip });
        before
    }

    /// A member is not there any more. Says whether it was.
    pub(crate) fn down(&mut self, peer: Peer, now: Instant) -> bool {
        let Some(entry) = self.entries.get(&peer.key).filter(|it| it.active).cloned() else { return false };
        self.put(Entry { peer, active: false, left: false, since: now, ..entry });
        true
    }

    /// A member was not there for a while when this node first heard of it.
    pub(crate) fn bury(&mut self, peer: Peer, left: bool, since: Instant) {
        self.put(Entry { peer, active: false, left, since, round_trip: None });
    }

    /// A member lives on under another identity.
    pub(crate) fn renamed(&mut self, peer: Peer) {
        if let Some(entry) = self.entries.get_mut(&peer.key) {
            entry.peer = peer;
        }
    }

    /// A member that failed will not come back. Says whether that is news.
    pub(crate) fn dismiss(&mut self, key: Key, generation: u64, now: Instant) -> bool {
        let dismissed =
            |entry: &&mut Entry| !entry.active && !entry.left && entry.peer.generation <= generation;
        let Some(entry) = self.entries.get_mut(&key).filter(dismissed) else { return false };
        entry.left = true;
        entry.since = now;
        true
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.active -= usize::from(entry.active);
        Some(entry)
    }

    /// A round trip to a member took so long.
    pub(crate) fn measured(&mut self, key: Key, sample: Duration) {
        if let Some(entry) = self.entries.get_mut(&key) {
            let smooth = |old: Duration| (old * (ROUND_TRIP_WEIGHT - 1) + sample) / ROUND_TRIP_WEIGHT;
            entry.round_trip = Some(entry.round_trip.map_or(sample, smooth));
        }
    }

    /// Those who are away for too long.
    pub(crate) fn overdue(
        &self,
        now: Instant,
        bulletin: &Bulletin,
        failed: Duration,
        left: Duration,
    ) -> Vec<Peer> {
        let overdue = |entry: &&Entry| {
            let leaving = bulletin.facts(entry.peer.key).is_some_and(|facts| facts.leaving);
            let away = now.duration_since(entry.since);
            match entry.status(leaving) {
                Status::Failed => away >= failed,
                Status::Left => away >= left,
                Status::Alive | Status::Leaving => false,
            }
        };
        self.iter().filter(overdue).map(|entry| entry.peer).collect()
    }

    /// Those who are away and may be forgotten because somebody living took their name.
    pub(crate) fn succeeded(&self, bulletin: &Bulletin) -> Vec<Peer> {
        let facts = |entry: &Entry| bulletin.facts(entry.peer.key).cloned();
        let living = self.iter().filter(|it| it.active).filter_map(facts).map(|it| Folded::new(&it.name));
        let living: std::collections::BTreeSet<Folded> = living.collect();
        let away = self.iter().filter(|it| !it.active);
        away.filter(|it| facts(it).is_some_and(|facts| living.contains(&Folded::new(&facts.name))))
            .map(|it| it.peer)
            .collect()
    }

    /// The list that is shown, sorted by name: whose facts are not known is not in it, and of several of one name
    /// the one that lives, or lives longest.
    pub(crate) fn shown(&self, bulletin: &Bulletin) -> (Vec<Member>, Vec<Conflict>) {
        let mut by_name: BTreeMap<Folded, (u64, Member)> = BTreeMap::new();
        let mut conflicts = Vec::new();
        for entry in self.iter() {
            let Some(facts) = bulletin.facts(entry.peer.key) else { continue };
            let candidate = (entry.peer.generation, member(entry, facts));
            let name = Folded::new(&facts.name);
            let Some(holder) = by_name.remove(&name) else {
                by_name.insert(name, candidate);
                continue;
            };
            let (shown, hidden) =
                if precedes(&candidate, &holder) { (candidate, holder) } else { (holder, candidate) };
            if is_there(&hidden.1) {
                conflicts.push(Conflict { shown: shown.1.clone(), hidden: hidden.1 });
            }
            by_name.insert(name, shown);
        }
        (by_name.into_values().map(|(_, member)| member).collect(), conflicts)
    }

    fn put(&mut self, entry: Entry) {
        self.active += usize::from(entry.active);
        if let Some(before) = self.entries.insert(entry.peer.key, entry) {
            self.active -= usize::from(before.active);
        }
    }
}

fn is_there(member: &Member) -> bool {
    matches!(member.status, Status::Alive | Status::Leaving)
}

/// Who of two of one name is shown: the living before the dead, of two living the older, of two dead the younger.
fn precedes(one: &(u64, Member), two: &(u64, Member)) -> bool {
    match (is_there(&one.1), is_there(&two.1)) {
        (true, true) => one.0 < two.0,
        (false, false) => one.0 > two.0,
        (one, _) => one,
    }
}

fn member(entry: &Entry, facts: &Facts) -> Member {
    Member {
        name: facts.name.clone(),
        id: facts.id.clone(),
        datacenter: facts.datacenter.clone(),
        address: entry.peer.address,
        tags: facts.tags.clone(),
        status: entry.status(facts.leaving),
        since: entry.since,
        round_trip: entry.round_trip,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tribune_core::Datacenter;

    use super::*;

    fn facts(name: &str, id: &str) -> Facts {
        let datacenter = Datacenter::new("dc1").unwrap();
        Facts {
            name: name.into(),
            id: id.into(),
            datacenter,
            tags: Default::default(),
            leaving: false,
            version: 1,
        }
    }

    fn peer(name: &str, id: &str, generation: u64) -> Peer {
        let address = SocketAddr::from(([10, 0, 0, 1], generation as u16));
        Peer { key: Key::of(name, id), address, generation }
    }

    fn statuses(roster: &Roster, bulletin: &Bulletin) -> Vec<String> {
        let shown = roster.shown(bulletin).0;
        shown.iter().map(|member| format!("{} {} {}", member.name, member.id, member.status)).collect()
    }

    #[test]
    fn a_member_is_shown_once_its_facts_are_known() {
        let mut bulletin = Bulletin::new(facts("me", "0"), 0);
        let mut roster = Roster::default();
        roster.up(peer("me", "0", 1), Instant::now());
        roster.up(peer("a", "1", 1), Instant::now());
        assert_eq!(statuses(&roster, &bulletin), ["me 0 alive"]);
        bulletin.take_facts(facts("a", "1"));
        assert_eq!(statuses(&roster, &bulletin), ["a 1 alive", "me 0 alive"]);
        assert_eq!(roster.active(), 2);
    }

    #[test]
    fn left_and_failed_are_told_apart() {
        let now = Instant::now();
        let mut bulletin = Bulletin::new(facts("me", "0"), 0);
        let mut roster = Roster::default();
        for (name, leaving) in [("a", false), ("b", true), ("c", false)] {
            bulletin.take_facts(Facts { leaving, ..facts(name, "1") });
            roster.up(peer(name, "1", 1), now);
        }
        assert_eq!(statuses(&roster, &bulletin), ["a 1 alive", "b 1 leaving", "c 1 alive"]);
        for name in ["a", "b", "c"] {
            assert!(roster.down(peer(name, "1", 1), now));
        }
        assert!(!roster.down(peer("a", "1", 1), now));
        assert!(roster.dismiss(Key::of("c", "1"), 1, now));
        assert!(!roster.dismiss(Key::of("c", "1"), 1, now));
        assert_eq!(statuses(&roster, &bulletin), ["a 1 failed", "b 1 left", "c 1 left"]);
        assert_eq!(roster.active(), 0);
        let hour = Duration::from_secs(3600);
        let overdue = |hours| roster.overdue(now + hour * hours, &bulletin, hour * 72, hour * 24).len();
        assert_eq!([23, 24, 71, 72].map(overdue), [0, 2, 2, 3]);
    }

    #[test]
    fn of_one_name_the_living_is_shown_and_the_dead_forgotten() {
        let now = Instant::now();
        let mut bulletin = Bulletin::new(facts("me", "0"), 0);
        let mut roster = Roster::default();
        for (id, generation) in [("1", 1), ("2", 2)] {
            bulletin.take_facts(facts("web", id));
            roster.up(peer("web", id, generation), now);
        }
        let (shown, conflicts) = roster.shown(&bulletin);
        assert_eq!((shown[0].id.as_str(), conflicts.len()), ("1", 1), "two living: the older stays");
        assert_eq!(conflicts[0].hidden.id, "2");
        roster.down(peer("web", "1", 1), now);
        assert_eq!(statuses(&roster, &bulletin), ["web 2 alive"]);
        assert_eq!(roster.succeeded(&bulletin), [peer("web", "1", 1)]);
    }

    #[test]
    fn round_trips_are_smoothed() {
        let mut roster = Roster::default();
        let it = peer("a", "1", 1);
        roster.up(it, Instant::now());
        roster.measured(it.key, Duration::from_millis(10));
        roster.measured(it.key, Duration::from_millis(50));
        assert_eq!(roster.get(it.key).unwrap().round_trip, Some(Duration::from_millis(20)));
    }
}
