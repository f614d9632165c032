//! `tribune operator raft recover`: brings a datacenter back whose majority is lost for good. Works on the data
//! directory of a stopped server, and shows what to type when it is not told which servers are left.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use tribune_core::NodeName;
use tribune_raft::ServerInfo;

use crate::cli::output::print;
use crate::datadir::{DataDir, RAFT};

/// Makes the servers that are left the datacenter, after more than half of them are lost for good. Stop the servers
/// that are left, run it on each with the same list, and start them again.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// The data directory of this server, which must be stopped.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// A server that is left, ID=IP:PORT; may be repeated. Without any, what to type is shown and nothing is done.
    #[arg(long = "server", value_name = "ID=IP:PORT")]
    servers: Vec<String>,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (data_dir, datacenter) = DataDir::existing(&arguments.data_dir)?;
    let own = data_dir.node_id();
    if arguments.servers.is_empty() {
        print(format!(
            "This is server {own} of datacenter {datacenter}. Nothing was done.\n\n\
             If more than half of the servers are lost for good, stop those that are left and run on each of them,\n\
             with the same list of all that are left:\n\n  \
             tribune operator raft recover -data-dir={} -server={own}=IP:8300 [-server=ID=IP:8300 …]\n\n\
             The ids are in the files node-id of their data directories. Servers that are not in the list are refused\n\
             from then on. Take a copy of the data directories before.\n",
            arguments.data_dir.display()
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let servers = arguments.servers.iter().map(|text| server(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let done = tribune_raft::recover(&data_dir.folder(RAFT)?, &datacenter, own, &servers)?;
    print(format!(
        "Recovered: the log up to entry {} is kept, and {} server(s) make up datacenter {datacenter}.\n\
         What was done is written in {}. Start the servers when this was run on all of them;\n\
         a lost one that turns up again needs an empty data directory.\n",
        done.last,
        servers.len(),
        done.note.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn server(text: &str) -> anyhow::Result<ServerInfo> {
    let Some((id, address)) = text.split_once('=') else {
        bail!(
            "-server must be ID=IP:PORT, such as 6d4a2f3c-0b1e-4c5d-8f7a-9e0b1c2d3e4f=10.0.0.1:8300, not {text:?}"
        );
    };
    let id = uuid::Uuid::parse_str(id).with_context(|| format!("{id:?} is not the id of a server"))?;
    let id = id.to_string();
    let address: SocketAddr =
        address.parse().with_context(|| format!("{address:?} is not an address with its port, IP:PORT"))?;
    // The name is only shown until the members tell it.
    let name = NodeName::new(id.as_str())?;
    Ok(ServerInfo { id, name, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_given_by_id_and_address() {
        let id = "6d4a2f3c-0b1e-4c5d-8f7a-9e0b1c2d3e4f";
        let read = server(&format!("{}=10.0.0.1:8300", id.to_uppercase())).unwrap();
        assert_eq!((read.id.as_str(), read.address.port()), (id, 8300));
        for wrong in [id.to_owned(), "x=10.0.0.1:8300".to_owned(), format!("{id}=10.0.0.1")] {
            assert!(server(&wrong).is_err(), "{wrong}");
        }
    }
}
