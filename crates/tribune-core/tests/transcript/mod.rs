//! Reading, running and rewriting transcripts.

use std::fs;
use std::path::Path;

/// Something that answers one step after the other.
pub(crate) trait Script {
    fn step(&mut self, words: &str) -> String;
}

/// Runs every file of `testdata/<folder>` with a fresh script and compares what it says.
pub(crate) fn run<S: Script>(folder: &str, fresh: impl Fn() -> S) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("a well-formed transcript")
        .map(|entry| entry.expect("a well-formed transcript").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no transcripts in {}", folder.display());
    let mut differing = Vec::new();
    for file in files {
        let expected = fs::read_to_string(&file).expect("a well-formed transcript");
        let actual = replay(&expected, &mut fresh());
        if actual == expected {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &actual).expect("a well-formed transcript");
        } else {
            differing.push(format!("{}:\n{}", file.display(), first_difference(&expected, &actual)));
        }
    }
    assert!(differing.is_empty(), "transcripts differ; UPDATE=1 accepts\n{}", differing.join("\n"));
}

/// The transcript with its results replaced by what the script says now. Comments and blank lines stay.
fn replay(text: &str, script: &mut impl Script) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if let Some(words) = line.strip_prefix("> ") {
            let result = script.step(words);
            out.push_str(line);
            out.push('\n');
            for result in result.lines() {
                out.push_str(&format!("  {result}\n"));
            }
        } else if line.starts_with('#') || line.is_empty() {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn first_difference(expected: &str, actual: &str) -> String {
    let pair = expected.lines().zip(actual.lines()).enumerate().find(|(_, (a, b))| a != b);
    match pair {
        Some((at, (a, b))) => format!("line {}:\n  expected {a}\n  actual   {b}", at + 1),
        None => format!("expected {} lines, got {}", expected.lines().count(), actual.lines().count()),
    }
}
