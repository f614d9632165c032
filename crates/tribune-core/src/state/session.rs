//! Sessions: how they begin and end, what ends with them, and whose time is measured.
//!
//! A session ends inside the command that ends what it depends on: when its node goes, or one of its checks goes
//! or turns critical. Its keys are let go or removed, and nobody can have them until their delay has passed.
//! Time itself is not measured here: the leader looks at [`State::leases`] and proposes what has run out.

use std::sync::Arc;
use std::time::Duration;

use super::catalog::Change;
use super::tables::{Map, Set};
use super::topic::{Tombstones, Topic};
use super::{State, View};
use crate::command::Refusal;
use crate::ids::{Folded, Index};
use crate::kv::{KvEntry, KvKey};
use crate::lease::{Lease, Span};
use crate::model::{Status, Stored};
use crate::session::{Behavior, LOCK_DELAY_MAX, Session, SessionChange, SessionId, SessionRefusal};

/// The tables of sessions.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sessions {
    pub(super) by_id: Map<SessionId, Arc<Stored<Session>>>,
    /// Nodes that have sessions.
    pub(super) by_node: Map<Folded, NodeSessions>,
    /// Which sessions depend on which check of which node.
    bindings: Set<(Folded, Folded, SessionId)>,
    /// Which keys each session holds.
    held: Set<(SessionId, KvKey)>,
    /// Whose time the leader measures: sessions with a time to live, keys whose holder has ended.
    pub(super) leases: Map<Lease, Span>,
    /// The term of the leader that measures it.
    pub(super) lease_term: u64,
    /// When the list of sessions last changed.
    pub(super) index: Index,
    /// When the leases last changed.
    pub(super) leases_index: Index,
    pub(super) gone: Tombstones,
    pub(super) gone_nodes: Tombstones,
}

/// The sessions of one node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct NodeSessions {
    pub(super) index: Index,
    pub(super) ids: Set<SessionId>,
}

impl Sessions {
    /// Whether the last holder of the key ended so lately that nobody may have it yet.
    pub(super) fn is_delayed(&self, key: &KvKey) -> bool {
        self.leases.contains_key(&Lease::LockDelay(key.clone()))
    }

    /// Notes who holds a key.
    pub(super) fn move_key(&mut self, key: &KvKey, from: Option<&SessionId>, to: Option<&SessionId>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.held.remove(&(from.clone(), key.clone()));
        }
        if let Some(to) = to {
            self.held.insert((to.clone(), key.clone()));
        }
    }

    fn keys_of(&self, id: &SessionId) -> Vec<KvKey> {
        let held = self.held.range((id.clone(), KvKey::bound(""))..);
        held.take_while(|(holder, _)| holder == id).map(|(_, key)| key.clone()).collect()
    }

    /// The checks of a node that sessions depend on, each once. Looks them up one after the other, since thousands
    /// of sessions may depend on the same one.
    fn bound_checks(&self, node: &Folded) -> Vec<Folded> {
        let mut checks: Vec<Folded> = Vec::new();
        let mut from = (node.clone(), Folded::new(""), lowest());
        while let Some((found, check, _)) = self.bindings.range(from..).next()
            && found == node
        {
            checks.push(check.clone());
            // No name holds a control character, so nothing stands between a name and this.
            from = (node.clone(), Folded::new(&format!("{check}\u{0}")), lowest());
        }
        checks
    }

    fn bound_to(&self, node: &Folded, check: &Folded) -> Vec<SessionId> {
        let bound = self.bindings.range((node.clone(), check.clone(), lowest())..);
        let bound = bound.take_while(|(on, to, _)| on == node && to == check);
        bound.map(|(_, _, id)| id.clone()).collect()
    }

    /// Puts a session into all tables; what changed is left to the caller.
    pub(super) fn place(&mut self, session: Stored<Session>) {
        let (id, node) = (session.value.id.clone(), session.value.node.folded());
        for check in session.value.checks() {
            self.bindings.insert((node.clone(), check.folded(), id.clone()));
        }
        if let Some(ttl) = session.value.ttl {
            let span = Span { since: session.created, length: ttl };
            self.leases.insert(Lease::Session(id.clone()), span);
        }
        self.by_node.entry(node).or_default().ids.insert(id.clone());
        self.by_id.insert(id, Arc::new(session));
    }

    fn take(&mut self, id: &SessionId) -> Option<Arc<Stored<Session>>> {
        let session = self.by_id.remove(id)?;
        let node = session.value.node.folded();
        for check in session.value.checks() {
            self.bindings.remove(&(node.clone(), check.folded(), id.clone()));
        }
        self.leases.remove(&Lease::Session(id.clone()));
        if let Some(on_node) = self.by_node.get_mut(&node) {
            on_node.ids.remove(id);
            if on_node.ids.is_empty() {
                self.by_node.remove(&node);
            }
        }
        Some(session)
    }

    pub(super) fn index_of_node(&self, node: &Folded) -> Index {
        self.by_node.get(node).map_or_else(|| self.gone_nodes.index_of(node), |on_node| on_node.index)
    }

    pub(super) fn index_of_session(&self, id: &SessionId) -> Index {
        self.by_id.get(id).map_or_else(|| self.gone.index_of(&Folded::new(id.as_str())), |held| held.modified)
    }

    pub(super) fn set_session_index(&mut self, id: &SessionId, index: Index) {
        let key = Folded::new(id.as_str());
        if self.by_id.contains_key(id) { self.gone.forget(&key) } else { self.gone.add(key, index) }
    }

    pub(super) fn set_node_index(&mut self, node: &Folded, index: Index) {
        match self.by_node.get_mut(node) {
            Some(on_node) => {
                on_node.index = index;
                self.gone_nodes.forget(node);
            }
            None => self.gone_nodes.add(node.clone(), index),
        }
    }
}

