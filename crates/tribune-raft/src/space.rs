//! Whether the disk has room for more. A disk that fills up is noticed before the log meets it: proposals are
//! refused while little is left, so that the log always has room for votes and the replica goes on answering.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;
use parking_lot::Mutex;

use crate::error::Error;

/// Kept free on large disks: the log between two looks, and the next snapshot of a usual datacenter.
const RESERVE_BYTES_MAX: u64 = 64 << 20;
/// On small disks this part of them is kept free.
const RESERVE_PART: u64 = 16;
/// Between two looks at the disk.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The disk under a data directory.
#[derive(Debug)]
pub(crate) struct Space {
    directory: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    available: u64,
    needed: u64,
}

impl Space {
    pub(crate) fn new(directory: PathBuf) -> Self {
        let seen = look(&directory);
        Self { directory, seen: Mutex::new(seen) }
    }

    /// Refuses when the disk is nearly full.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut seen = self.seen.lock();
        if seen.at.elapsed() >= LOOK_INTERVAL {
            *seen = look(&self.directory);
        }
        let Seen { available, needed, .. } = *seen;
        if available < needed {
            return Err(Error::DiskFull { directory: self.directory.clone(), available, needed });
        }
        Ok(())
    }
}

/// A disk that cannot be asked counts as free: the write itself will tell.
fn look(directory: &PathBuf) -> Seen {
    let (available, total) = match statvfs(directory) {
        Ok(disk) => {
            let block = disk.fragment_size();
            (disk.blocks_available() * block, disk.blocks() * block)
        }
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "cannot see how much space is free");
            (u64::MAX, u64::MAX)
        }
    };
    Seen { at: Instant::now(), available, needed: RESERVE_BYTES_MAX.min(total / RESERVE_PART) }
}
