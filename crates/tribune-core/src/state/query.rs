//! Prepared queries as part of the state, and how one is found by a name.

use std::sync::Arc;

use super::State;
use super::catalog::Change;
use super::tables::{Map, Set};
use super::topic::Topic;
use crate::ids::{Folded, Index};
use crate::model::Stored;
use crate::query::{Query, QueryRefusal, Template};
use crate::session::SessionId;

/// The table of queries.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Queries {
    by_id: Map<Folded, Arc<Entry>>,
    /// Names of queries that are no templates.
    names: Map<Folded, Folded>,
    /// Names of templates, of which one may be empty.
    templates: Map<Folded, Folded>,
    /// Which queries end with which session.
    bound: Set<(SessionId, Folded)>,
    /// When any of them last changed.
    pub(super) index: Index,
}

/// A query with what is made of it once.
#[derive(Debug)]
struct Entry {
    stored: Stored<Query>,
    template: Option<Template>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.stored == other.stored
    }
}

impl Queries {
    fn put(&mut self, stored: Stored<Query>, template: Option<Template>) {
        let key = Folded::new(&stored.value.id);
        self.remove(&key);
        let name = Folded::new(&stored.value.name);
        if template.is_some() {
            self.templates.insert(name, key.clone());
        } else if !stored.value.name.is_empty() {
            self.names.insert(name, key.clone());
        }
        if let Ok(session) = SessionId::new(&stored.value.session) {
            self.bound.insert((session, key.clone()));
        }
        self.by_id.insert(key, Arc::new(Entry { stored, template }));
    }

    fn remove(&mut self, key: &Folded) -> bool {
        let Some(old) = self.by_id.remove(key) else { return false };
        let name = Folded::new(&old.stored.value.name);
        match old.template {
            Some(_) => self.templates.remove(&name),
            None => self.names.remove(&name),
        };
        if let Ok(session) = SessionId::new(&old.stored.value.session) {
            self.bound.remove(&(session, key.clone()));
        }
        true
    }

    fn bound_to(&self, session: &SessionId) -> Vec<Folded> {
        let bound = self.bound.range((session.clone(), Folded::new(""))..);
        bound.take_while(|(to, _)| to == session).map(|(_, key)| key.clone()).collect()
    }

    /// Whether another query than this one has the name.
    fn is_taken(&self, name: &Folded, by_other_than: &Folded) -> bool {
        let holders = [self.names.get(name), self.templates.get(name)];
        holders.into_iter().flatten().any(|holder| holder != by_other_than)
    }

    pub(super) fn stored(&self) -> impl Iterator<Item = &Stored<Query>> {
        self.by_id.values().map(|entry| &entry.stored)
    }

    /// Puts a query of a snapshot in its place. One whose template cannot be read any more stays a query without.
    pub(super) fn place(&mut self, stored: Stored<Query>) {
        let template = stored.value.compiled().ok().flatten();
        self.put(stored, template);
    }
}

impl Change<'_> {
    /// Puts a query; with `is_new` unless it is there already, else only when it is.
    pub(super) fn put_query(&mut self, query: &Query, is_new: bool) -> Result<(), QueryRefusal> {
        let template = query.compiled()?;
        let key = Folded::new(&query.id);
        let queries = &self.state.queries;
        let old = queries.by_id.get(&key);
        if !is_new && old.is_none() {
            return Err(QueryRefusal::Unknown(query.id.clone()));
        }
        let name = Folded::new(&query.name);
        if query.name.is_empty() {
            if template.is_some() && queries.is_taken(&name, &key) {
                return Err(QueryRefusal::CatchAllTaken);
            }
        } else if queries.is_taken(&name, &key) {
            return Err(QueryRefusal::NameTaken(query.name.clone()));
        } else if queries.by_id.contains_key(&name) {
            return Err(QueryRefusal::NameIsId(query.name.clone()));
        }
        if !query.session.is_empty() && !self.has_session(&query.session) {
            return Err(QueryRefusal::NoSession(query.session.clone()));
        }
        if old.is_some_and(|old| old.stored.value == *query) {
            return Ok(());
        }
        let created = old.map_or(self.index, |old| old.stored.created);
        let stored = Stored { value: query.clone(), created, modified: self.index };
        self.state.queries.put(stored, template);
        self.touched.insert(Topic::Queries);
        Ok(())
    }

    pub(super) fn remove_query(&mut self, id: &str) {
        if self.state.queries.remove(&Folded::new(id)) {
            self.touched.insert(Topic::Queries);
        }
    }

    /// Removes the queries that end with a session.
    pub(super) fn end_bound_queries(&mut self, session: &SessionId) {
        for key in self.state.queries.bound_to(session) {
            self.remove_query(key.as_str());
        }
    }

    fn has_session(&self, id: &str) -> bool {
        SessionId::new(id).is_ok_and(|id| self.state.sessions.by_id.contains_key(&id))
    }
}

