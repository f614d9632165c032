//! Drafts in wire form. Each record is encoded once; what differs from answer to answer (the owner's name, its
//! place in the message, the time) is put in while an answer is written.

use std::collections::BTreeMap;

use super::draft::{Draft, Pool, PoolSection};
use super::name::Name;
use super::record::{Code, Data, Kind, Owner, Record, Soa};

/// A draft with every record encoded.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(super) code: Code,
    pub(super) answer: Vec<Fragment>,
    pub(super) authority: Vec<Fragment>,
    pub(super) additional: Vec<Fragment>,
    /// One list, or the alternatives of which one is taken.
    pub(super) sets: Vec<Vec<PreparedUnit>>,
    pub(super) shuffled: bool,
    pub(super) pool_section: PoolSection,
    pub(super) take: usize,
    /// Whether the pool holds SRV records, of which fewer fit into a message.
    pub(super) locations: bool,
    /// Whether one and the same extra belongs to several units.
    pub(super) repeats: bool,
}

/// A record and what goes into the additional section with it.
#[derive(Debug, Clone)]
pub(super) struct PreparedUnit {
    pub(super) answer: Fragment,
    pub(super) extras: Vec<Extra>,
}

#[derive(Debug, Clone)]
pub(super) struct Extra {
    pub(super) fragment: Fragment,
    /// Whether a client needs it to use the answer: the first record of the target, or of the alias it is.
    pub(super) essential: bool,
    /// Equal for equal records.
    pub(super) identity: usize,
}

/// A record on the wire, in pieces.
#[derive(Debug, Clone)]
pub(super) struct Fragment {
    pub(super) owner: FragmentOwner,
    /// Everything after the owner: type, class, TTL, length, data.
    pub(super) rest: Box<[u8]>,
    /// Where in `rest` the name stands that the record points to.
    pub(super) target_at: Option<usize>,
    /// Where in `rest` the time is put in.
    pub(super) serial_at: Option<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum FragmentOwner {
    Question,
    /// The target of its unit's answer, which is this name.
    Target(Box<[u8]>),
    Name(Box<[u8]>),
}

/// How names are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// Pointing back at the question and at targets. Only for messages that pointers reach all of.
    Pointers,
    /// Pointing back at the question.
    QuestionPointer,
    /// In full.
    Full,
}

/// Length of a compression pointer.
const POINTER_BYTES: usize = 2;

impl From<&Draft> for Prepared {
    fn from(draft: &Draft) -> Self {
        let fixed = |records: &[Record]| records.iter().map(|record| Fragment::new(record, None)).collect();
        let mut identities = BTreeMap::new();
        let mut mentions = 0;
        let mut sets = Vec::new();
        let (alternatives, shuffled) = match &draft.pool {
            Pool::Shuffled(units) => (std::slice::from_ref(units), true),
            Pool::Ordered(units) => (std::slice::from_ref(units), false),
            Pool::OneOf(sets) => (sets.as_slice(), false),
        };
        for units in alternatives {
            let mut set = Vec::with_capacity(units.len());
            for unit in units {
                mentions += unit.extras.len();
                let extras = prepare_extras(&unit.answer, &unit.extras, &mut identities);
                set.push(PreparedUnit { answer: Fragment::new(&unit.answer, None), extras });
            }
            sets.push(set);
        }
        let first = alternatives.first().and_then(|units| units.first());
        Self {
            code: draft.code,
            answer: fixed(&draft.answer),
            authority: fixed(&draft.authority),
            additional: fixed(&draft.additional),
            sets,
            shuffled,
            pool_section: draft.pool_section,
            take: draft.take,
            locations: first.is_some_and(|unit| unit.answer.data.kind() == Kind::SRV),
            repeats: identities.len() < mentions,
        }
    }
}

impl Prepared {
    /// An answer that says nothing but how it went.
    pub fn of_code(code: Code) -> Self {
        Self {
            code,
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            sets: Vec::new(),
            shuffled: false,
            pool_section: PoolSection::Answer,
            take: usize::MAX,
            locations: false,
            repeats: false,
        }
    }
}

impl Prepared {
    /// Roughly how many bytes of memory it takes.
    pub fn weight(&self) -> usize {
        let fixed = self.answer.iter().chain(&self.authority).chain(&self.additional);
        let units = self.sets.iter().flatten();
        let of_units = units.flat_map(|unit| {
            std::iter::once(&unit.answer).chain(unit.extras.iter().map(|extra| &extra.fragment))
        });
        fixed
            .chain(of_units)
            .map(|fragment| size_of::<Extra>() + fragment.len(Naming::QuestionPointer, 0))
            .sum()
    }
}

