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

use crate::ids::{Datacenter, Folded};
use crate::state::{Topic, View};

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
    /// From another datacenter: whoever has its instances of the subject puts them into a state and plans
    /// again, with the zone moved there.
    Ask {
        /// Whom to ask.
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

/// Whether a prepared query is asked for, here or in another datacenter. Those who hold no catalog cannot tell what
/// it finds: no topic stands for all that it depends on.
pub fn is_prepared_query(question: &Question, zone: &Zone) -> bool {
    let target = zone.locate(&question.name).and_then(|(_, labels)| subject::read(&labels, question.kind));
    target.is_some_and(|target| matches!(target.subject, Subject::Query(_)))
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
        _ => Plan::Answer(lookup.draft(&target.subject)),
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