impl State {
    /// All queries, ordered by id.
    pub fn queries(&self) -> impl Iterator<Item = &Stored<Query>> {
        self.queries.stored()
    }

    /// One query by id, in any letter case.
    pub fn query(&self, id: &str) -> Option<&Stored<Query>> {
        self.queries.by_id.get(&Folded::new(id)).map(|entry| &entry.stored)
    }

    /// The query that an id or a name stands for: the one with that id, else the one with that name, else the
    /// template with the longest beginning of it, filled in.
    pub fn find_query(&self, id_or_name: &str) -> Option<Stored<Query>> {
        let folded = Folded::new(id_or_name);
        let by_name = || self.queries.by_id.get(self.queries.names.get(&folded)?);
        let entry = self.queries.by_id.get(&folded).or_else(by_name);
        let entry = entry.filter(|entry| entry.template.is_none()).or_else(|| self.template(&folded))?;
        let mut found = entry.stored.clone();
        if let Some(template) = &entry.template {
            found.value.service = template.fill(&found.value.service, id_or_name);
        }
        Some(found)
    }

    /// The template with the longest beginning of this name.
    fn template(&self, name: &Folded) -> Option<&Arc<Entry>> {
        let text = name.as_str();
        let ends = (0..=text.len()).rev().filter(|&end| text.is_char_boundary(end));
        let key = ends.into_iter().find_map(|end| self.queries.templates.get(&text[..end]))?;
        self.queries.by_id.get(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::command::{Command, Outcome, Refusal, Registration};
    use crate::ids::NodeName;
    use crate::model::{Node, Pairs};
    use crate::query::{ServiceQuery, TemplateSpec};
    use crate::session::{Behavior, Session, SessionChange};

    fn query(id: &str, name: &str, service: &str, is_template: bool) -> Query {
        Query {
            id: id.into(),
            name: name.into(),
            template: is_template.then(TemplateSpec::default),
            service: ServiceQuery { service: service.into(), ..ServiceQuery::default() },
            ..Query::default()
        }
    }

    struct Log(State);

    impl Log {
        fn put(&mut self, query: Query, is_new: bool) -> Result<Outcome, QueryRefusal> {
            let command = Command::PutQuery { query: Box::new(query), is_new };
            match self.0.apply(Index(self.0.index().0 + 1), &command).outcome {
                Outcome::Refused(Refusal::Query(refusal)) => Err(refusal),
                outcome => Ok(outcome),
            }
        }

        fn service(&self, name: &str) -> Option<String> {
            self.0.find_query(name).map(|found| found.value.service.service)
        }
    }

    #[test]
    fn names_are_unique_and_found_in_any_letter_case() {
        let mut log = Log(State::default());
        assert_eq!(log.put(query("1", "Web", "web", false), true), Ok(Outcome::Applied));
        assert_eq!(log.put(query("1", "Web", "web", false), false), Ok(Outcome::Unchanged));
        let taken = |name: &str| Err(QueryRefusal::NameTaken(name.into()));
        assert_eq!(log.put(query("2", "WEB", "x", false), true), taken("WEB"));
        assert_eq!(log.put(query("2", "web", "x", true), true), taken("web"));
        assert_eq!(log.put(query("2", "1", "x", false), true), Err(QueryRefusal::NameIsId("1".into())));
        assert_eq!(log.put(query("9", "x", "x", false), false), Err(QueryRefusal::Unknown("9".into())));
        assert_eq!(log.put(query("1", "other", "web", false), false), Ok(Outcome::Applied));
        assert_eq!(log.service("web"), None);
        assert_eq!((log.service("OTHER"), log.service("1")), (Some("web".into()), Some("web".into())));
        let bound = Query { session: "s".into(), ..query("3", "", "x", false) };
        assert_eq!(log.put(bound, true), Err(QueryRefusal::NoSession("s".into())));
        let gone = log.0.apply(Index(99), &Command::DeleteQuery("1".into()));
        assert_eq!(gone.touched, [Topic::Queries]);
        assert_eq!(log.service("other"), None);
        assert_eq!(log.0.index_of(&Topic::Catalog), Index(0));
    }

    #[test]
    fn a_query_ends_with_its_session() {
        let node = Node {
            name: NodeName::new("n").unwrap(),
            id: "".into(),
            address: "10.0.0.1".into(),
            tagged_addresses: Pairs::default(),
            meta: Pairs::default(),
        };
        let session = Session {
            id: SessionId::new("00000000-0000-0000-0000-00000000000a").unwrap(),
            name: "".into(),
            node: node.name.clone(),
            lock_delay: Duration::ZERO,
            behavior: Behavior::Release,
            ttl: None,
            ttl_text: "".into(),
            node_checks: None,
            service_checks: None,
        };
        let mut log = Log(State::default());
        let registration = Registration { node, skip_node_update: false, service: None, checks: Vec::new() };
        log.0.apply(Index(1), &Command::Register(Box::new(registration)));
        log.0.apply(Index(2), &Command::Session(Box::new(SessionChange::Create(session.clone()))));
        let bound =
            |id: &str, session: &str| Query { session: session.into(), ..query(id, "", "web", false) };
        assert_eq!(log.put(bound("q1", &session.id.as_str().to_uppercase()), true), Ok(Outcome::Applied));
        assert_eq!(log.put(bound("q2", session.id.as_str()), true), Ok(Outcome::Applied));
        assert_eq!(log.put(bound("q3", ""), true), Ok(Outcome::Applied));
        // One that is let go before stays.
        assert_eq!(log.put(bound("q2", ""), false), Ok(Outcome::Applied));
        let mut again = State::from_records(log.0.records()).unwrap();
        assert_eq!(again, log.0);
        for state in [&mut log.0, &mut again] {
            let end = SessionChange::Destroy(session.id.clone());
            let ended = state.apply(Index(9), &Command::Session(Box::new(end)));
            assert!(ended.touched.contains(&Topic::Queries), "{:?}", ended.touched);
            let left: Vec<_> = state.queries().map(|it| it.value.id.as_str()).collect();
            assert_eq!(left, ["q2", "q3"]);
        }
        let late = log.put(bound("q4", session.id.as_str()), true);
        assert_eq!(late, Err(QueryRefusal::NoSession(session.id.as_str().into())));
    }

    #[test]
    fn the_longest_template_answers_for_a_name() {
        let mut log = Log(State::default());
        for (id, name, service) in [
            ("1", "", "all-${name.full}"),
            ("2", "geo-", "geo-${name.suffix}"),
            ("3", "Geo-db-", "db-${name.suffix}"),
        ] {
            assert_eq!(log.put(query(id, name, service, true), true), Ok(Outcome::Applied));
        }
        log.put(query("4", "geo-db-exact", "exact", false), true).unwrap();
        for (name, service) in [
            ("x", "all-x"),
            ("geo-a", "geo-a"),
            ("geo-", "geo-"),
            ("geo-db-a", "db-geo-db-a"),
            ("Geo-db-a", "db-a"),
            ("geo-db-exact", "exact"),
            ("äö", "all-äö"),
        ] {
            assert_eq!(log.service(name).as_deref(), Some(service), "{name}");
        }
        assert_eq!(log.put(query("5", "", "x", true), true), Err(QueryRefusal::CatchAllTaken));
        let again = State::from_records(log.0.records()).unwrap();
        assert_eq!(again, log.0);
        assert_eq!(again.find_query("geo-a"), log.0.find_query("geo-a"));
        let broken = query("6", "t", "${x}", true);
        assert!(matches!(log.put(broken, true), Err(QueryRefusal::Template(_))));
    }
}
