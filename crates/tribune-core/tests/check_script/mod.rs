//! The steps of check transcripts.
//!
//! `new [interval=s | ttl=s] [offset=s] [status=…] [success=n] [warning=n] [critical=n] [slow_warning=ms]
//! [slow_critical=ms] [remove=s]`, then `<seconds> result <status> [took=ms] [output]`, `<seconds> renew <status>
//! [output]`, `<seconds> tick` (until nothing is due).

use std::time::Duration;

use tribune_core::check::{Change, Event, Observation};
use tribune_core::{CheckDefinition, CheckId, CheckMachine, CheckSpec, InstanceId, Status, Timestamp};

use crate::transcript::Script;

#[derive(Default)]
pub(crate) struct OneCheck(Option<CheckMachine>);

impl Script for OneCheck {
    fn step(&mut self, words: &str) -> String {
        if let Some(rest) = words.strip_prefix("new ") {
            return self.begin(rest);
        }
        let (at, rest) = words.split_once(' ').expect("a time and a step");
        let now = Timestamp(at.parse::<u64>().expect("seconds") * 1000);
        let machine = self.0.as_mut().expect("a machine");
        let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (level, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let said = match verb {
            "tick" => {
                let events = std::iter::from_fn(|| machine.tick(now)).take(10);
                let events: Vec<_> = events.map(event).collect();
                if events.is_empty() { "nothing".to_owned() } else { events.join(", ") }
            }
            "result" => {
                let took = Duration::from_millis(number(rest, "took").unwrap_or_default());
                let words = rest.split(' ').filter(|word| !word.starts_with("took="));
                let output = words.collect::<Vec<_>>().join(" ").into();
                change(machine.result(now, Observation { status: status(level), output, took }))
            }
            "renew" => change(machine.renew(now, status(level), rest.into())),
            other => panic!("no such step: {other}"),
        };
        format!("{said}{}", describe(machine))
    }
}

impl OneCheck {
    fn begin(&mut self, words: &str) -> String {
        let seconds = |key| number(words, key).map(Duration::from_secs);
        let definition = CheckDefinition {
            tcp: if seconds("interval").is_some() { "localhost:1".into() } else { Default::default() },
            interval: seconds("interval"),
            ttl: seconds("ttl"),
            deregister_critical_service_after: seconds("remove"),
            ..CheckDefinition::default()
        };
        let mut spec = CheckSpec::new(CheckId::new("c").expect("an id"), "c", definition);
        spec.service_id = Some(InstanceId::new("web").expect("an id"));
        spec.status = status(word(words, "status").unwrap_or("critical"));
        let count = |key| number(words, key).map_or(0, |count| count as u32);
        spec.success_before_passing = count("success");
        spec.failures_before_warning = count("warning");
        spec.failures_before_critical = count("critical");
        spec.slow_warning = number(words, "slow_warning").map(Duration::from_millis);
        spec.slow_critical = number(words, "slow_critical").map(Duration::from_millis);
        let kind = spec.kind().expect("a usable check");
        let machine = CheckMachine::new(&spec, kind, Timestamp(0), seconds("offset").unwrap_or_default());
        let said = describe(&machine);
        self.0 = Some(machine);
        said.trim_start().to_owned()
    }
}

fn describe(machine: &CheckMachine) -> String {
    let next = machine.deadline().map_or("never".to_owned(), |at| format!("{} s", at.0 / 1000));
    let output = if machine.output().is_empty() { String::new() } else { format!(" ({})", machine.output()) };
    format!("\n{}{output}, next {next}", machine.status())
}

fn change(change: Option<Change>) -> String {
    match change {
        None => "nothing".into(),
        Some(Change::Output) => "output".into(),
        Some(Change::Status { from, to }) => format!("{from} -> {to}"),
    }
}

fn event(event: Event) -> String {
    match event {
        Event::Probe => "probe".into(),
        Event::RemoveService => "remove the service".into(),
        Event::Changed(changed) => change(Some(changed)),
    }
}

fn status(word: &str) -> Status {
    match word {
        "passing" => Status::Passing,
        "warning" => Status::Warning,
        "critical" => Status::Critical,
        other => panic!("no such status: {other}"),
    }
}

fn word<'a>(words: &'a str, key: &str) -> Option<&'a str> {
    words.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn number(words: &str, key: &str) -> Option<u64> {
    word(words, key).map(|number| number.parse().expect("a number"))
}
