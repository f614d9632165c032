//! Bringing a datacenter back whose majority is lost for good: the membership in a data directory is rewritten to
//! the servers that are left. Done by hand, with the server stopped, on each of those servers with the same list.
//!
//! Everything in the log is taken for agreed upon, since nobody can be asked any more. The result is a snapshot at
//! the end of the log that names the new servers, and an empty log behind it; of the servers with the same list the
//! one whose log was longest wins. The cluster gets another id, so that servers that were given up but come back
//! are refused instead of forming a majority of their own. The file `recovered` in the directory tells what was
//! done.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use openraft::EntryPayload;
use tribune_core::{Index, State};

use crate::config::ServerInfo;
use crate::directory::{Directory, Opened};
use crate::error::StartError;
use crate::identity::{cluster_id, recovered_id};
use crate::restore::{Staging, Taken};
use crate::snapshot::file;
use crate::types::{
    Entry, LogId, Membership, Proposal, ServerNode, SnapshotMeta, StoredMembership, consensus_id,
};

/// What was done to a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The last entry that was kept.
    pub last: Index,
    /// Its term.
    pub term: u64,
    /// Where it is told what was done.
    pub note: PathBuf,
}

/// Makes `servers`, all with a vote, the servers of the datacenter in `directory`, which is that of the server
/// `own`. The server must be stopped. Doing it again with the same list does nothing more. Blocks.
pub fn recover(
    directory: &Path,
    datacenter: &str,
    own: &str,
    servers: &[ServerInfo],
) -> Result<Recovery, StartError> {
    let ids: Vec<String> = servers.iter().map(|server| server.id.clone()).collect();
    if !ids.iter().any(|id| id == own) {
        return Err(StartError::Config(format!(
            "server {own} is not among the servers that shall go on: its data would be of no use to them"
        )));
    }
    let membership = membership(servers)?;
    let Opened { directory: mut opened, log, snapshot } = Directory::open(directory, own)?;
    let read = log.read_all().map_err(|error| failed("read", directory, error));
    log.close_blocking();
    let (entries, disk) = read?;
    let (last, state) = replay(snapshot, entries)?;
    let Some(last) = last else {
        return Err(StartError::Config(format!(
            "{} holds no data of a datacenter; there is nothing to recover",
            directory.display()
        )));
    };
    let old = opened.cluster().map_or_else(|| cluster_id(datacenter, &[own.to_owned()]), str::to_owned);
    let note = opened.path().join("recovered");
    let new = match former_cluster(&note).map(|former| recovered_id(&former, &ids)) {
        Some(done) if done == old => old.clone(),
        _ => {
            let new = recovered_id(&old, &ids);
            write_note(&note, &old, &new, servers, &last).map_err(|error| failed("write", &note, error))?;
            new
        }
    };
    let meta = SnapshotMeta {
        last_log_id: Some(last),
        last_membership: StoredMembership::new(Some(last), membership),
    };
    file::write(&opened.snapshots(), &meta, &state).map_err(|error| failed("write", directory, error))?;
    disk.forget(last).map_err(|error| StartError::Consensus(error.to_string()))?;
    opened.mark_used(&new)?;
    let term = last.committed_leader_id().term;
    Ok(Recovery { last: Index(last.index), term, note })
}

fn membership(servers: &[ServerInfo]) -> Result<Membership, StartError> {
    let nodes: std::collections::BTreeMap<u64, ServerNode> =
        servers.iter().map(|server| (consensus_id(&server.id), server.into())).collect();
    if nodes.len() != servers.len() {
        return Err(StartError::Config("two of the servers have the same id".to_owned()));
    }
    Membership::new(vec![nodes.keys().copied().collect()], nodes)
        .map_err(|error| StartError::Config(error.to_string()))
}

/// The state at the end of the log.
fn replay(
    snapshot: Option<(SnapshotMeta, State)>,
    entries: Vec<Entry>,
) -> Result<(Option<LogId>, State), StartError> {
    let (meta, mut state) = snapshot.unwrap_or_default();
    let mut last = meta.last_log_id;
    let mut staging = Staging::default();
    for entry in entries {
        if Some(entry.log_id) <= last {
            continue;
        }
        last = Some(entry.log_id);
        let (index, term) = (entry.log_id.index, entry.log_id.committed_leader_id().term);
        staging.pass(term, index);
        match entry.payload {
            EntryPayload::Normal(Proposal::Command(command)) => {
                state.apply(Index(index), &command);
            }
            EntryPayload::Normal(Proposal::Restore(step)) => {
                state.advance(Index(index));
                if let Taken::Complete(pieces) = staging.take(&step, term, index)
                    && let Ok(mut restored) = file::assemble_rebased(pieces, Index(index))
                {
                    restored.succeed(&state, Index(index));
                    state = restored;
                }
            }
            EntryPayload::Blank | EntryPayload::Membership(_) => state.advance(Index(index)),
        }
    }
    Ok((last, state))
}

/// The cluster that an earlier recovery began with.
fn former_cluster(note: &Path) -> Option<String> {
    let text = std::fs::read_to_string(note).ok()?;
    text.lines().find_map(|line| line.strip_prefix("from cluster: ")).map(str::to_owned)
}

fn write_note(
    path: &Path,
    old: &str,
    new: &str,
    servers: &[ServerInfo],
    last: &LogId,
) -> Result<(), std::io::Error> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut text = format!(
        "The membership of this server's datacenter was rewritten by hand.\n\
         at (seconds since 1970): {seconds}\nfrom cluster: {old}\nto cluster: {new}\n\
         last entry kept: {} of term {}\nservers that go on:\n",
        last.index,
        last.committed_leader_id().term
    );
    for server in servers {
        // Writing into a string does not fail.
        let _ = writeln!(text, "  {} {} {}", server.id, server.name, server.address);
    }
    std::fs::write(path, text)?;
    std::fs::File::open(path)?.sync_all()
}

fn failed(doing: &'static str, path: &Path, source: std::io::Error) -> StartError {
    StartError::Io { doing, path: path.to_owned(), source }
}
