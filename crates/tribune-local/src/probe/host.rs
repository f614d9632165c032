//! Checks of this host's own resources.

use std::time::Duration;

use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, System};
use tribune_core::Status;
use tribune_core::check::{HostCheck, HostResource};

use super::Finding;

/// Use of the processors is measured over this span: long enough to be more than one timer tick's chance.
const CPU_SPAN: Duration = Duration::from_secs(1);

pub(super) async fn probe(check: &HostCheck) -> Finding {
    let (name, used) = match &check.resource {
        HostResource::Cpu => ("cpu".to_owned(), Ok(cpu_percent().await)),
        HostResource::Memory => ("memory".to_owned(), memory_percent()),
        HostResource::Disk(path) => (format!("disk {path}"), disk_percent(path.to_string()).await),
    };
    match used {
        Ok(percent) => weigh(check, &name, percent),
        Err(reason) => Finding::critical(format!("{name} cannot be measured: {reason}")),
    }
}

fn weigh(check: &HostCheck, name: &str, percent: f64) -> Finding {
    let reached = |limit: u8| limit > 0 && percent >= f64::from(limit);
    let status = match () {
        () if reached(check.critical_percent) => Status::Critical,
        () if reached(check.warning_percent) => Status::Warning,
        () => Status::Passing,
    };
    Finding { status, output: format!("{name} {percent:.0} % used") }
}

async fn cpu_percent() -> f64 {
    let mut system = System::new();
    system.refresh_cpu_usage();
    tokio::time::sleep(CPU_SPAN.max(MINIMUM_CPU_UPDATE_INTERVAL)).await;
    system.refresh_cpu_usage();
    f64::from(system.global_cpu_usage())
}

fn memory_percent() -> Result<f64, String> {
    let mut system = System::new();
    system.refresh_memory();
    let (total, available) = (system.total_memory(), system.available_memory());
    if total == 0 {
        return Err("the system does not say how much there is".into());
    }
    Ok(total.saturating_sub(available) as f64 / total as f64 * 100.0)
}

/// Used space out of what ordinary programs can use at all, as `df` counts it. A file system that hangs holds up
/// a thread of its own, not this one.
async fn disk_percent(path: String) -> Result<f64, String> {
    let asked = tokio::task::spawn_blocking(move || nix::sys::statvfs::statvfs(path.as_str())).await;
    let found = asked.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let used = found.blocks().saturating_sub(found.blocks_free());
    let usable = used + found.blocks_available();
    if usable == 0 {
        return Err("the file system has no space at all".into());
    }
    Ok(used as f64 / usable as f64 * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_weighed_against_both_limits() {
        let check = HostCheck { resource: HostResource::Memory, warning_percent: 80, critical_percent: 90 };
        let statuses = [79.0, 80.0, 90.0].map(|percent| weigh(&check, "memory", percent).status);
        assert_eq!(statuses, [Status::Passing, Status::Warning, Status::Critical]);
    }
}
