//! A full disk, a file that may not grow, and damaged files: a clear error, and earlier data is intact.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::json;
use tribune_integration::{Program, Request, Settings, TestCluster, TestNode, eventually, skip};

use crate::LIMIT;

/// Size of the disk that is filled up.
const SMALL_DISK: &str = "size=12m";
/// Size in blocks of 512 bytes that no file may outgrow in the test that needs no root.
const FILE_BLOCKS_MAX: u32 = 6 * 1024;
/// Registrations after which any of these disks is full.
const REGISTRATIONS_MAX: usize = 5_000;
/// Text in every registration, so that the disk fills quickly.
const PADDING_BYTES: usize = 8000;

#[test]
fn a_full_disk_refuses_writes_with_a_reason_and_keeps_what_was_acknowledged() {
    let Some(disk) = SmallDisk::mount() else {
        return skip("no permission to mount a small disk: this test needs root");
    };
    let settings = Settings { data_dir: Some(disk.path.join("data")), ..Settings::default() };
    let mut node = TestNode::start_with(settings).unwrap();
    let (acknowledged, status, text) = register_until_refused(&node);
    assert_eq!(status, 500, "{text}");
    assert!(text.contains("free") && text.contains("disk"), "the error must say what to do: {text}");
    let reads = node.get("/v1/catalog/service/filler?stale").unwrap();
    assert_eq!(reads.json().unwrap().as_array().unwrap().len(), acknowledged, "reads go on");
    node.kill().unwrap();
    node.restart().unwrap();
    assert_all_there(&node, acknowledged);
}

#[test]
fn one_full_disk_among_three_stops_nobody_and_names_its_reason() {
    let mut cluster = TestCluster::start(3, 0).unwrap();
    let full = cluster.followers().unwrap()[0];
    cluster.kill(full).unwrap();
    let data = cluster.node(full).data_dir();
    let aside = data.with_extension("aside");
    fs::rename(&data, &aside).unwrap();
    fs::create_dir(&data).unwrap();
    let Some(_disk) = SmallDisk::mount_at(data.clone()) else {
        return skip("no permission to mount a small disk: this test needs root");
    };
    assert!(Command::new("cp").arg("-a").arg(aside.join(".")).arg(&data).status().unwrap().success());
    cluster.restart(full).unwrap();
    cluster.wait_formed().unwrap();
    // What a full disk says: the words in which the system and the program speak of it.
    let says = |log: &str| {
        let log = log.to_lowercase();
        log.contains("no space left") || (log.contains("free") && log.contains("disk"))
    };
    let mut written = 0;
    eventually("the full server says why it cannot go on", LIMIT * 2, || {
        cluster.write(&format!("filler/{written}"), &"x".repeat(PADDING_BYTES * 16))?;
        written += 1;
        Ok(says(&cluster.node(full).log()))
    })
    .unwrap();
    // The others go on, whoever leads now.
    for number in 0..20 {
        cluster.write(&format!("after/{number}"), "fine").unwrap();
    }
    let healthy = cluster.servers().find(|server| *server != full).unwrap();
    let keys = cluster.node(healthy).json("/v1/kv/filler/?keys&consistent").unwrap();
    assert_eq!(keys.as_array().unwrap().len(), written, "acknowledged and lost");
    // With room again it comes back by itself or after a restart, and has everything.
    let grown = Command::new("mount").args(["-o", "remount,size=256m"]).arg(&data).status().unwrap();
    assert!(grown.success(), "the disk could not be enlarged");
    let _ = cluster.kill(full);
    cluster.restart(full).unwrap();
    cluster.wait_formed().unwrap();
    eventually("it has what was written meanwhile", LIMIT, || {
        Ok(cluster.look(full, "/v1/kv/after/19?stale&raw")?.text() == "fine")
    })
    .unwrap();
    // The disk goes before the node's folder does.
    cluster.kill(full).unwrap();
}

#[test]
fn a_log_that_cannot_grow_fails_writes_and_keeps_what_was_acknowledged() {
    // A shell sets the limit; the signal that would end the program at the limit is ignored by its children.
    let limit = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", FILE_BLOCKS_MAX);
    let wrapper = vec!["sh".to_owned(), "-c".to_owned(), limit];
    let mut node = TestNode::start_with(Settings { wrapper, ..Settings::default() }).unwrap();
    let (acknowledged, status, text) = register_until_refused(&node);
    assert!(status >= 500 || status == 0, "{status} {text}");
    assert!(acknowledged > 0, "nothing could be written at all");
    // The program may have ended by itself; if not, it is ended here.
    let _ = node.kill();
    node.remove_wrapper();
    node.restart().unwrap();
    assert_all_there(&node, acknowledged);
}

