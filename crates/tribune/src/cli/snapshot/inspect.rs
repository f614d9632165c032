//! `tribune snapshot inspect`: what a file holds.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;
use tribune_api::snapshot::{self, Inspection};

use super::only;
use crate::cli::output::{columns, indented, print, row};

/// Shows what a file holds, and whether it is whole.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// How it is shown.
    #[arg(long, default_value = "pretty", value_parser = ["pretty", "json"])]
    format: String,
    /// The file to look at.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let file = only(&arguments.files)?;
    let opened = File::open(file).map_err(|error| super::unopened(file, &error))?;
    let inspection = snapshot::inspect(BufReader::new(opened)).context("Error verifying snapshot")?;
    let text = if arguments.format == "json" { machine(&inspection) } else { people(&inspection) };
    print(text)?;
    Ok(ExitCode::SUCCESS)
}

fn people(inspection: &Inspection) -> String {
    let meta = &inspection.meta;
    let facts = [
        ("ID", meta.id.clone()),
        ("Size", meta.size.to_string()),
        ("Index", meta.index.to_string()),
        ("Term", meta.term.to_string()),
        ("Version", meta.version.to_string()),
    ];
    let facts: String = facts.iter().map(|(name, value)| format!("{name:<13}{value}\n")).collect();
    let mut rows = vec![row(["Type", "Count", "Size"])];
    rows.extend(
        inspection
            .kinds
            .iter()
            .map(|(name, kind)| row([name, &kind.count.to_string(), &kind.bytes.to_string()])),
    );
    let bytes: u64 = inspection.kinds.values().map(|kind| kind.bytes).sum();
    rows.push(row(["Total", "", &bytes.to_string()]));
    format!("{facts}\n{}", columns(&rows))
}

fn machine(inspection: &Inspection) -> String {
    let kinds = inspection.kinds.iter();
    let stats: Vec<_> =
        kinds.map(|(name, kind)| json!({"Name": name, "Count": kind.count, "Sum": kind.bytes})).collect();
    let bytes: u64 = inspection.kinds.values().map(|kind| kind.bytes).sum();
    indented(&json!({"Meta": inspection.meta, "Stats": stats, "TotalSize": bytes}).to_string())
}

#[cfg(test)]
mod tests {
    use tribune_api::snapshot::{Kind, Meta};

    use super::*;

    #[test]
    fn facts_come_first_and_then_what_there_is() {
        let meta = Meta { size: 5113, ..Meta::new(2, 18, 1_795_618_884_135, Vec::new()) };
        let kinds = [("Node".to_owned(), Kind { count: 2, bytes: 300 })].into();
        let expected = "\
ID           2-18-1795618884135
Size         5113
Index        18
Term         2
Version      1

Type   Count  Size
Node   2      300
Total         300
";
        assert_eq!(people(&Inspection { meta, kinds }), expected);
    }
}
