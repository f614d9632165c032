//! `tribune services deregister`: removes what files or an id name.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;

use super::definitions;
use crate::cli::connection::{Connection, wait_for};
use crate::cli::output::{failed, print};

/// Removes services from the local agent, by id or by the files that they were registered from.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Id of the service to remove.
    #[arg(long)]
    id: Option<String>,
    /// Files with a `service` or `services`.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let ids = match (&arguments.id, arguments.files.is_empty()) {
        (None, true) => bail!("Service deregistration requires at least one argument or -id."),
        (Some(_), false) => bail!("Service deregistration requires arguments or -id, not both."),
        (Some(id), true) => vec![id.clone()],
        (None, false) => {
            let services = definitions::read(&arguments.files)?.into_iter();
            services.map(|service| if service.id.is_empty() { service.name } else { service.id }).collect()
        }
    };
    let client = arguments.connection.client()?;
    wait_for(async {
        for id in &ids {
            let doing = format!("deregistering service {id:?}");
            client.deregister(id).await.map_err(|error| failed(&doing, &error))?;
            print(format!("Deregistered service: {id}\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}
