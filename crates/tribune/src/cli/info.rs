//! `tribune info`: the agent's statistics, for people who look after it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use tribune_client::agent;

use super::connection::{Connection, wait_for};
use super::output::{failed, print};

/// Prints the agent's statistics.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.connection.client()?;
    let answer = wait_for(async {
        client.ask(&agent::info()).await.map_err(|error| failed("querying agent", &error))
    })?;
    print(sections(&answer.value.stats))?;
    Ok(ExitCode::SUCCESS)
}

fn sections(stats: &BTreeMap<String, BTreeMap<String, String>>) -> String {
    let mut text = String::new();
    for (section, values) in stats {
        text.push_str(&format!("{section}:\n"));
        for (name, value) in values {
            text.push_str(&format!("\t{name} = {value}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_values_are_sorted() {
        let values = |pairs: &[(&str, &str)]| pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect();
        let stats = BTreeMap::from([
            ("build".to_owned(), values(&[("version", "1"), ("prerelease", "")])),
            ("agent".to_owned(), values(&[("checks", "0")])),
        ]);
        assert_eq!(sections(&stats), "agent:\n\tchecks = 0\nbuild:\n\tprerelease = \n\tversion = 1\n");
    }
}
