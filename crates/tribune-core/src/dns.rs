//! DNS in our own words: from a question to an answer, without a socket.
//!
//! [`plan`] turns a question into a [`Draft`]: everything an answer could hold, the same for all who ask and
//! therefore worth keeping. [`Prepared`] is a draft in wire form. [`Prepared::render`] picks from it for one
//! client: in random order, as much as the client has room for.
//!
//! ```text
//!  Question ── plan(view, zone) ──► Draft ── prepare ──► Prepared ── render(client, salt) ──► Answer ──► bytes
//! ```

mod answer;
mod draft;
mod lookup;
mod name;
mod prepared;
mod record;
mod subject;
mod zone;

pub use answer::{Answer, Edns, Request, Transport};
pub use draft::{Depends, Draft, Pool, PoolSection, Unit};
pub use name::{NAME_WIRE_BYTES_MAX, Name};
pub use prepared::Prepared;
pub use record::{Code, Data, Kind, Owner, Record, Soa};
pub use subject::Subject;
pub use zone::{ServiceTtls, SoaTimes, Zone};

use lookup::Lookup;

use crate::authority::Authority;
use crate::ids::{Datacenter, Folded};
use crate::query::Query;
use crate::state::{State, Topic, View};

/// What is asked: a name and a type. The class is not looked at; every record is of class IN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// The name as it was sent.
    pub name: Name,
    /// The type asked for.
    pub kind: Kind,
}

/// How a question is to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// From what we know.
    Answer(Draft),
    /// From what another datacenter has: whoever has got its instances of the subject puts them into a state, from
    /// which [`answer_found`] makes the answer.
    Ask {
        /// Whom to ask. The zone's own datacenter stands for a prepared query that finds nothing here and may find
        /// something in others.
        datacenter: Datacenter,
        /// What to ask for.
        subject: Subject,
        /// The answer when there is no such datacenter.
        unknown: Draft,
    },
    /// An address that nothing here has. Others may know it; the draft is for when there are none.
    Unmapped(Draft),
    /// The name is not ours: to be asked elsewhere, or refused.
    Elsewhere,
    /// A zone transfer was asked for.
    NotImplemented,
}

/// Decides how to answer `question` from what `view` shows of the zone's datacenter.
pub fn plan(question: &Question, view: View<'_>, zone: &Zone) -> Plan {
    plan_at(question, view, zone, 0)
}

/// The topic whose records are needed to answer `question` about the zone's own datacenter; none when the answer
/// needs no records, or is not ours to give. For those who hold no catalog.
pub fn needs(question: &Question, zone: &Zone) -> Option<Topic> {
    let servers = || Some(Topic::Service(Folded::new(lookup::SERVER_SERVICE)));
    let Some((_, labels)) = zone.locate(&question.name) else {
        let asks_for_name = matches!(question.kind, Kind::PTR | Kind::ANY);
        let arpa = Name::from_labels([&b"arpa"[..]])?;
        let labels = question.name.labels_within(&arpa)?;
        return subject::reverse_address(&labels).filter(|_| asks_for_name).map(|_| Topic::Nodes);
    };
    match question.kind {
        Kind::AXFR | Kind::IXFR => None,
        Kind::SOA | Kind::NS => servers(),
        kind => {
            let target = subject::read(&labels, kind)?;
            let is_here = |dc: &str| dc.eq_ignore_ascii_case(zone.datacenter.as_str());
            target.subject.topic().filter(|_| target.datacenter.is_none_or(|dc| is_here(&dc)))
        }
    }
}

