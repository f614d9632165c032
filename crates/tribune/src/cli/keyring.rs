//! `tribune keyring`: the keys that gossip is encrypted with.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use tribune_client::Client;
use tribune_client::operator::{self, KeyChange, KeyringPool};

use super::connection::{Connection, wait_for};
use super::output::{print, told};

/// Most members that may pass an answer on.
const RELAY_FACTOR_MAX: u8 = 5;

/// Shows and changes the keys that gossip is encrypted with, on all members of all datacenters.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Lists the keys in use.
    #[arg(long)]
    list: bool,
    /// Lists the keys that packets are written with.
    #[arg(long)]
    list_primary: bool,
    /// Adds a key with which packets can be read.
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    install: String,
    /// Makes an installed key the one that packets are written with.
    #[arg(long = "use", value_name = "KEY", default_value = "", hide_default_value = true)]
    make_primary: String,
    /// Removes a key that packets are not written with.
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    remove: String,
    /// How many other members pass an answer on, 0 to 5.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    relay_factor: u8,
    /// Lists only those of the agent's datacenter.
    #[arg(long)]
    local_only: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.relay_factor > RELAY_FACTOR_MAX {
        bail!("Error parsing relay factor: Relay factor must be in range: [0, 5]");
    }
    let actions: Vec<Action<'_>> = arguments.actions().into_iter().flatten().collect();
    let action = match actions[..] {
        [action] => action,
        [] => bail!("Nothing to do: give one of -list, -list-primary, -install, -use or -remove"),
        _ => bail!("Only a single action is allowed"),
    };
    if arguments.local_only && !matches!(action, Action::List { .. }) {
        bail!("Error validating local-only: local-only can only be set for list requests");
    }
    let client = arguments.connection.client()?;
    print(action.announcement())?;
    let done = wait_for(async {
        action.take(&client, arguments).await.map_err(|error| anyhow!("error: {}", told(&error)))
    })?;
    print(done)?;
    Ok(ExitCode::SUCCESS)
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
enum Action<'a> {
    List { primary: bool },
    Change(KeyChange, &'a str),
}

impl Arguments {
    fn actions(&self) -> [Option<Action<'_>>; 5] {
        [
            self.list.then_some(Action::List { primary: false }),
            self.list_primary.then_some(Action::List { primary: true }),
            (!self.install.is_empty()).then_some(Action::Change(KeyChange::Install, &self.install)),
            (!self.make_primary.is_empty()).then_some(Action::Change(KeyChange::Use, &self.make_primary)),
            (!self.remove.is_empty()).then_some(Action::Change(KeyChange::Remove, &self.remove)),
        ]
    }
}

impl Action<'_> {
    fn announcement(self) -> &'static str {
        match self {
            Self::List { primary: false } => "==> Gathering installed encryption keys...\n",
            Self::List { primary: true } => "==> Gathering installed primary encryption keys...\n",
            Self::Change(KeyChange::Install, _) => "==> Installing new gossip encryption key...\n",
            Self::Change(KeyChange::Use, _) => "==> Changing primary gossip encryption key...\n",
            Self::Change(KeyChange::Remove, _) => "==> Removing gossip encryption key...\n",
        }
    }

    /// Does it; gives what there is to show.
    async fn take(self, client: &Client, arguments: &Arguments) -> Result<String, tribune_client::Error> {
        match self {
            Self::List { primary } => {
                let question = operator::keyring(arguments.relay_factor, arguments.local_only);
                Ok(client.ask(&question).await?.value.iter().map(|pool| shown(pool, primary)).collect())
            }
            Self::Change(change, key) => {
                client.change_key(change, key, arguments.relay_factor).await?;
                Ok(String::new())
            }
        }
    }
}

fn shown(pool: &KeyringPool, primary: bool) -> String {
    let name = if pool.wan { "WAN".to_owned() } else { format!("{} (LAN)", pool.datacenter) };
    let mut text = format!("\n{name}:\n");
    for (node, message) in &pool.messages {
        // Writing to memory does not fail.
        let _ = writeln!(text, "  ===> {node}: {message}");
    }
    for (key, count) in if primary { &pool.primary_keys } else { &pool.keys } {
        let _ = writeln!(text, "  {key} [{count}/{}]", pool.num_nodes);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_shown_with_their_keys() {
        let pool = KeyringPool {
            datacenter: "dc1".into(),
            messages: [("n2".to_owned(), "no answer".to_owned())].into(),
            keys: [("a2V5".to_owned(), 2), ("b2xk".to_owned(), 1)].into(),
            primary_keys: [("a2V5".to_owned(), 2)].into(),
            num_nodes: 2,
            ..KeyringPool::default()
        };
        let expected = "\ndc1 (LAN):\n  ===> n2: no answer\n  a2V5 [2/2]\n  b2xk [1/2]\n";
        assert_eq!(shown(&pool, false), expected);
        let wan = KeyringPool { wan: true, messages: Default::default(), ..pool };
        assert_eq!(shown(&wan, true), "\nWAN:\n  a2V5 [2/2]\n");
    }
}
