//! An answer: what one client gets of what has been prepared, and how it is written.
//!
//! Clients without EDNS get at most `udp_answer_limit` records of the pool and 512 bytes; others as much as they
//! say they can take. When not everything fits, first the extras go that a client can do without, then records
//! from the end of the random order. A client is told so by the TC bit when `enable_truncate` asks for it, and
//! always when not a single record is left.

use super::draft::PoolSection;
use super::prepared::{Extra, Fragment, FragmentOwner, Naming, Prepared, PreparedUnit};
use super::record::Code;
use super::zone::Zone;
use crate::dice::Dice;

/// A question as it came in, with what the client can take.
#[derive(Debug, Clone, Copy)]
pub struct Request<'q> {
    /// Its id, which the answer repeats.
    pub id: u16,
    /// What kind of question it is; 0 is an ordinary one.
    pub opcode: u8,
    /// Whether the client asks for recursion.
    pub recursion_desired: bool,
    /// Whether the client does without validation.
    pub checking_disabled: bool,
    /// The question section as it came, or nothing when it could not be read.
    pub question: &'q [u8],
    /// How it came.
    pub transport: Transport,
    /// The client's EDNS record.
    pub edns: Option<Edns<'q>>,
    /// Whether we would recurse for this client.
    pub recursion_available: bool,
}

/// How a question came and how its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A stream of messages.
    Tcp,
}

/// What we use of a client's EDNS record (RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns<'q> {
    /// The largest datagram the client can take.
    pub payload_bytes: u16,
    /// Data of the client subnet option (RFC 7871), if it sent one.
    pub subnet: Option<&'q [u8]>,
}

/// What one client gets.
#[derive(Debug)]
pub struct Answer<'a> {
    prepared: &'a Prepared,
    request: Request<'a>,
    /// Positions in the chosen set.
    chosen: Vec<u32>,
    set: &'a [PreparedUnit],
    extras: Extras,
    naming: Naming,
    truncated: bool,
    dropped: usize,
    /// Nothing but header, question and EDNS record fits.
    bare: bool,
}

/// Which extras go along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extras {
    All,
    Essential,
    None,
}

/// Bytes of a message header.
const HEADER_BYTES: usize = 12;
/// Bytes of an EDNS record without options.
const OPT_BYTES: usize = 11;
/// Largest datagram that every client takes (RFC 1035).
const PLAIN_UDP_BYTES: usize = 512;
/// Room left unused in a datagram, as Consul leaves it.
const UDP_MARGIN_BYTES: usize = 7;
/// Room left unused in a TCP message, whose length has 16 bits.
const TCP_BYTES_MAX: usize = 65_535 - 12;
/// Compression pointers reach this far into a message (RFC 1035, 4.1.4).
const POINTER_REACH_BYTES: usize = 0x3fff;
/// Most records of a pool over UDP without EDNS, whatever `udp_answer_limit` says.
const PLAIN_UDP_ANSWERS_MAX: usize = 8;
/// Most records over TCP.
const TCP_ANSWERS_MAX: usize = 4096;
/// Most SRV records over TCP, which are larger and bring extras.
const TCP_LOCATIONS_MAX: usize = 1024;

impl Prepared {
    /// Picks what goes to this client. `salt` must be fresh random bits: the order is drawn from it.
    pub fn render<'a>(&'a self, request: Request<'a>, zone: &Zone, salt: u64) -> Answer<'a> {
        let mut dice = Dice(salt);
        let set: &[PreparedUnit] = match self.sets.as_slice() {
            [] => &[],
            [only] => only,
            several => &several[dice.below(several.len())],
        };
        let limits = Limits::of(&request, zone, self.locations);
        let available = set.len().min(self.take);
        let kept = available.min(limits.units);
        let chosen = self.draw(set.len(), kept, &mut dice);
        let mut answer = Answer {
            prepared: self,
            request,
            chosen,
            set,
            extras: Extras::All,
            naming: Naming::Pointers,
            truncated: false,
            dropped: available - kept,
            bare: false,
        };
        answer.fit(&limits, zone.disable_compression);
        answer.truncated |= answer.dropped > 0 && zone.enable_truncate;
        answer
    }

    /// The positions of the first `kept` of `count` units, in random order if order is random.
    fn draw(&self, count: usize, kept: usize, dice: &mut Dice) -> Vec<u32> {
        if !self.shuffled {
            return (0..kept as u32).collect();
        }
        let mut order: Vec<u32> = (0..count as u32).collect();
        for at in 0..kept {
            let other = at + dice.below(count - at);
            order.swap(at, other);
        }
        order.truncate(kept);
        order
    }
}

/// What a client can take.
struct Limits {
    units: usize,
    bytes: usize,
    /// Whether this is a plain datagram, whose size is counted without compression once records were left out:
    /// a forwarder on the way may write the names in full.
    plain: bool,
}

