//! Facts about the machine, without which figures mean nothing.

use std::fs;
use std::thread::available_parallelism;

use serde::Serialize;

/// What the figures were taken on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    /// Other work at the time makes figures worse; this shows whether there was any.
    load_average_before: String,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            processor: after(&cpu, "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: available_parallelism().map_or(1, usize::from),
            memory_mib: after(&memory, "MemTotal").and_then(|text| kib(&text)).unwrap_or(0) / 1024,
            kernel: kernel.trim().to_owned(),
            load_average_before: load.trim().to_owned(),
        }
    }

    pub(crate) fn line(&self) -> String {
        let Self { processor, cores, memory_mib, kernel, load_average_before } = self;
        format!("{cores} × {processor}, {memory_mib} MiB, Linux {kernel}, load before {load_average_before}")
    }
}

fn after(text: &str, label: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(label))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn kib(text: &str) -> Option<u64> {
    text.split(' ').next()?.parse().ok()
}
