//! The steps of transcripts about keys, sessions and transactions.
//!
//! `node n [check=id:status]…`, `check n id status`, `remove n [check=id]`; `put key value [flags=n] [cas=n]
//! [acquire=s] [release=s]`, `delete key [cas=n]`, `delete-tree prefix`; `session s node=n [ttl=n] [delay=n]
//! [delete] [checks=a,b]`, `destroy s`, `keep term`, `expire term s…`, `end-delay key since`; `txn op; op; …` with
//! the same words and `get key`, `get-or-empty key`, `get-tree prefix`, `check-index key n`, `check-session key
//! s`, `check-not-exists key`, `get-node n`; the questions `key k`, `keys prefix`, `sessions`, `leases`, `index
//! <topic> [name]`, and `restore` (through records and back). A session is named by a digit.

use std::time::Duration;

use tribune_core::lease::Lease;
use tribune_core::{
    Authority, Behavior, Blob, CatalogOp, Check, CheckId, Command, Deregistration, Folded, Index, KvChange,
    KvEntry, KvKey, KvPut, KvRead, Node, NodeKey, NodeName, Outcome, Pairs, PutMode, Registration, Session,
    SessionChange, SessionId, State, Status, Stored, Target, Topic, Transaction, TxnOp, TxnResult,
};

use crate::transcript::Script;

#[derive(Default)]
pub(crate) struct Leasing {
    state: State,
    next: u64,
}

impl Script for Leasing {
    fn step(&mut self, words: &str) -> String {
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        match verb {
            "node" => self.apply(&register(rest)),
            "check" => self.apply(&register(&set_check(rest))),
            "remove" => self.apply(&Command::Deregister(remove(rest))),
            "session" => self.change(SessionChange::Create(session(rest))),
            "destroy" => self.change(SessionChange::Destroy(id(rest))),
            "keep" => self.change(SessionChange::KeepLeases { term: number(rest) }),
            "expire" => {
                let (term, ids) = rest.split_once(' ').expect("a well-formed transcript");
                let sessions = ids.split(' ').map(id).collect();
                self.change(SessionChange::Expire { term: number(term), sessions })
            }
            "end-delay" => {
                let (key, since) = rest.split_once(' ').expect("a well-formed transcript");
                self.change(SessionChange::EndDelays(vec![(kv_key(key), Index(number(since)))]))
            }
            "txn" => self.transact(rest),
            "restore" => {
                let restored = State::from_records(self.state.records()).expect("a well-formed transcript");
                let same = restored == self.state;
                self.state = restored;
                format!("same: {same}")
            }
            "index" => self.state.index_of(&topic(rest)).to_string(),
            "key" | "keys" | "sessions" | "leases" => self.answer(verb, rest),
            _ => self.apply(&Command::Kv(Box::new(kv(words).expect("a step that exists")))),
        }
    }
}

impl Leasing {
    fn change(&mut self, change: SessionChange) -> String {
        self.apply(&Command::Session(Box::new(change)))
    }

    fn apply(&mut self, command: &Command) -> String {
        self.next += 1;
        let effect = self.state.apply(Index(self.next), command);
        let topics = effect.touched.iter().filter_map(|topic| match topic {
            Topic::Key(key) => Some(format!("key {key}")),
            Topic::Sessions => Some("sessions".to_owned()),
            Topic::Session(id) => Some(format!("session {}", short(id))),
            Topic::NodeSessions(node) => Some(format!("sessions on {node}")),
            Topic::Leases => Some("leases".to_owned()),
            _ => None,
        });
        let topics: Vec<_> = topics.collect();
        let outcome = match &effect.outcome {
            Outcome::Transacted { changed, .. } => format!("Transacted changed: {changed}"),
            other => format!("{other:?}"),
        };
        let mut text = format!("{} {} [{}]", self.next, shortened(&outcome), topics.join(", "));
        if let Outcome::Transacted { results, .. } = &effect.outcome {
            results.iter().for_each(|result| text.push_str(&format!("\n  {}", describe(result))));
        }
        text
    }