impl Limits {
    fn of(request: &Request<'_>, zone: &Zone, locations: bool) -> Self {
        let opt = request.edns.map_or(0, |edns| edns.bytes());
        if request.transport == Transport::Tcp {
            let units = if locations { TCP_LOCATIONS_MAX } else { TCP_ANSWERS_MAX };
            return Self { units, bytes: TCP_BYTES_MAX.saturating_sub(opt), plain: false };
        }
        let payload = request.edns.map_or(0, |edns| usize::from(edns.payload_bytes)).max(PLAIN_UDP_BYTES);
        let bytes = payload.saturating_sub(opt.max(UDP_MARGIN_BYTES));
        if payload > PLAIN_UDP_BYTES {
            return Self { units: usize::MAX, bytes, plain: false };
        }
        Self { units: zone.udp_answer_limit.min(PLAIN_UDP_ANSWERS_MAX), bytes, plain: true }
    }
}

impl Edns<'_> {
    fn bytes(&self) -> usize {
        OPT_BYTES + self.subnet.map_or(0, |subnet| 4 + subnet.len())
    }
}

impl Answer<'_> {
    /// Nothing but the advice to ask again over TCP.
    pub fn advise_tcp(mut self) -> Self {
        self.bare = true;
        self.truncated = true;
        self
    }

    /// How many records the client did not get for lack of room.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    fn question_name_bytes(&self) -> usize {
        self.request.question.len().saturating_sub(4)
    }

    /// Leaves out what does not fit.
    fn fit(&mut self, limits: &Limits, in_full: bool) {
        let cut_by_count = limits.plain && self.dropped > 0;
        let namings: &[Naming] = match in_full {
            true => &[Naming::Full],
            false => &[Naming::Pointers, Naming::QuestionPointer],
        };
        for &naming in namings {
            self.naming = naming;
            let measured = if cut_by_count { Naming::Full } else { naming };
            let reach = if naming == Naming::Pointers { POINTER_REACH_BYTES } else { usize::MAX };
            let room = limits.bytes.min(reach);
            self.extras = Extras::All;
            if !cut_by_count && self.count_fitting(room, measured) == Some(self.chosen.len()) {
                return;
            }
            self.extras = Extras::Essential;
            let fitting = self.count_fitting(room, measured);
            if fitting == Some(self.chosen.len()) || room == limits.bytes {
                return self.cut(fitting, room);
            }
        }
    }

    /// How many of the chosen units fit into `room`, or `None` when not even the fixed records do.
    fn count_fitting(&self, room: usize, naming: Naming) -> Option<usize> {
        let name = self.question_name_bytes();
        let fixed = self.prepared.answer.iter().chain(&self.prepared.authority);
        let optional = self.prepared.additional.iter().filter(|_| self.extras == Extras::All);
        let fixed: usize = fixed.chain(optional).map(|fragment| fragment.len(naming, name)).sum();
        let mut used = HEADER_BYTES + self.request.question.len() + fixed;
        if used > room {
            return None;
        }
        let mut seen = Seen::new(self.prepared.repeats);
        for (count, unit) in self.units().enumerate() {
            let extras = unit.extras.iter().filter(|extra| self.extras.keeps(extra));
            let extras = extras.filter(|extra| seen.is_new(extra.identity));
            used += extras.map(|extra| extra.fragment.len(naming, name)).sum::<usize>();
            used += unit.answer.len(naming, name);
            if used > room {
                return Some(count);
            }
        }
        Some(self.chosen.len())
    }

    /// Keeps `fitting` units, and one without extras rather than none.
    fn cut(&mut self, fitting: Option<usize>, room: usize) {
        let before = self.chosen.len();
        match fitting {
            Some(0) if before > 0 => {
                self.extras = Extras::None;
                self.chosen.truncate(1);
                let alone = self.count_fitting(room, self.naming).unwrap_or(0);
                self.chosen.truncate(alone);
            }
            Some(count) => self.chosen.truncate(count),
            None => {
                self.chosen.clear();
                self.bare = true;
            }
        }
        self.dropped += before - self.chosen.len();
        self.truncated |= self.bare || (before > 0 && self.chosen.is_empty());
    }

    fn units(&self) -> impl Iterator<Item = &PreparedUnit> {
        self.chosen.iter().filter_map(|at| self.set.get(*at as usize))
    }

    /// Appends the message to `out`, which must be empty. `now` is the time in seconds since 1970.
    pub fn write(&self, now: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; HEADER_BYTES]);
        out.extend_from_slice(self.request.question);
        let mut counts = [0u16; 4];
        counts[0] = u16::from(!self.request.question.is_empty());
        if !self.bare {
            self.write_sections(now, &mut counts, out);
        }
        if let Some(edns) = &self.request.edns {
            write_edns(edns, self.prepared.code, out);
            counts[3] += 1;
        }
        out[..HEADER_BYTES].copy_from_slice(&self.header(counts));
    }

    fn write_sections(&self, now: u32, counts: &mut [u16; 4], out: &mut Vec<u8>) {
        let mut pen = Pen { out, naming: self.naming, question: self.question_name(), now };
        let pool_at = match self.prepared.pool_section {
            PoolSection::Answer => 1,
            PoolSection::Authority => 2,
        };
        let mut targets = Vec::with_capacity(self.chosen.len());
        for (section, fixed) in [(1, &self.prepared.answer), (2, &self.prepared.authority)] {
            for fragment in fixed {
                pen.write(fragment, 0);
                counts[section] += 1;
            }
            if section == pool_at {
                targets.extend(self.units().map(|unit| pen.write(&unit.answer, 0)));
                counts[section] += targets.len() as u16;
            }
        }
        let mut seen = Seen::new(self.prepared.repeats);
        for (unit, target) in self.units().zip(targets) {
            for extra in unit.extras.iter().filter(|extra| self.extras.keeps(extra)) {
                if seen.is_new(extra.identity) {
                    pen.write(&extra.fragment, target);
                    counts[3] += 1;
                }
            }
        }
        if self.extras == Extras::All {
            for fragment in &self.prepared.additional {
                pen.write(fragment, 0);
                counts[3] += 1;
            }
        }
    }

    fn question_name(&self) -> &[u8] {
        &self.request.question[..self.question_name_bytes()]
    }

    fn header(&self, counts: [u16; 4]) -> [u8; HEADER_BYTES] {
        let request = &self.request;
        let code = self.prepared.code;
        let authoritative = matches!(code, Code::NoError | Code::NxDomain);
        let bit = |set: bool, at: u8| u8::from(set) << at;
        let mut header = [0; HEADER_BYTES];
        header[..2].copy_from_slice(&request.id.to_be_bytes());
        header[2] = bit(true, 7)
            | (request.opcode & 0x0f) << 3
            | bit(authoritative, 2)
            | bit(self.truncated, 1)
            | bit(request.recursion_desired, 0);
        header[3] =
            bit(request.recursion_available, 7) | bit(request.checking_disabled, 4) | (code as u8 & 0x0f);
        for (at, count) in counts.iter().enumerate() {
            header[4 + 2 * at..6 + 2 * at].copy_from_slice(&count.to_be_bytes());
        }
        header
    }
}

