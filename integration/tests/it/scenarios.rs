//! Runs every wire scenario, each against a fresh server.
//!
//! With `TRIBUNE_TEST_PEER=consul` they run against that program instead: what they expect must be true
//! there too, but for steps that are marked as ours only. `TRIBUNE_SCENARIO=part/of/path` runs only some.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tribune_integration::{Program, Scenario};

/// Servers that run at once: they mostly wait for elections and timers.
const AT_ONCE: usize = 4;

#[test]
fn every_scenario_is_answered_as_written() {
    let program = Program::under_test();
    let part = std::env::var("TRIBUNE_SCENARIO").unwrap_or_default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut scenarios = Scenario::all(&folder).unwrap();
    scenarios.retain(|scenario| scenario.path().to_string_lossy().contains(&part));
    assert!(!scenarios.is_empty(), "no scenario has {part:?} in its path");

    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = scenario.run(&program) {
                        failures.lock().unwrap().push(format!("{error:#}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {} scenarios failed:\n\n{}",
        failures.len(),
        scenarios.len(),
        failures.join("\n\n")
    );
}
