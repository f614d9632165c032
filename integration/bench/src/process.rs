//! What the kernel says about a running program: processor time, memory, bytes written.
//!
//! Everything is read from `/proc/PID`, so the measured program needs to know nothing of it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Processor time that the process has used since it started, its threads included.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the measured server is gone")?;
    // The program's name is in parentheses and may hold blanks, so fields are counted after the last one.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).context("unexpected /proc/PID/stat")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || -> Result<u64> { Ok(fields.next().context("short /proc/PID/stat")?.parse()?) };
    let ticks = next()? + next()?;
    Ok(Duration::from_secs_f64(ticks as f64 / ticks_per_second()))
}

/// Resident memory in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    Ok(labelled(&format!("/proc/{pid}/status"), "VmRSS:")? * 1024)
}

/// Bytes that the process caused to be written to disk.
pub(crate) fn written_bytes(pid: u32) -> Result<u64> {
    labelled(&format!("/proc/{pid}/io"), "write_bytes:")
}

fn labelled(path: &str, label: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find(|line| line.starts_with(label));
    let value = line.and_then(|line| line.split_ascii_whitespace().nth(1));
    Ok(value.with_context(|| format!("no {label} in {path}"))?.parse()?)
}

fn ticks_per_second() -> f64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.map_or(100.0, |ticks| ticks as f64)
}