    fn transact(&mut self, words: &str) -> String {
        let ops = words.split("; ").map(operation).collect();
        self.apply(&Command::Transaction(Box::new(Transaction(ops))))
    }

    fn answer(&self, question: &str, name: &str) -> String {
        let authority = Authority::unrestricted();
        let view = self.state.view(&authority);
        let lines: Vec<String> = match question {
            "key" => view.key(&kv_key(name)).map(entry).into_iter().collect(),
            "keys" => view.keys_under(name).map(entry).collect(),
            "sessions" => view.sessions().map(describe_session).collect(),
            _ => self
                .state
                .leases()
                .map(|(lease, span)| match lease {
                    Lease::Session(id) => {
                        format!("session {} {:?} since {}", short(id), span.length, span.since)
                    }
                    Lease::LockDelay(key) => format!("delay of {key} {:?} since {}", span.length, span.since),
                })
                .collect(),
        };
        if lines.is_empty() { "none".to_owned() } else { lines.join("\n") }
    }
}

fn describe(result: &TxnResult) -> String {
    match result {
        TxnResult::Kv(stored) => entry(stored),
        TxnResult::Node(node) => format!("node {} {}..{}", node.value.name, node.created, node.modified),
        other => format!("{other:?}"),
    }
}

fn entry(stored: &Stored<KvEntry>) -> String {
    let entry = &stored.value;
    let value = String::from_utf8_lossy(entry.value.as_bytes());
    let held = entry.session.as_ref().map_or("-", short);
    let (created, modified) = (stored.created, stored.modified);
    format!(
        "{} {value:?} flags={} locked={} by {held} {created}..{modified}",
        entry.key, entry.flags, entry.lock_index
    )
}

fn describe_session(stored: &Stored<Session>) -> String {
    let session = &stored.value;
    let checks: Vec<_> = session.checks().map(CheckId::as_str).collect();
    format!(
        "{} on {} [{}] {}..{}",
        short(&session.id),
        session.node,
        checks.join(","),
        stored.created,
        stored.modified
    )
}

/// The last digit, which is all that differs here.
fn short(id: &SessionId) -> &str {
    &id.as_str()[35..]
}

fn shortened(text: &str) -> String {
    text.replace("00000000-0000-0000-0000-00000000000", "")
}

fn id(digit: &str) -> SessionId {
    SessionId::new(&format!("00000000-0000-0000-0000-00000000000{digit}")).expect("a well-formed transcript")
}

fn number(text: &str) -> u64 {
    text.parse().expect("a well-formed transcript")
}

fn kv_key(text: &str) -> KvKey {
    KvKey::new(text).expect("a well-formed transcript")
}

fn node_name(text: &str) -> NodeName {
    NodeName::new(text).expect("a well-formed transcript")
}

fn check_id(text: &str) -> CheckId {
    CheckId::new(text).expect("a well-formed transcript")
}

fn word<'a>(words: &'a str, key: &str) -> Option<&'a str> {
    words.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn topic(words: &str) -> Topic {
    match words.split_once(' ').unwrap_or((words, "")) {
        ("key", key) => Topic::Key(kv_key(key)),
        ("prefix", prefix) => Topic::Prefix(prefix.into()),
        ("sessions", "") => Topic::Sessions,
        ("sessions", node) => Topic::NodeSessions(Folded::new(node)),
        ("session", digit) => Topic::Session(id(digit)),
        ("leases", _) => Topic::Leases,
        _ => panic!("no such topic: {words}"),
    }
}

fn kv(words: &str) -> Option<KvChange> {
    let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
    let mut names = rest.split(' ');
    let first = names.next().unwrap_or_default();
    let index = word(rest, "cas").map(|index| Index(number(index)));
    Some(match verb {
        "put" => {
            let value = names.next().filter(|word| !word.contains('=')).unwrap_or_default();
            let acquire = word(rest, "acquire").map(|digit| PutMode::Acquire(id(digit)));
            let release = word(rest, "release").map(|digit| PutMode::Release(id(digit)));
            let mode = acquire.or(release).or(index.map(PutMode::OnlyAt)).unwrap_or(PutMode::Always);
            let flags = word(rest, "flags").map_or(0, number);
            KvChange::Put(KvPut { key: kv_key(first), value: Blob::from(value.as_bytes()), flags, mode })
        }
        "delete" => KvChange::Delete { key: kv_key(first), only_at: index },
        "delete-tree" => KvChange::DeleteTree(first.into()),
        _ => return None,
    })
}