impl Extras {
    fn keeps(self, extra: &Extra) -> bool {
        match self {
            Self::All => true,
            Self::Essential => extra.essential,
            Self::None => false,
        }
    }
}

/// Writes records one after the other.
struct Pen<'a> {
    out: &'a mut Vec<u8>,
    naming: Naming,
    question: &'a [u8],
    now: u32,
}

impl Pen<'_> {
    /// Appends a record whose unit has its target at `target`; says where its own target stands.
    fn write(&mut self, fragment: &Fragment, target: usize) -> usize {
        match (&fragment.owner, self.naming) {
            (FragmentOwner::Question, Naming::Full) => self.out.extend_from_slice(self.question),
            (FragmentOwner::Question, _) => self.point_to(HEADER_BYTES),
            (FragmentOwner::Target(_), Naming::Pointers) => self.point_to(target),
            (FragmentOwner::Target(name) | FragmentOwner::Name(name), _) => self.out.extend_from_slice(name),
        }
        let at = self.out.len();
        self.out.extend_from_slice(&fragment.rest);
        if let Some(serial) = fragment.serial_at {
            self.out[at + serial..at + serial + 4].copy_from_slice(&self.now.to_be_bytes());
        }
        at + fragment.target_at.unwrap_or(0)
    }

    fn point_to(&mut self, place: usize) {
        debug_assert!(place <= POINTER_REACH_BYTES, "a compression pointer does not reach {place}");
        self.out.extend_from_slice(&(0xc000 | place as u16).to_be_bytes());
    }
}

/// Repeats the client's payload size, so that it sees its limit was taken; flags and unknown options are not
/// repeated (RFC 6891, 6.1).
fn write_edns(edns: &Edns<'_>, code: Code, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, 41]);
    out.extend_from_slice(&edns.payload_bytes.max(PLAIN_UDP_BYTES as u16).to_be_bytes());
    out.extend_from_slice(&[(code as u8) >> 4, 0, 0, 0]);
    let Some(subnet) = edns.subnet else { return out.extend_from_slice(&[0, 0]) };
    out.extend_from_slice(&(4 + subnet.len() as u16).to_be_bytes());
    out.extend_from_slice(&[0, 8]);
    out.extend_from_slice(&(subnet.len() as u16).to_be_bytes());
    let at = out.len();
    out.extend_from_slice(subnet);
    // Scope 0: the answer is the same for every network.
    if let Some(scope) = out.get_mut(at + 3) {
        *scope = 0;
    }
}

/// Which extras stand in the message already.
struct Seen {
    repeats: bool,
    identities: Vec<bool>,
}

impl Seen {
    /// Remembers nothing when nothing can come twice.
    fn new(repeats: bool) -> Self {
        Self { repeats, identities: Vec::new() }
    }

    fn is_new(&mut self, identity: usize) -> bool {
        if !self.repeats {
            return true;
        }
        if self.identities.len() <= identity {
            self.identities.resize(identity + 1, false);
        }
        !std::mem::replace(&mut self.identities[identity], true)
    }
}
