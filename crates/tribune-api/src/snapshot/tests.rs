//! Archives that are whole, and all the ways in which they are not.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tribune_core::State;
use tribune_core::state::Record;
use tribune_core::{Authority, Command, Index, Node, NodeName, Pairs, Registration};

use super::*;

fn state() -> State {
    let mut state = State::default();
    for number in 1..=3_u64 {
        let node = Node {
            name: NodeName::new(format!("n{number}")).unwrap(),
            id: "".into(),
            address: "10.0.0.1".into(),
            tagged_addresses: Pairs::default(),
            meta: Pairs::default(),
        };
        let registration = Registration { node, skip_node_update: false, service: None, checks: Vec::new() };
        state.apply(Index(number), &Command::Register(Box::new(registration)));
    }
    state
}

fn archive() -> Vec<u8> {
    let server = Server { suffrage: 0, id: "s1".into(), address: "10.0.0.1:8300".into() };
    let meta = Meta::new(4, 3, 1_795_619_892_590, vec![server]);
    write(meta, 1_795_619_892, state().records()).unwrap()
}

type Files = Vec<(String, Vec<u8>)>;

fn unpacked(archive: &[u8]) -> Files {
    let mut tar = tar::Archive::new(GzDecoder::new(archive));
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_string_lossy().into_owned(), bytes)
    });
    entries.collect()
}

fn packed(files: &Files) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// The files with their sums made right.
fn summed(mut files: Files) -> Files {
    files.retain(|(name, _)| name != SUMS);
    let sums = files.iter().map(|(name, bytes)| {
        use sha2::Digest;
        format!("{}  {name}\n", write::hex(&sha2::Sha256::digest(bytes)))
    });
    let sums: String = sums.collect();
    files.push((SUMS.to_owned(), sums.into_bytes()));
    files
}

fn refused(archive: &[u8]) -> String {
    let inspected = inspect(archive).unwrap_err();
    assert_eq!(read(archive).unwrap_err(), inspected);
    inspected.0
}

#[test]
fn what_is_written_can_be_read() {
    let (meta, records) = read(archive().as_slice()).unwrap();
    assert_eq!((meta.index, meta.term, meta.id.as_str()), (3, 4, "4-3-1795619892590"));
    let again = State::from_records(records).unwrap();
    assert_eq!(again, state());
    assert_eq!(again.view(&Authority::unrestricted()).nodes().count(), 3);
    let inspection = inspect(archive().as_slice()).unwrap();
    assert_eq!(inspection.meta, meta);
    assert_eq!(inspection.kinds["Node"].count, 3);
    assert_eq!(inspection.kinds["Header"].count, 1);
    let names: Vec<String> = unpacked(&archive()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [META, STATE, SUMS]);
}

#[test]
fn a_changed_archive_is_refused() {
    let files = unpacked(&archive());
    let with = |change: &dyn Fn(&mut Files)| {
        let mut files = files.clone();
        change(&mut files);
        refused(&packed(&files))
    };
    let unsound = "failed to read snapshot file: failed checking integrity of snapshot:";
    let text = with(&|files| *files[1].1.last_mut().unwrap() ^= 1);
    assert!(text.starts_with("failed to read snapshot file:"), "{text}");
    assert_eq!(
        with(&|files| files[0].1.push(b' ')),
        format!("{unsound} hash check failed for \"meta.json\"")
    );
    assert_eq!(
        with(&|files| files.push(("foo".into(), vec![]))),
        "failed to read snapshot file: unexpected file \"foo\" in snapshot"
    );
    assert_eq!(with(&|files| drop(files.remove(1))), format!("{unsound} file missing for \"state.bin\""));
    assert_eq!(with(&|files| drop(files.remove(2))), format!("{unsound} SHA256SUMS is missing"));
    assert_eq!(with(&|files| files[2].1.clear()), format!("{unsound} list missing hash for \"meta.json\""));
    assert!(with(&|files| files.push(files[0].clone())).ends_with("twice"));
    assert_eq!(with(&Vec::clear), format!("{unsound} SHA256SUMS is missing"));
}

#[test]
fn a_cut_archive_is_refused_wherever_it_is_cut() {
    let whole = archive();
    for length in 0..whole.len() {
        refused(&whole[..length]);
    }
    assert_eq!(refused(b"Hello, I am no archive"), "failed to decompress snapshot: gzip: invalid header");
}

#[test]
fn what_another_program_wrote_is_told_apart() {
    let with_state = |bytes: &[u8]| {
        let mut files = unpacked(&archive());
        files[1].1 = bytes.to_vec();
        refused(&packed(&summed(files)))
    };
    assert!(with_state(b"\x81\xa9LastIndex\x56\x00\x8d\xa7Address").contains("snapshot of Consul"));
    assert!(with_state(b"").contains("snapshot of Consul"));
    assert!(with_state(b"tribune state\x02").contains("another version of Tribune"));
    assert!(with_state(b"tribune state\x01\x03\x00\x00\x00abc").contains("an object is damaged"));
    assert!(with_state(b"tribune state\x01\xff\xff\xff\xff").contains("is larger than"));
    assert!(with_state(b"tribune state\x01\x03\x00").contains("unexpected EOF"));
    let mut files = unpacked(&archive());
    files[0].1 = br#"{"Version":2,"Index":1}"#.to_vec();
    assert!(refused(&packed(&summed(files))).contains("has version 2"));
    assert_eq!(read(packed(&summed(unpacked(&archive()))).as_slice()).unwrap().0.index, 3);
}

#[test]
fn a_small_archive_cannot_unfold_without_end() {
    // A state whose header announces more than is allowed, and two files of blanks without end.
    let mut header = tar::Header::new_gnu();
    header.set_path(STATE).unwrap();
    header.set_size(STATE_BYTES_MAX + 1);
    header.set_cksum();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(header.as_bytes()).unwrap();
    assert!(refused(&gzip.finish().unwrap()).contains("is larger than"));
    let mut header = tar::Header::new_gnu();
    header.set_path(META).unwrap();
    header.set_size(64 << 20);
    header.set_cksum();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(header.as_bytes()).unwrap();
    let blanks = vec![b' '; 1 << 20];
    (0..64).for_each(|_| gzip.write_all(&blanks).unwrap());
    assert!(refused(&gzip.finish().unwrap()).contains("failed to decode snapshot metadata"));
}

#[test]
fn records_are_as_they_were() {
    let before: Vec<Record> = state().records().collect();
    assert_eq!(read(archive().as_slice()).unwrap().1, before);
}
