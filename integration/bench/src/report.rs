//! The table for people and the JSON for everything else.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{Cell, CellAlignment, Color, Table, presets::UTF8_FULL_CONDENSED};
use serde_json::json;

use crate::machine::Machine;
use crate::record::{Better, Measure, Records};
use crate::server::Program;

/// Who was measured, on what and how.
pub(crate) struct Run {
    pub(crate) machine: Machine,
    /// Ours, and the peer if there is one.
    pub(crate) programs: Vec<Program>,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    /// Figures that could not be taken, with the reason.
    pub(crate) failures: Vec<String>,
}

/// Prints medians, and ratios when there is a peer.
pub(crate) fn print(run: &Run, records: &Records) {
    println!("{}", run.machine.line());
    for program in &run.programs {
        println!("{}: {}", program.label, program.version);
    }
    println!(
        "medians of up to {} interleaved rounds of {} s; durable, all servers and clients on the same machine\n",
        run.rounds, run.seconds
    );
    println!("{}", table(run, records));
    for failure in &run.failures {
        println!("not measured: {failure}");
    }
}

/// Writes every raw round.
pub(crate) fn write(path: &Path, run: &Run, records: &Records) -> Result<()> {
    let programs: Vec<_> = run
        .programs
        .iter()
        .map(|program| json!({"label": program.label, "version": program.version}))
        .collect();
    let report = json!({
        "machine": run.machine, "programs": programs, "rounds": run.rounds, "seconds": run.seconds,
        "series": records, "not_measured": run.failures,
    });
    let text = serde_json::to_string_pretty(&report)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn table(run: &Run, records: &Records) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let mut header = vec!["figure".to_owned(), "unit".to_owned(), "instances".to_owned()];
    header.extend(run.programs.iter().map(|program| program.label.clone()));
    if run.programs.len() == 2 {
        header.push("ours ÷ peer".to_owned());
    }
    table.set_header(header);
    for (measure, instances) in records.rows() {
        let mut row = vec![Cell::new(measure.name), Cell::new(measure.unit), right(instances.to_string())];
        let medians: Vec<_> = run
            .programs
            .iter()
            .map(|program| records.find(measure, instances, &program.label).map(|series| series.median))
            .collect();
        row.extend(medians.iter().map(|median| right(median.map_or("–".to_owned(), number))));
        if let [Some(ours), Some(peer)] = medians[..] {
            row.push(ratio(measure, ours, peer));
        }
        table.add_row(row);
    }
    table
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn ratio(measure: Measure, ours: f64, peer: f64) -> Cell {
    if peer == 0.0 {
        return right(if ours == 0.0 { "=".to_owned() } else { "–".to_owned() });
    }
    let ratio = ours / peer;
    let better = match measure.better {
        Better::Higher => ratio > 1.0,
        Better::Lower => ratio < 1.0,
    };
    let color = if better { Color::Green } else { Color::Red };
    right(if ratio >= 10.0 { format!("{ratio:.1}") } else { format!("{ratio:.2}") }).fg(color)
}

/// Three or four digits are all that a measurement is worth.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => grouped(value.round() as i64),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn grouped(value: i64) -> String {
    let digits = value.abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 { format!("-{text}") } else { text }
}
