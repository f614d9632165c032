//! What this process uses: memory, threads, open files.

use std::fs;
use std::sync::OnceLock;
use std::time::Instant;

use metrics::gauge;

/// Figures of the running process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory in use (resident), in bytes.
    pub resident_bytes: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open files and sockets.
    pub open_files: u64,
}

impl Usage {
    /// As the system tells now; zeros where it does not tell.
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let open_files = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
        Self { open_files, ..Self::of(&status) }
    }

    fn of(status: &str) -> Self {
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Self {
            resident_bytes: field("VmRSS") * 1024,
            virtual_bytes: field("VmSize") * 1024,
            threads: field("Threads"),
            open_files: 0,
        }
    }
}

/// Writes the process's figures under the names that Consul's users graph.
pub(super) fn record() {
    let usage = Usage::now();
    gauge!("runtime.alloc_bytes").set(usage.resident_bytes as f64);
    gauge!("runtime.sys_bytes").set(usage.virtual_bytes as f64);
    gauge!("runtime.num_threads").set(usage.threads as f64);
    gauge!("runtime.open_files").set(usage.open_files as f64);
    gauge!("runtime.uptime_seconds").set(started().elapsed().as_secs_f64());
}

fn started() -> Instant {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    *STARTED.get_or_init(Instant::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_system() {
        let usage = Usage::of("Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t 1024 kB\nThreads:\t7\n");
        assert_eq!((usage.virtual_bytes, usage.resident_bytes, usage.threads), (2 << 20, 1 << 20, 7));
        assert!(Usage::now().resident_bytes > 0);
    }
}
