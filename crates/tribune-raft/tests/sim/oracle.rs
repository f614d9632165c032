//! What the clients know for certain, and one checker per promise.

use std::collections::{BTreeMap, BTreeSet};

use tribune_core::{NodeName, State};

/// A promise that was broken.
pub(crate) type Broken = String;

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Writes that every later default or consistent read must see, in the order this became known.
    must: Vec<u32>,
    known: BTreeSet<u32>,
    /// Writes that were certainly not done.
    refused: BTreeSet<u32>,
    /// All that were tried.
    tried: u32,
    leaders: BTreeMap<u64, String>,
    hashes: BTreeMap<u64, (String, String)>,
    /// The highest index that a default or consistent read gave.
    index: u64,
    pub(crate) unknown: u32,
}

/// What is known when a read begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    must: usize,
    index: u64,
}

pub(crate) fn holds(state: &State, number: u32) -> bool {
    state.has_instance(&NodeName::new(format!("node-{number}")).unwrap(), &crate::harness::instance_id("web"))
}

impl Oracle {
    pub(crate) fn next_write(&mut self) -> u32 {
        self.tried += 1;
        self.tried
    }

    pub(crate) fn acknowledged(&mut self, number: u32) {
        if self.known.insert(number) {
            self.must.push(number);
        }
    }

    pub(crate) fn refused(&mut self, number: u32) {
        self.refused.insert(number);
    }

    pub(crate) fn before(&self) -> Before {
        Before { must: self.must.len(), index: self.index }
    }

    /// Promise: a default or consistent read sees every write acknowledged or read before it began, and no lower
    /// index; what was refused is nowhere.
    pub(crate) fn check_read(&mut self, who: &str, before: Before, state: &State) -> Result<(), Broken> {
        for number in &self.must[..before.must] {
            if !holds(state, *number) {
                return Err(format!("BROKEN: a read on {who} misses the write {number}"));
            }
        }
        if state.index().0 < before.index {
            return Err(format!(
                "BROKEN: the index fell to {} on {who}, it was {}",
                state.index(),
                before.index
            ));
        }
        self.index = self.index.max(state.index().0);
        for number in 1..=self.tried {
            if holds(state, number) {
                if self.refused.contains(&number) {
                    return Err(format!("BROKEN: the write {number} was refused, but was done"));
                }
                self.acknowledged(number);
            }
        }
        Ok(())
    }

    /// Promise: one leader per term.
    pub(crate) fn check_leader(&mut self, term: u64, server: &str) -> Result<(), Broken> {
        let leader = self.leaders.entry(term).or_insert_with(|| server.to_owned());
        match leader == server {
            true => Ok(()),
            false => Err(format!("BROKEN: {leader} and {server} both lead in term {term}")),
        }
    }

    /// Promise: servers that have applied the same entries have the same state.
    pub(crate) fn check_hash(&mut self, index: u64, hash: String, server: &str) -> Result<(), Broken> {
        let (known, first) = self.hashes.entry(index).or_insert_with(|| (hash.clone(), server.to_owned()));
        match *known == hash {
            true => Ok(()),
            false => Err(format!("BROKEN: {first} and {server} have different states at index {index}")),
        }
    }

    pub(crate) fn writes(&self) -> usize {
        self.must.len()
    }
}
