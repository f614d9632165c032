//! Wire scenarios: text files of requests and what must come back.
//!
//! ```text
//! # what this shows
//! # config: {"http_config": {"use_cache": false}}
//!
//! PUT /v1/agent/service/register
//! {"Name": "web"}
//! ----
//! 200
//! <empty>
//!
//! # tribune only: why Consul answers otherwise
//! EVENTUALLY GET /v1/health/service/web?index=${index}
//! Accept-Encoding: identity
//! ----
//! 200
//! X-Consul-Index: <number as next>
//! [{"Service": {"ID": "web"}}]
//! ```
//!
//! Before the first request `# tribune only:` and `# config:` concern the whole file, later the next step.
//! `EVENTUALLY` repeats the request until the answer fits. What a body may be is told in `expect`, and how a
//! request body can hold what a text file cannot in `parse`.

mod expect;
mod parse;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::http::Request;
use crate::node::{Settings, TestNode};
use crate::program::Program;
use crate::wait::eventually;
use expect::Expected;

/// How long an `EVENTUALLY` may take.
const EVENTUALLY_LIMIT: Duration = Duration::from_secs(20);

/// Values captured from answers, by name.
type Captured = BTreeMap<String, String>;

/// One file.
#[derive(Debug)]
pub struct Scenario {
    path: PathBuf,
    configuration: Value,
    tribune_only: bool,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    line: usize,
    eventually: bool,
    tribune_only: bool,
    request: Request,
    expected: Expected,
}

/// How a scenario went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every step was as expected.
    Passed,
    /// The file is marked as ours only, and the server is Consul.
    NotForConsul,
}

impl Scenario {
    /// Every scenario below `folder`, in name order.
    pub fn all(folder: &Path) -> Result<Vec<Self>> {
        let mut scenarios = Vec::new();
        for endpoint in sorted(folder)? {
            for file in sorted(&endpoint)? {
                let text = fs::read_to_string(&file)?;
                let scenario = parse::scenario(&file, &text);
                scenarios.push(scenario.with_context(|| file.display().to_string())?);
            }
        }
        Ok(scenarios)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The paths that are asked, in order.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| step.request.target.as_str())
    }

    /// Runs all steps against a fresh server; the error says which line was not as expected.
    pub fn run(&self, program: &Program) -> Result<Verdict> {
        let consul = program.is_consul();
        if self.tribune_only && consul {
            return Ok(Verdict::NotForConsul);
        }
        let configuration = self.configuration.clone();
        let node = TestNode::start_with(Settings {
            program: program.clone(),
            configuration,
            ..Settings::default()
        })?;
        let mut captured = Captured::new();
        for step in self.steps.iter().filter(|step| !(step.tribune_only && consul)) {
            step.run(&node, &mut captured)
                .with_context(|| format!("{}:{}", self.path.display(), step.line))?;
        }
        Ok(Verdict::Passed)
    }
}

impl Step {
    fn run(&self, node: &TestNode, captured: &mut Captured) -> Result<()> {
        if !self.eventually {
            return self.once(node, captured);
        }
        let mut last = Ok(());
        let done = eventually("the expected answer", EVENTUALLY_LIMIT, || {
            last = self.once(node, captured);
            Ok(last.is_ok())
        });
        done.or(last)
    }

    fn once(&self, node: &TestNode, captured: &mut Captured) -> Result<()> {
        let request = Request {
            target: fill(&self.request.target, captured)?,
            body: match String::from_utf8(self.request.body.clone()) {
                Ok(text) => fill(&text, captured)?.into_bytes(),
                Err(not_text) => not_text.into_bytes(),
            },
            ..self.request.clone()
        };
        let answer = request.send(node.http())?;
        self.expected.check(&answer, captured).with_context(|| {
            let head: String =
                answer.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            let Request { method, target, .. } = &request;
            let text: String = answer.text().chars().take(4000).collect();
            format!("{method} {target} was answered\n{}\n{head}\n{text}\n", answer.status)
        })
    }
}

/// Replaces `${name}` by what was captured under that name.
fn fill(text: &str, captured: &Captured) -> Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else { break };
        let Some(value) = captured.get(name) else { bail!("nothing was captured as {name}") };
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
