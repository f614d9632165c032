//! What a simulated datacenter stands on: disks that lose what was not synced, and chance from one seed.
//!
//! A replica on a simulated disk uses no thread of its own, so on a runtime of one thread with paused time the
//! order of events follows from the seed.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;

/// Fixes the chance of consensus and disks on this thread.
pub fn fix_chance(seed: u64) {
    crate::chance::fix(seed);
}

/// A disk. Clones are the same disk; it outlives the replicas on it.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Platter>>);

struct Platter {
    /// What survives a power cut for certain.
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Writes since the last sync, in order.
    unsynced: Vec<Change>,
    /// Counts power cuts; who opened the disk before the last one writes nothing any more.
    generation: u64,
    /// Snapshots and the cluster are kept as files, which are replaced as a whole.
    snapshot: Option<Vec<Bytes>>,
    cluster: Option<String>,
    dice: StdRng,
}

enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Length(length) => content.resize(*length, 0),
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
        }
    }
}

impl PartialEq for Disk {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Disk {}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

impl Disk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            durable: Vec::new(),
            current: Vec::new(),
            unsynced: Vec::new(),
            generation: 0,
            snapshot: None,
            cluster: None,
            dice: StdRng::seed_from_u64(seed),
        })))
    }

    /// Cuts the power: of what was not synced any part may be lost, and who has the disk open writes no more.
    pub fn cut_power(&self) {
        let mut platter = self.0.lock();
        let platter = &mut *platter;
        platter.generation += 1;
        for change in platter.unsynced.drain(..) {
            // A length that was not synced but a write behind it that was kept makes a file with a hole.
            if matches!(change, Change::Length(_)) || platter.dice.random() {
                change.apply(&mut platter.durable);
            }
        }
        platter.current = platter.durable.clone();
    }

    pub(crate) fn open(&self) -> Opened {
        let generation = self.0.lock().generation;
        Opened { disk: self.clone(), generation }
    }
}

/// The disk since one power cut.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    disk: Disk,
    generation: u64,
}

impl Opened {
    fn with<T>(&self, work: impl FnOnce(&mut Platter) -> Result<T, io::Error>) -> Result<T, io::Error> {
        let mut platter = self.disk.0.lock();
        if platter.generation != self.generation {
            return Err(io::Error::other("the power was cut"));
        }
        work(&mut platter)
    }

    pub(crate) fn snapshot(&self) -> Option<Vec<Bytes>> {
        self.disk.0.lock().snapshot.clone()
    }

    pub(crate) fn keep_snapshot(&self, pieces: Vec<Bytes>) -> Result<(), io::Error> {
        self.with(|platter| {
            platter.snapshot = Some(pieces);
            Ok(())
        })
    }

    pub(crate) fn cluster(&self) -> Option<String> {
        self.disk.0.lock().cluster.clone()
    }

    pub(crate) fn keep_cluster(&self, cluster: &str) -> Result<(), io::Error> {
        self.with(|platter| {
            platter.cluster = Some(cluster.to_owned());
            Ok(())
        })
    }
}

impl StorageBackend for Opened {
    fn len(&self) -> Result<u64, io::Error> {
        self.with(|platter| Ok(platter.current.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.with(|platter| {
            let from = offset as usize;
            let range = platter.current.get(from..from + out.len());
            out.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.with(|platter| {
            let change = Change::Length(len as usize);
            change.apply(&mut platter.current);
            platter.unsynced.push(change);
            Ok(())
        })
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.with(|platter| {
            for change in platter.unsynced.drain(..) {
                change.apply(&mut platter.durable);
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.with(|platter| {
            let change = Change::Write { offset: offset as usize, bytes: data.to_vec() };
            change.apply(&mut platter.current);
            platter.unsynced.push(change);
            Ok(())
        })
    }
}