/// How a question about a prepared query is answered by those who hold no catalog: by asking, in the own datacenter
/// as well. No topic stands for all that such an answer depends on. `None` when the question is another one.
pub fn plan_query(question: &Question, zone: &Zone) -> Option<Plan> {
    let (domain, labels) = zone.locate(&question.name)?;
    if matches!(question.kind, Kind::AXFR | Kind::IXFR | Kind::SOA | Kind::NS) {
        return None;
    }
    let target =
        subject::read(&labels, question.kind).filter(|it| matches!(it.subject, Subject::Query(_)))?;
    let datacenter = match target.datacenter {
        Some(named) => Datacenter::new(named).ok()?,
        None => zone.datacenter.clone(),
    };
    let nothing = State::default();
    let everyone = Authority::unrestricted();
    let lookup = Lookup { question, domain, zone, view: nothing.view(&everyone), depth: 0 };
    let unknown = lookup.unknown(Depends::Topics(Vec::new()));
    Some(Plan::Ask { datacenter, subject: target.subject, unknown })
}

/// Answers a question from what was fetched for it ([`Plan::Ask`]), in the zone of the datacenter that had it,
/// whichever one the name mentions. What a prepared query finds is made from the query itself, as `query`. `None` when
/// nothing is ever fetched for such a question.
pub fn answer_found(
    question: &Question,
    query: Option<&Query>,
    view: View<'_>,
    zone: &Zone,
) -> Option<Draft> {
    let (domain, labels) = zone.locate(&question.name)?;
    let target = subject::read(&labels, question.kind)?;
    let lookup = Lookup { question, domain, zone, view, depth: 0 };
    Some(match (&target.subject, query) {
        (Subject::Query(_), Some(query)) => lookup.selected(query),
        (subject, _) => lookup.draft(subject),
    })
}

fn plan_at(question: &Question, view: View<'_>, zone: &Zone, depth: usize) -> Plan {
    let Some((domain, labels)) = zone.locate(&question.name) else {
        return plan_reverse(question, view, zone);
    };
    if matches!(question.kind, Kind::AXFR | Kind::IXFR) {
        return Plan::NotImplemented;
    }
    let lookup = Lookup { question, domain, zone, view, depth };
    match question.kind {
        Kind::SOA => return Plan::Answer(lookup.start_of_authority()),
        Kind::NS => return Plan::Answer(lookup.name_servers()),
        _ => {}
    }
    let unknown = || lookup.unknown(Depends::Topics(Vec::new()));
    let Some(target) = subject::read(&labels, question.kind) else { return Plan::Answer(unknown()) };
    let elsewhere = target.datacenter.filter(|dc| !dc.eq_ignore_ascii_case(zone.datacenter.as_str()));
    match elsewhere {
        Some(dc) if !matches!(target.subject, Subject::Address(_) | Subject::Nothing) => {
            match Datacenter::new(dc) {
                Ok(datacenter) => Plan::Ask { datacenter, subject: target.subject, unknown: unknown() },
                Err(_) => Plan::Answer(unknown()),
            }
        }
        _ => {
            let draft = lookup.draft(&target.subject);
            if draft.code == Code::NxDomain && lookup.fails_over(&target.subject) {
                let datacenter = zone.datacenter.clone();
                return Plan::Ask { datacenter, subject: target.subject, unknown: draft };
            }
            Plan::Answer(draft)
        }
    }
}

/// Names of addresses; always in the primary domain.
fn plan_reverse(question: &Question, view: View<'_>, zone: &Zone) -> Plan {
    let arpa = Name::from_labels([&b"arpa"[..]]);
    let Some(labels) = arpa.as_ref().and_then(|arpa| question.name.labels_within(arpa)) else {
        return Plan::Elsewhere;
    };
    let lookup = Lookup { question, domain: &zone.domain, zone, view, depth: 0 };
    let asks_for_name = matches!(question.kind, Kind::PTR | Kind::ANY);
    let found = subject::reverse_address(&labels).filter(|_| asks_for_name).and_then(|ip| lookup.reverse(ip));
    match found {
        Some(draft) => Plan::Answer(draft),
        None => Plan::Unmapped(Draft::empty(Code::NxDomain, Depends::Everything)),
    }
}
