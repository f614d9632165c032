//! Checks of a service of the operating system, asked of systemd.

use std::io::ErrorKind;
use std::process::Stdio;

use tokio::process::Command;

use super::Finding;

pub(super) async fn probe(service: &str) -> Finding {
    let asked = Command::new("systemctl")
        .args(["is-active", "--", service])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let answer = match asked {
        Ok(answer) => answer,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Finding::critical("systemctl was not found; os_service checks need a host with systemd");
        }
        Err(error) => return Finding::critical(format!("cannot run systemctl: {error}")),
    };
    let state = String::from_utf8_lossy(&answer.stdout);
    let trouble = String::from_utf8_lossy(&answer.stderr);
    let words = [state.trim(), trouble.trim()].into_iter().find(|words| !words.is_empty());
    let words = words.unwrap_or("no answer");
    match (answer.status.success(), words) {
        (true, _) => Finding::passing(format!("service {service} is {words}")),
        (false, "activating" | "reloading") => Finding::warning(format!("service {service} is {words}")),
        (false, _) => Finding::critical(format!("service {service} is not active: {words}")),
    }
}