/// Before every id.
fn lowest() -> SessionId {
    SessionId::bound()
}

impl Change<'_> {
    /// Makes a change, or says what stands against it; nothing is touched then.
    pub(super) fn session(&mut self, change: &SessionChange) -> Result<(), Refusal> {
        match change {
            SessionChange::Create(session) => self.create_session(session).map_err(Refusal::Session),
            SessionChange::Destroy(id) => {
                self.end_session(id);
                Ok(())
            }
            SessionChange::KeepLeases { term } => {
                if *term > self.state.sessions.lease_term {
                    self.state.sessions.lease_term = *term;
                    self.touched.insert(Topic::Leases);
                }
                Ok(())
            }
            SessionChange::Expire { term, sessions } => {
                if *term != self.state.sessions.lease_term {
                    return Err(Refusal::Session(SessionRefusal::Superseded));
                }
                sessions.iter().for_each(|id| self.end_session(id));
                Ok(())
            }
            SessionChange::EndDelays(delays) => {
                delays.iter().for_each(|(key, since)| self.end_delay(key, *since));
                Ok(())
            }
        }
    }

    fn create_session(&mut self, session: &Session) -> Result<(), SessionRefusal> {
        if let Some(held) = self.state.sessions.by_id.get(&session.id) {
            let is_same = held.value == *session;
            return if is_same { Ok(()) } else { Err(SessionRefusal::IdTaken(session.id.clone())) };
        }
        self.admit_session(session)?;
        self.touch_session(session);
        let stored = Stored { value: session.clone(), created: self.index, modified: self.index };
        self.state.sessions.place(stored);
        Ok(())
    }

    fn admit_session(&self, session: &Session) -> Result<(), SessionRefusal> {
        let Some(node) = self.state.nodes.get(&session.node.folded()) else {
            return Err(SessionRefusal::NoNode(session.node.clone()));
        };
        for id in session.checks() {
            match node.checks.get(&id.folded()) {
                None => return Err(SessionRefusal::NoCheck(id.clone())),
                Some(check) if check.value.status == Status::Critical => {
                    return Err(SessionRefusal::CriticalCheck(id.clone()));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn end_session(&mut self, id: &SessionId) {
        let Some(session) = self.state.sessions.take(id) else { return };
        let session = &session.value;
        self.touch_session(session);
        self.end_bound_queries(id);
        let length = session.lock_delay.min(LOCK_DELAY_MAX);
        for key in self.state.sessions.keys_of(id) {
            self.end_hold(&key, session.behavior);
            if length > Duration::ZERO {
                let span = Span { since: self.index, length };
                self.state.sessions.leases.insert(Lease::LockDelay(key), span);
                self.touched.insert(Topic::Leases);
            }
        }
    }

    fn end_hold(&mut self, key: &KvKey, behavior: Behavior) {
        match behavior {
            Behavior::Delete => self.remove_key(key),
            Behavior::Release => {
                if let Some(entry) = self.state.keys.entries.get(key) {
                    let freed = KvEntry { session: None, ..entry.value.clone() };
                    self.store_key(freed);
                }
            }
        }
    }

    fn end_delay(&mut self, key: &KvKey, since: Index) {
        let lease = Lease::LockDelay(key.clone());
        if self.state.sessions.leases.get(&lease).is_some_and(|span| span.since == since) {
            self.state.sessions.leases.remove(&lease);
            self.touched.insert(Topic::Leases);
        }
    }

    fn touch_session(&mut self, session: &Session) {
        self.touched.insert(Topic::Sessions);
        self.touched.insert(Topic::Session(session.id.clone()));
        self.touched.insert(Topic::NodeSessions(session.node.folded()));
        if session.ttl.is_some() {
            self.touched.insert(Topic::Leases);
        }
    }

    /// Ends the sessions whose node or checks the catalog no longer vouches for. Asked after each change of the
    /// catalog, about the nodes that it touched.
    pub(super) fn end_unfounded_sessions(&mut self) {
        let nodes: Vec<Folded> = self
            .touched
            .iter()
            .filter_map(|topic| if let Topic::Node(node) = topic { Some(node) } else { None })
            .filter(|node| self.state.sessions.by_node.contains_key(*node))
            .cloned()
            .collect();
        for node in &nodes {
            for id in self.unfounded(node) {
                self.end_session(&id);
            }
        }
    }

    fn unfounded(&self, node: &Folded) -> Vec<SessionId> {
        let sessions = &self.state.sessions;
        let Some(entry) = self.state.nodes.get(node) else {
            return sessions.by_node.get(node).into_iter().flat_map(|on| on.ids.iter().cloned()).collect();
        };
        let vouches = |check: &Folded| {
            entry.checks.get(check).is_some_and(|check| check.value.status != Status::Critical)
        };
        let checks = sessions.bound_checks(node).into_iter().filter(|check| !vouches(check));
        checks.flat_map(|check| sessions.bound_to(node, &check)).collect()
    }
}

impl<'a> View<'a> {
    /// All sessions by id.
    pub fn sessions(self) -> impl Iterator<Item = &'a Stored<Session>> {
        let sessions = self.state().sessions.by_id.values().map(Arc::as_ref);
        sessions.filter(move |session| self.authority.reads_node(&session.value.node))
    }

    /// One session.
    pub fn session(self, id: &SessionId) -> Option<&'a Stored<Session>> {
        let session = self.state().sessions.by_id.get(id)?;
        self.authority.reads_node(&session.value.node).then_some(session)
    }

    /// The sessions of a node, named in any letter case, by id.
    pub fn sessions_on(self, node: &str) -> impl Iterator<Item = &'a Stored<Session>> {
        let on_node = self.state().sessions.by_node.get(Folded::new(node).as_str());
        let ids = on_node.into_iter().flat_map(|on_node| on_node.ids.iter());
        ids.filter_map(move |id| self.session(id))
    }
}

impl State {
    /// Whose time the leader measures, and how long each has.
    pub fn leases(&self) -> impl Iterator<Item = (&Lease, &Span)> {
        self.sessions.leases.iter()
    }

    /// The term of the leader that measures the time of the leases.
    pub fn lease_term(&self) -> u64 {
        self.sessions.lease_term
    }

    pub(crate) fn lease_table(&self) -> &Map<Lease, Span> {
        &self.sessions.leases
    }
}