fn operation(words: &str) -> TxnOp {
    if let Some(change) = kv(words) {
        return TxnOp::Kv(change);
    }
    let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    TxnOp::KvRead(match verb {
        "get" => KvRead::Get(kv_key(first)),
        "get-or-empty" => KvRead::GetOrEmpty(kv_key(first)),
        "get-tree" => KvRead::GetTree(first.into()),
        "check-index" => KvRead::CheckIndex(kv_key(first), Index(number(second))),
        "check-session" => {
            KvRead::CheckSession(kv_key(first), if second.is_empty() { None } else { Some(id(second)) })
        }
        "check-not-exists" => KvRead::CheckNotExists(kv_key(first)),
        "get-node" => {
            return TxnOp::Node(CatalogOp::Get(NodeKey { name: first.into(), id: "".into() }));
        }
        "set-node" => return TxnOp::Node(CatalogOp::Set(Box::new(record(first)))),
        "delete-node" => {
            return TxnOp::Node(CatalogOp::Delete(NodeKey { name: first.into(), id: "".into() }));
        }
        "set-check" => {
            let (id, status) = second.split_once(' ').expect("a well-formed transcript");
            let check = check(&format!("{id}:{status}"));
            return TxnOp::Check(node_name(first), CatalogOp::Set(Box::new(check)));
        }
        other => panic!("no such operation: {other}"),
    })
}

fn session(words: &str) -> Session {
    let seconds = |key: &str| word(words, key).map(|text| Duration::from_secs(number(text)));
    let checks = word(words, "checks").map(|ids| ids.split(',').map(check_id).collect());
    Session {
        id: id(words.split(' ').next().expect("a well-formed transcript")),
        name: "".into(),
        node: node_name(word(words, "node").expect("a well-formed transcript")),
        lock_delay: seconds("delay").unwrap_or_default(),
        behavior: if words.split(' ').any(|word| word == "delete") {
            Behavior::Delete
        } else {
            Behavior::Release
        },
        ttl: seconds("ttl"),
        ttl_text: "".into(),
        node_checks: checks,
        service_checks: None,
    }
}

fn record(name: &str) -> Node {
    let (tagged_addresses, meta) = (Pairs::default(), Pairs::default());
    Node { name: node_name(name), id: "".into(), address: "10.0.0.1".into(), tagged_addresses, meta }
}

fn register(words: &str) -> Command {
    let name = words.split(' ').next().expect("a well-formed transcript");
    let checks = words.split(' ').filter_map(|word| word.strip_prefix("check=")).map(check).collect();
    let (node, skip_node_update, service) = (record(name), false, None);
    Command::Register(Box::new(Registration { node, skip_node_update, service, checks }))
}

/// `n id status` as the words of a registration.
fn set_check(words: &str) -> String {
    let mut words = words.splitn(3, ' ');
    let mut next = || words.next().expect("a well-formed transcript");
    format!("{} check={}:{}", next(), next(), next())
}

fn check(words: &str) -> Check {
    let (id, status) = words.split_once(':').expect("a well-formed transcript");
    Check {
        id: check_id(id),
        name: id.into(),
        status: match status {
            "passing" => Status::Passing,
            "warning" => Status::Warning,
            _ => Status::Critical,
        },
        notes: Default::default(),
        output: "".into(),
        service_id: None,
        kind: Default::default(),
        definition: None,
        interval: Default::default(),
        timeout: Default::default(),
    }
}

fn remove(words: &str) -> Deregistration {
    let target = word(words, "check").map_or(Target::Node, |id| Target::Check(check_id(id)));
    Deregistration { node: node_name(words.split(' ').next().expect("a well-formed transcript")), target }
}
