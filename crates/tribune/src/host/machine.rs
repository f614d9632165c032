//! What `/v1/agent/host` says of the machine: memory, processors, system, disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};

use crate::settings::Settings;

pub(super) fn describe(settings: &Settings) -> BTreeMap<String, Value> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let folder = settings.data_dir.as_deref().unwrap_or(Path::new("/"));
    BTreeMap::from([
        ("Memory".to_owned(), memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default())),
        ("CPU".to_owned(), processors(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())),
        ("Host".to_owned(), system(&settings.identity.host_name)),
        ("Disk".to_owned(), disk(folder)),
        ("CollectionTime".to_owned(), json!(u64::try_from(nanos).unwrap_or(u64::MAX))),
        ("Errors".to_owned(), Value::Null),
    ])
}

fn memory(meminfo: &str) -> Value {
    let bytes = |name: &str| -> u64 {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let (total, available) = (bytes("MemTotal"), bytes("MemAvailable"));
    let used = total.saturating_sub(available);
    let percent = if total == 0 { 0.0 } else { used as f64 * 100.0 / total as f64 };
    json!({
        "total": total, "available": available, "used": used, "usedPercent": percent, "free": bytes("MemFree"),
        "buffers": bytes("Buffers"), "cached": bytes("Cached"), "swaptotal": bytes("SwapTotal"),
        "swapfree": bytes("SwapFree"),
    })
}

fn processors(cpuinfo: &str) -> Value {
    let field = |line: &str, name: &str| Some(line.strip_prefix(name)?.split_once(':')?.1.trim().to_owned());
    let names = cpuinfo.lines().filter_map(|line| field(line, "model name"));
    names.enumerate().map(|(number, name)| json!({ "cpu": number, "modelName": name })).collect()
}

fn system(host_name: &str) -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let uptime = read("/proc/uptime");
    let uptime: f64 = uptime.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0);
    json!({
        "hostname": host_name, "os": std::env::consts::OS, "kernelArch": std::env::consts::ARCH,
        "kernelVersion": read("/proc/sys/kernel/osrelease"), "uptime": uptime,
    })
}

fn disk(folder: &Path) -> Value {
    let Ok(space) = statvfs(folder) else { return Value::Null };
    let block = space.fragment_size();
    let (total, free) = (space.blocks() * block, space.blocks_available() * block);
    let used = total.saturating_sub(space.blocks_free() * block);
    let percent = if total == 0 { 0.0 } else { used as f64 * 100.0 / total as f64 };
    json!({ "path": folder, "total": total, "free": free, "used": used, "usedPercent": percent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let value = memory("MemTotal:  4 kB\nMemAvailable: 1 kB\n");
        assert_eq!(
            (&value["total"], &value["used"], &value["usedPercent"]),
            (&json!(4096), &json!(3072), &json!(75.0))
        );
    }
}
