//! Reading scenario files.
//!
//! A step begins with a method and a path, goes on with headers and a body, and after `----` with the
//! expected answer. In a request body, a line `@repeat 20000 [` stands for twenty thousand brackets,
//! `@hex fffe` for these two bytes, and lines are joined without anything between them.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::expect::Expected;
use super::{Scenario, Step};
use crate::http::Request;

const METHODS: [&str; 8] = ["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"];
const EVENTUALLY: &str = "EVENTUALLY ";

/// Reads one file.
pub(super) fn scenario(path: &Path, text: &str) -> Result<Scenario> {
    let lines: Vec<_> = text.lines().enumerate().map(|(number, line)| (number + 1, line)).collect();
    let starts: Vec<_> = (0..lines.len()).filter(|at| method(lines[*at].1).is_some()).collect();
    let first = *starts.first().context("no request in this file")?;
    ensure!(lines[0].1.starts_with("# "), "the first line must say what the scenario shows");

    let mut scenario = Scenario {
        path: path.to_owned(),
        configuration: Value::Object(serde_json::Map::new()),
        tribune_only: false,
        steps: Vec::new(),
    };
    // What stands directly above the first request, without a blank line between, belongs to that step.
    let head = (0..first).rev().find(|at| lines[*at].1.is_empty()).unwrap_or(first);
    for (_, line) in &lines[..head] {
        if let Some(json) = line.strip_prefix("# config: ") {
            scenario.configuration = serde_json::from_str(json).context("config is not JSON")?;
        }
        scenario.tribune_only |= line.starts_with("# tribune only: ");
    }
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(lines.len());
        let from = if index == 0 { head } else { starts[index - 1] };
        let marks = lines[from..*start].iter().rev().take_while(|(_, line)| line.starts_with('#'));
        let tribune_only = marks.into_iter().any(|(_, line)| line.starts_with("# tribune only: "));
        let number = lines[*start].0;
        let step = step(&lines[*start..end], tribune_only).with_context(|| format!("line {number}"))?;
        scenario.steps.push(step);
    }
    Ok(scenario)
}

fn method(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix(EVENTUALLY).unwrap_or(line);
    line.split_once(' ').filter(|(method, _)| METHODS.contains(method))
}

fn step(lines: &[(usize, &str)], tribune_only: bool) -> Result<Step> {
    let (line, first) = lines[0];
    let (method, target) = method(first).context("not a request line")?;
    let cut = lines.iter().position(|(_, line)| *line == "----").context("a step without `----`")?;
    let mut request = Request::new(method, target);
    let mut in_headers = true;
    for (_, line) in &lines[1..cut] {
        in_headers &= header(line).is_some();
        match header(line) {
            Some((name, value)) if in_headers => request.headers.push((name.to_owned(), value.to_owned())),
            _ => request.body.extend(bytes(line)?),
        }
    }
    let rest: Vec<_> = lines[cut + 1..]
        .iter()
        .map(|(_, line)| *line)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let eventually = first.starts_with(EVENTUALLY);
    Ok(Step { line, eventually, tribune_only, request, expected: expected(&rest)? })
}

fn expected(lines: &[&str]) -> Result<Expected> {
    let status = lines.first().context("no status after `----`")?.parse().context("not a status")?;
    let headers: Vec<_> = lines[1..]
        .iter()
        .map_while(|line| header(line))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let body = lines[1 + headers.len()..].join("\n");
    Expected::new(status, headers, &body)
}

/// `Name: value` with a name of letters and dashes; JSON never looks like that.
fn header(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let named =
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    named.then_some((name, value.trim()))
}

fn bytes(line: &str) -> Result<Vec<u8>> {
    if let Some(repeated) = line.strip_prefix("@repeat ") {
        let (times, text) = repeated.split_once(' ').context("@repeat takes a number and a text")?;
        return Ok(text.repeat(times.parse()?).into_bytes());
    }
    if let Some(hex) = line.strip_prefix("@hex ") {
        if !hex.len().is_multiple_of(2) {
            bail!("@hex takes pairs of digits");
        }
        return (0..hex.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&hex[at..at + 2], 16)?)).collect();
    }
    Ok(line.as_bytes().to_vec())
}
