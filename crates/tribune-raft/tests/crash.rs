//! A power cut at every moment: whatever was acknowledged is there afterwards, and nothing is there by half.
//!
//! The log runs on a disk of the test that notes every write and sync. Afterwards the test makes the disks that a
//! power cut could have left at each sync and before it: of what was not synced, every sector may have its old
//! content or any written since. Each is opened, and must hold what the log was after some operation, not an
//! earlier one than the last that had been acknowledged.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use openraft::alias::OneshotReceiverOf;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use parking_lot::Mutex;
use redb::StorageBackend;
use tribune_core::{Command, Deregistration, NodeName, Target};

use crate::log::{Disk, LogStore};
use crate::offload::Offload;
use crate::types::{Entry, Proposal, TypeConfig, Vote, log_id};

const SECTOR: usize = 512;
/// Disks tried for each sync, besides those where nothing, everything and the first half survived.
const MIXTURES: u64 = 6;

/// One thing that happened to the disk.
#[derive(Debug, Clone)]
enum Event {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
    Sync,
}

/// What happened, and how many operations had been acknowledged before.
#[derive(Debug, Clone)]
struct Moment {
    event: Event,
    acknowledged: usize,
}

/// A disk that remembers how it came to be.
#[derive(Debug, Clone, Default)]
struct Recorder {
    content: Arc<Mutex<Vec<u8>>>,
    moments: Arc<Mutex<Vec<Moment>>>,
    acknowledged: Arc<AtomicUsize>,
    syncs: Arc<AtomicUsize>,
    /// Syncs from this one to before that one do nothing.
    forgotten: Range<usize>,
}

impl Recorder {
    fn note(&self, event: Event) {
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        self.moments.lock().push(Moment { event, acknowledged });
    }
}

impl StorageBackend for Recorder {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.content.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let content = self.content.lock();
        let from = offset as usize;
        let range = content.get(from..from + out.len()).ok_or_else(beyond_the_end)?;
        out.copy_from_slice(range);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.content.lock().resize(len as usize, 0);
        self.note(Event::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        if !self.forgotten.contains(&self.syncs.fetch_add(1, Ordering::SeqCst)) {
            self.note(Event::Sync);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let from = offset as usize;
        let mut content = self.content.lock();
        content.get_mut(from..from + data.len()).ok_or_else(beyond_the_end)?.copy_from_slice(data);
        drop(content);
        self.note(Event::Write { offset, bytes: data.to_vec() });
        Ok(())
    }
}

fn beyond_the_end() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the disk")
}

/// What the log holds.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    entries: BTreeMap<u64, Entry>,
    vote: Option<Vote>,
    purged: Option<u64>,
}

#[derive(Debug, Clone)]
enum Operation {
    Append(Vec<Entry>),
    Vote(Vote),
    TruncateFrom(u64),
    Purge(u64),
}

