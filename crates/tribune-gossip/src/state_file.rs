//! What a pool remembers over a restart: addresses of members and the clock of user events.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::keyring::replace_file;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Version of the file's form.
const VERSION: u32 = 1;

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedState {
    /// The clock of user events.
    pub(crate) clock: u64,
    /// The node had left; it does not return by itself.
    pub(crate) left: bool,
    pub(crate) members: Vec<SavedMember>,
}

/// A member of before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedMember {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    #[serde(flatten)]
    state: SavedState,
}

/// The file.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    /// What is written. An empty list never replaces its members, because they are needed most when all are away.
    state: SavedState,
    rejoin_after_leave: bool,
    /// This run has written the file.
    written: bool,
}

/// A version of the file that is about to be written.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    content: Vec<u8>,
}

impl StateFile {
    /// Reads the file. One that cannot be read is put aside and said so; the pool then starts without memory.
    pub(crate) fn open(path: &Path, rejoin_after_leave: bool) -> Self {
        let state = match read(path) {
            Ok(state) => state.unwrap_or_default(),
            Err(reason) => {
                let mut aside = path.as_os_str().to_owned();
                aside.push(".damaged");
                let moved = fs::rename(path, &aside);
                warn!(path = %path.display(), %reason, aside = %aside.display(), moved = moved.is_ok(), "the file of known members is damaged and was put aside; members are found by retry_join");
                SavedState::default()
            }
        };
        Self { path: path.to_owned(), state, rejoin_after_leave, written: false }
    }

    pub(crate) fn clock(&self) -> u64 {
        self.state.clock
    }

    /// Whether nobody could be found with what is written.
    pub(crate) fn knows_nobody(&self) -> bool {
        self.state.members.is_empty()
    }

    /// Addresses of members of before, unless the node had left them.
    pub(crate) fn seeds(&self) -> impl Iterator<Item = SocketAddr> {
        let away = self.state.left && !self.rejoin_after_leave;
        self.state.members.iter().filter(move |_| !away).map(|member| member.address)
    }

    /// The file to be written for this state, if it is another than before.
    pub(crate) fn draft(&mut self, mut state: SavedState) -> Option<Draft> {
        if state.members.is_empty() {
            state.members.clone_from(&self.state.members);
        }
        if self.written && state == self.state {
            return None;
        }
        self.state = state.clone();
        self.written = true;
        let content = serde_json::to_vec_pretty(&Content { version: VERSION, state }).ok()?;
        Some(Draft { path: self.path.clone(), content })
    }
}

impl Draft {
    pub(crate) fn write(self) {
        if let Err(error) = replace_file(&self.path, &self.content) {
            warn!(path = %self.path.display(), %error, "the file of known members cannot be written");
        }
    }
}

fn read(path: &Path) -> Result<Option<SavedState>, String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(about) if about.len() > FILE_BYTES_MAX => return Err("it is too large".into()),
        Ok(_) => {}
    }
    let content = fs::read(path).map_err(|error| error.to_string())?;
    let content: Content = serde_json::from_slice(&content).map_err(|error| error.to_string())?;
    if content.version != VERSION {
        return Err(format!("it is of version {}, not {VERSION}", content.version));
    }
    Ok(Some(content.state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(members: &[u16]) -> SavedState {
        let member =
            |port: &u16| SavedMember { name: format!("n{port}"), address: ([127, 0, 0, 1], *port).into() };
        SavedState { clock: 7, left: false, members: members.iter().map(member).collect() }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("serf/local.snapshot");
        let mut file = StateFile::open(&path, false);
        assert_eq!((file.clock(), file.seeds().count()), (0, 0));
        file.draft(state(&[1, 2])).unwrap().write();
        assert!(file.draft(state(&[1, 2])).is_none(), "unchanged");
        let again = StateFile::open(&path, false);
        assert_eq!((again.clock(), again.seeds().count()), (7, 2));
    }

    #[test]
    fn members_are_remembered_when_all_are_away_but_not_after_leaving() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut file = StateFile::open(&path, false);
        file.draft(state(&[1])).unwrap().write();
        assert!(file.draft(state(&[])).is_none());
        file.draft(SavedState { left: true, ..state(&[]) }).unwrap().write();
        assert_eq!(StateFile::open(&path, false).seeds().count(), 0);
        assert_eq!(StateFile::open(&path, true).seeds().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        for damage in ["", "{", "[]", "{\"version\":9,\"clock\":1,\"left\":false,\"members\":[]}"] {
            fs::write(&path, damage).unwrap();
            assert_eq!(StateFile::open(&path, false).seeds().count(), 0);
            assert!(!path.exists() && directory.path().join("state.damaged").exists());
        }
    }
}