#[test]
fn damaged_files_are_refused_by_name_and_nothing_is_changed() {
    if Program::under_test() != Program::Tribune {
        return skip("the files of another program look otherwise");
    }
    let mut node = TestNode::start().unwrap();
    for number in 0..50 {
        assert_eq!(register(&node, number).unwrap().0, 200);
    }
    node.kill().unwrap();
    let files = files_in(&node.data_dir());
    let precious: Vec<_> = files.iter().filter(|file| is_precious(file)).collect();
    assert!(!precious.is_empty(), "no log among {files:?}");
    for file in precious {
        let whole = fs::read(file).unwrap();
        for (how, damage) in
            [("overwritten", overwritten(&whole)), ("cut", whole[..whole.len() / 3].to_vec())]
        {
            fs::write(file, &damage).unwrap();
            let (status, said) = node.start_refused().unwrap();
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(!status.success(), "a {how} {name} was accepted");
            assert!(said.contains(name), "{name} was {how}, and the message does not name it:\n{said}");
            assert_eq!(fs::read(file).unwrap().len(), damage.len(), "a {how} {name} was changed");
        }
        fs::write(file, &whole).unwrap();
    }
    node.restart().unwrap();
    assert_all_there(&node, 50);
}

/// A disk of a few megabytes, gone with the value.
struct SmallDisk {
    path: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl SmallDisk {
    /// Over a folder that there is.
    fn mount_at(path: PathBuf) -> Option<Self> {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", SMALL_DISK, "tmpfs"]).arg(&path).output();
        mounted.ok().filter(|output| output.status.success())?;
        Some(Self { path, _folder: None })
    }

    fn mount() -> Option<Self> {
        let folder = tempfile::TempDir::with_prefix("tribune-disk-").unwrap();
        let mut disk = Self::mount_at(folder.path().to_owned())?;
        disk._folder = Some(folder);
        Some(disk)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Left mounted it would only waste memory, and there is nobody to tell.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}

/// Registers until a registration is not acknowledged: how many were, and what the last was answered
/// (status 0 when there was no answer at all).
fn register_until_refused(node: &TestNode) -> (usize, u16, String) {
    for number in 0..REGISTRATIONS_MAX {
        match register(node, number) {
            Ok((200, _)) => {}
            Ok((status, text)) => return (number, status, text),
            Err(error) => return (number, 0, format!("{error:#}")),
        }
    }
    panic!("{REGISTRATIONS_MAX} registrations did not fill the disk");
}

fn register(node: &TestNode, number: usize) -> Result<(u16, String)> {
    let id = format!("filler-{number:05}");
    let tags = ["x".repeat(PADDING_BYTES)];
    let service = json!({"ID": id, "Service": "filler", "Port": 1 + number, "Tags": tags});
    let body = json!({"Node": "filler", "Address": "10.0.0.1", "Service": service});
    let answer = Request::new("PUT", "/v1/catalog/register").body(body.to_string()).send(node.http())?;
    Ok((answer.status, answer.text()))
}

fn assert_all_there(node: &TestNode, acknowledged: usize) {
    let found = node.get("/v1/catalog/service/filler?consistent").unwrap().json().unwrap();
    let found: Vec<_> =
        found.as_array().unwrap().iter().map(|one| one["ServicePort"].as_u64().unwrap()).collect();
    for number in 0..acknowledged {
        assert!(found.contains(&(1 + number as u64)), "registration {number} was acknowledged and is gone");
    }
    // The refused one may have been written after all, but nothing that was never sent.
    assert!(found.len() <= acknowledged + 1, "{} registrations of {acknowledged}", found.len());
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_in(&path)) } else { files.push(path) }
    }
    files
}

/// The log and the snapshots of the registry.
fn is_precious(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "raft")
        && fs::metadata(file).is_ok_and(|meta| meta.len() > 0)
}

/// The same length with the beginning and the middle full of nonsense.
fn overwritten(whole: &[u8]) -> Vec<u8> {
    let mut damaged = whole.to_vec();
    let middle = damaged.len() / 2;
    let nonsense = |byte: &mut u8| *byte = byte.wrapping_add(0x5a);
    damaged.iter_mut().take(64).for_each(nonsense);
    damaged[middle..].iter_mut().take(4096).for_each(nonsense);
    damaged
}
