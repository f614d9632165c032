//! A draft: everything an answer can be made of, the same for whoever asks. Which of it a client gets, and in
//! which order, is decided when the answer is rendered.

use super::name::Name;
use super::record::{Code, Data, Kind, Record};
use crate::ids::Index;
use crate::state::{State, Topic};

/// Most records copied from behind a host name into one answer.
pub(super) const COPIED_RECORDS_MAX: usize = 5;

/// What is known about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// How the question is answered.
    pub code: Code,
    /// Records that always go into the answer section.
    pub answer: Vec<Record>,
    /// Records that always go into the authority section.
    pub authority: Vec<Record>,
    /// Records that go into the additional section while there is room.
    pub additional: Vec<Record>,
    /// Records of which the client gets a choice.
    pub pool: Pool,
    /// Where the records of the pool go.
    pub pool_section: PoolSection,
    /// Most records taken from the pool by rule, not for lack of room.
    pub take: usize,
    /// What it was made from.
    pub depends: Depends,
}

/// A record with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The record asked for.
    pub answer: Record,
    /// Goes into the additional section along with it.
    pub extras: Vec<Record>,
    /// A host name outside our zone whose addresses are still to be found by others.
    pub outside: Option<Name>,
}

/// Alternatives for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pool {
    /// As many as there is room for, in random order.
    Shuffled(Vec<Unit>),
    /// As many as there is room for, in this order.
    Ordered(Vec<Unit>),
    /// One alternative at random: an alias with what is behind it, since a name has at most one alias.
    OneOf(Vec<Vec<Unit>>),
}

/// The section that the records of a pool belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolSection {
    /// They answer the question.
    Answer,
    /// They name the servers of the zone.
    Authority,
}

/// When a draft must be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Depends {
    /// When one of these topics is newer than noted. No topic: never.
    Topics(Vec<(Topic, Index)>),
    /// With every change of the state.
    Everything,
}

impl Depends {
    /// That of `topics` as they stand in `state`.
    pub(super) fn on(state: &State, topics: impl IntoIterator<Item = Topic>) -> Self {
        Self::Topics(topics.into_iter().map(|topic| (topic.clone(), state.index_of(&topic))).collect())
    }

    /// Both.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Topics(mut mine), Self::Topics(theirs)) => {
                for topic in theirs {
                    if !mine.contains(&topic) {
                        mine.push(topic);
                    }
                }
                Self::Topics(mine)
            }
            (Self::Everything, _) | (_, Self::Everything) => Self::Everything,
        }
    }

    /// Whether a draft made from an older state is still true in `state`.
    pub fn holds_in(&self, state: &State) -> bool {
        match self {
            Self::Topics(topics) => topics.iter().all(|(topic, index)| state.index_of(topic) == *index),
            Self::Everything => false,
        }
    }
}

impl Unit {
    /// A record with nothing that belongs to it.
    pub fn alone(answer: Record) -> Self {
        Self { answer, extras: Vec::new(), outside: None }
    }
}

impl Pool {
    /// Whether there is nothing to choose from.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Shuffled(units) | Self::Ordered(units) => units.is_empty(),
            Self::OneOf(sets) => sets.is_empty(),
        }
    }

    fn units(&self) -> Box<dyn Iterator<Item = &Unit> + '_> {
        match self {
            Self::Shuffled(units) | Self::Ordered(units) => Box::new(units.iter()),
            Self::OneOf(sets) => Box::new(sets.iter().flatten()),
        }
    }

    fn units_mut(&mut self) -> Box<dyn Iterator<Item = &mut Unit> + '_> {
        match self {
            Self::Shuffled(units) | Self::Ordered(units) => Box::new(units.iter_mut()),
            Self::OneOf(sets) => Box::new(sets.iter_mut().flatten()),
        }
    }
}

impl Draft {
    /// An answer without records.
    pub fn empty(code: Code, depends: Depends) -> Self {
        Self {
            code,
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            pool: Pool::Ordered(Vec::new()),
            pool_section: PoolSection::Answer,
            take: usize::MAX,
            depends,
        }
    }

    /// The host names outside our zone that stand in this draft, each once.
    pub fn outside_names(&self) -> Vec<Name> {
        let mut names: Vec<Name> = self.pool.units().filter_map(|unit| unit.outside.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Puts what others said about `name` behind every mention of it, with the TTL of the mention.
    pub fn supply(&mut self, name: &Name, found: &[Record]) {
        let usable = |record: &&Record| matches!(record.data, Data::A(_) | Data::Aaaa(_) | Data::Cname(_));
        let found: Vec<&Record> = found.iter().filter(usable).take(COPIED_RECORDS_MAX).collect();
        if let Pool::OneOf(sets) = &mut self.pool {
            for set in sets {
                let Some(alias) = set.iter_mut().find(|unit| unit.outside.as_ref() == Some(name)) else {
                    continue;
                };
                alias.outside = None;
                let ttl = alias.answer.ttl;
                set.extend(found.iter().map(|record| Unit::alone(Record { ttl, ..(*record).clone() })));
            }
            return;
        }
        for unit in self.pool.units_mut().filter(|unit| unit.outside.as_ref() == Some(name)) {
            let ttl = unit.answer.ttl;
            unit.outside = None;
            unit.extras.splice(0..0, found.iter().map(|record| Record { ttl, ..(*record).clone() }));
        }
    }

    /// The address and alias records for a question that led here by an alias from `name`.
    pub(super) fn behind(self, name: &Name, ttl: u32) -> Vec<Record> {
        use super::record::Owner;
        let units = match self.pool {
            Pool::Shuffled(units) | Pool::Ordered(units) => units,
            Pool::OneOf(sets) => sets.into_iter().next().unwrap_or_default(),
        };
        let records = self.answer.into_iter().chain(units.into_iter().map(|unit| unit.answer));
        let useful =
            records.filter(|record| matches!(record.data.kind(), Kind::A | Kind::AAAA | Kind::CNAME));
        let renamed = useful.map(|record| {
            let owner = match record.owner {
                Owner::Question => Owner::Name(name.clone()),
                Owner::Name(other) => Owner::Name(other),
            };
            Record { owner, ttl, data: record.data }
        });
        renamed.take(COPIED_RECORDS_MAX).collect()
    }
}