fn prepare_extras<'r>(
    answer: &Record,
    extras: &'r [Record],
    identities: &mut BTreeMap<&'r Record, usize>,
) -> Vec<Extra> {
    let mut wanted = answer.data.target().cloned();
    let mut prepared = Vec::with_capacity(extras.len());
    for record in extras {
        let owner = match &record.owner {
            Owner::Question => None,
            Owner::Name(name) => Some(name),
        };
        let essential = owner.zip(wanted.as_ref()).is_some_and(|(owner, wanted)| owner.same_as(wanted));
        if essential {
            wanted = match &record.data {
                Data::Cname(next) => Some(next.clone()),
                _ => None,
            };
        }
        let next = identities.len();
        let identity = *identities.entry(record).or_insert(next);
        prepared.push(Extra { fragment: Fragment::new(record, answer.data.target()), essential, identity });
    }
    prepared
}

impl Fragment {
    /// Encodes a record; `target` is a name that will have been written before it.
    fn new(record: &Record, target: Option<&Name>) -> Self {
        let owner = match &record.owner {
            Owner::Question => FragmentOwner::Question,
            Owner::Name(name) if Some(name) == target => FragmentOwner::Target(name.as_wire().into()),
            Owner::Name(name) => FragmentOwner::Name(name.as_wire().into()),
        };
        let mut rest = Vec::with_capacity(64);
        rest.extend_from_slice(&record.data.kind().0.to_be_bytes());
        rest.extend_from_slice(&CLASS_IN.to_be_bytes());
        rest.extend_from_slice(&record.ttl.to_be_bytes());
        rest.extend_from_slice(&[0, 0]);
        let data_at = rest.len();
        let (target_at, serial_at) = write_data(&record.data, &mut rest);
        let length = (rest.len() - data_at) as u16;
        rest[data_at - 2..data_at].copy_from_slice(&length.to_be_bytes());
        Self { owner, rest: rest.into_boxed_slice(), target_at, serial_at }
    }

    /// Its length in a message whose question has a name of `question_bytes`.
    pub(super) fn len(&self, naming: Naming, question_bytes: usize) -> usize {
        let owner = match (&self.owner, naming) {
            (FragmentOwner::Question, Naming::Full) => question_bytes,
            (FragmentOwner::Question, _) | (FragmentOwner::Target(_), Naming::Pointers) => POINTER_BYTES,
            (FragmentOwner::Target(name) | FragmentOwner::Name(name), _) => name.len(),
        };
        owner + self.rest.len()
    }
}

/// The class of every record.
const CLASS_IN: u16 = 1;
/// Longest text that fits into a record: 255 pieces of 255 bytes and their length bytes are below 65 536.
const TEXT_BYTES_MAX: usize = 255 * 255;

/// Appends the data; says where in `out` its target and its serial number stand.
fn write_data(data: &Data, out: &mut Vec<u8>) -> (Option<usize>, Option<usize>) {
    match data {
        Data::A(ip) => out.extend_from_slice(&ip.octets()),
        Data::Aaaa(ip) => out.extend_from_slice(&ip.octets()),
        Data::Ptr(name) | Data::Cname(name) | Data::Ns(name) => {
            out.extend_from_slice(name.as_wire());
            return (Some(out.len() - name.as_wire().len()), None);
        }
        Data::Srv { priority, weight, port, target } => {
            for number in [priority, weight, port] {
                out.extend_from_slice(&number.to_be_bytes());
            }
            out.extend_from_slice(target.as_wire());
            return (Some(out.len() - target.as_wire().len()), None);
        }
        Data::Txt(text) => write_text(text, out),
        Data::Soa(soa) => return (None, Some(write_soa(soa, out))),
    }
    (None, None)
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let text = &text.as_bytes()[..text.len().min(TEXT_BYTES_MAX)];
    if text.is_empty() {
        out.push(0);
    }
    for piece in text.chunks(255) {
        out.push(piece.len() as u8);
        out.extend_from_slice(piece);
    }
}

fn write_soa(soa: &Soa, out: &mut Vec<u8>) -> usize {
    let Soa { primary, mailbox, refresh, retry, expire, minimum } = soa;
    out.extend_from_slice(primary.as_wire());
    out.extend_from_slice(mailbox.as_wire());
    let serial_at = out.len();
    for number in [&0, refresh, retry, expire, minimum] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    serial_at
}