impl Model {
    fn after(&self, operation: &Operation) -> Self {
        let mut model = self.clone();
        match operation {
            Operation::Append(entries) => {
                model.entries.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
            }
            Operation::Vote(vote) => model.vote = Some(*vote),
            Operation::TruncateFrom(index) => model.entries.retain(|held, _| held < index),
            Operation::Purge(upto) => {
                model.entries.retain(|held, _| held > upto);
                model.purged = Some(*upto);
            }
        }
        model
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

fn entries(dice: &mut Dice, term: u64, first: u64) -> Vec<Entry> {
    let entry = |index, length: u64| {
        let node = NodeName::new("n".repeat(1 + length as usize)).unwrap();
        let command = Command::Deregister(Deregistration { node, target: Target::Node });
        let payload = openraft::EntryPayload::Normal(Proposal::Command(Arc::new(command)));
        Entry { log_id: log_id(term, index), payload }
    };
    (first..=first + dice.roll(4)).map(|index| entry(index, dice.roll(400))).collect()
}

/// Bursts of operations as a server does them; those of one burst are queued together.
fn script(dice: &mut Dice) -> Vec<Vec<Operation>> {
    let (mut term, mut next, mut purged) = (1, 0, 0);
    let mut bursts = vec![];
    for round in 0..36 {
        let mut burst = vec![];
        for _ in 0..=dice.roll(4) {
            let appended = entries(dice, term, next);
            next += appended.len() as u64;
            burst.push(Operation::Append(appended));
        }
        match round % 9 {
            3 => {
                term += 1;
                burst.push(Operation::Vote(Vote::new(term, round)));
            }
            5 => {
                next = (next - 2).max(purged + 1);
                burst.push(Operation::TruncateFrom(next));
            }
            8 => {
                purged = next - 5;
                burst.push(Operation::Purge(purged));
            }
            _ => {}
        }
        bursts.push(burst);
    }
    bursts
}

type Acknowledgement = OneshotReceiverOf<TypeConfig, Result<(), io::Error>>;

async fn perform(log: &mut LogStore, operation: Operation) -> Option<Acknowledgement> {
    match operation {
        Operation::Append(entries) => {
            let (sender, done) = TypeConfig::oneshot();
            log.append(entries, IOFlushed::signal(sender)).await.unwrap();
            return Some(done);
        }
        Operation::Vote(vote) => log.save_vote(&vote).await.unwrap(),
        Operation::TruncateFrom(0) => log.truncate_after(None).await.unwrap(),
        Operation::TruncateFrom(index) => {
            let before = log.try_get_log_entries(index - 1..index).await.unwrap();
            log.truncate_after(before.first().map(|entry| entry.log_id)).await.unwrap();
        }
        Operation::Purge(upto) => {
            let entry = log.try_get_log_entries(upto..=upto).await.unwrap();
            log.purge(entry[0].log_id).await.unwrap();
        }
    }
    None
}

/// What happened to a disk under the script.
struct Recording {
    /// The disk with an empty log on it.
    made: Vec<u8>,
    moments: Vec<Moment>,
    /// The log after each operation.
    models: Vec<Model>,
}

async fn record(forgotten: Range<usize>) -> Recording {
    let disk = Recorder { forgotten, ..Recorder::default() };
    let mut log = LogStore::open(Disk::on(disk.clone()).unwrap(), Offload::Threads).unwrap();
    disk.moments.lock().clear();
    let made = disk.content.lock().clone();
    let mut models = vec![Model::default()];
    for burst in script(&mut Dice(7)) {
        let mut waiting = vec![];
        for operation in burst {
            models.push(models.last().unwrap().after(&operation));
            waiting.extend(perform(&mut log, operation).await);
        }
        for done in waiting {
            done.await.unwrap().unwrap();
        }
        disk.acknowledged.store(models.len() - 1, Ordering::SeqCst);
    }
    let moments = disk.moments.lock().clone();
    log.close().await;
    Recording { made, moments, models }
}

/// The disk as it is known to be, and what was written to it since.
struct Platter {
    synced: Vec<u8>,
    unsynced: Vec<Event>,
}

impl Platter {
    /// Puts the first events of those not synced on the disk, of each sector only as `survives` says.
    fn with(&self, events: usize, mut survives: impl FnMut() -> bool) -> Vec<u8> {
        let mut content = self.synced.clone();
        for event in &self.unsynced[..events] {
            match event {
                Event::Length(length) => {
                    if survives() {
                        content.resize(*length as usize, 0);
                    }
                }
                Event::Write { offset, bytes } => {
                    write_sectors(&mut content, *offset as usize, bytes, &mut survives)
                }
                Event::Sync => {}
            }
        }
        content
    }

    fn sync(&mut self) {
        self.synced = self.with(self.unsynced.len(), || true);
        self.unsynced.clear();
    }
}

fn write_sectors(content: &mut [u8], offset: usize, bytes: &[u8], survives: &mut impl FnMut() -> bool) {
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes.len().min(at + SECTOR - (offset + at) % SECTOR);
        if survives()
            && let Some(place) = content.get_mut(offset + at..offset + end)
        {
            place.copy_from_slice(&bytes[at..end]);
        }
        at = end;
    }
}

/// Opens a disk and compares it with what the log may be.
fn verify(content: Vec<u8>, acknowledged: usize, models: &[Model]) -> Result<(), String> {
    let disk = Recorder { content: Arc::new(Mutex::new(content)), ..Recorder::default() };
    let recovered =
        Disk::on(disk).and_then(|disk| disk.recover(usize::MAX)).map_err(|error| error.to_string())?;
    let found = Model {
        entries: recovered.newest.into_iter().map(|entry| (entry.log_id.index, entry)).collect(),
        vote: recovered.vote,
        purged: recovered.purged.map(|id| id.index),
    };
    match models[acknowledged..].contains(&found) {
        true => Ok(()),
        false => Err(format!("{acknowledged} operations were acknowledged, but the log holds {found:?}")),
    }
}

/// All disks that a power cut could leave; the complaints about them.
fn cut_everywhere(recording: Recording) -> (usize, Vec<String>) {
    let Recording { made, moments, models } = recording;
    let mut dice = Dice(11);
    let mut platter = Platter { synced: made, unsynced: vec![] };
    let mut complaints = vec![];
    let mut tried = 0;
    let end = Moment { event: Event::Sync, acknowledged: models.len() - 1 };
    for (at, Moment { event, acknowledged }) in moments.iter().chain([&end]).enumerate() {
        if !matches!(event, Event::Sync) {
            platter.unsynced.push(event.clone());
            continue;
        }
        let all = platter.unsynced.len();
        let mut disks =
            vec![platter.with(0, || true), platter.with(all, || true), platter.with(all / 2, || true)];
        for mixture in 0..MIXTURES {
            disks.push(platter.with(all, || dice.roll(8) > mixture));
        }
        tried += disks.len();
        let complaint = |disk| verify(disk, *acknowledged, &models).err();
        complaints.extend(disks.into_iter().filter_map(complaint).map(|text| format!("event {at}: {text}")));
        platter.sync();
    }
    (tried, complaints)
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_whenever_the_power_fails() {
    let (tried, complaints) = cut_everywhere(record(0..0).await);
    assert!(tried > 250, "only {tried} disks were tried");
    assert_eq!(complaints.first(), None, "{} of {tried} disks are wrong", complaints.len());
}

#[tokio::test]
async fn a_sync_left_out_is_noticed() {
    let (_, complaints) = cut_everywhere(record(20..22).await);
    assert!(!complaints.is_empty(), "a log that does not sync passed");
}
