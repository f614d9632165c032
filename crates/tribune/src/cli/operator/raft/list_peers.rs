//! `tribune operator raft list-peers`: the servers that take part in the agreement.

use std::process::ExitCode;

use tribune_client::operator::{self, RaftServer};

use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::output::{columns, failed, print, row};

/// Lists the servers that take part in the agreement.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Shows how far each server has come, too.
    #[arg(long)]
    detailed: bool,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.connection.client()?;
    let question = arguments.scope.narrow(operator::raft_configuration());
    let answer =
        wait_for(async { client.ask(&question).await.map_err(|error| failed("getting peers", &error)) })?;
    print(table(&answer.value.servers, arguments.detailed))?;
    Ok(ExitCode::SUCCESS)
}

fn table(servers: &[RaftServer], detailed: bool) -> String {
    let furthest = servers.iter().find(|server| server.leader).map_or(0, |leader| leader.last_index);
    let mut rows = vec![row(["Node", "ID", "Address", "State", "Voter", "RaftProtocol"])];
    rows.extend(servers.iter().map(|server| {
        let state = if server.leader { "leader" } else { "follower" };
        let voter = server.voter.to_string();
        row([&server.node, &server.id, &server.address, state, &voter, &server.protocol_version])
    }));
    if detailed {
        rows[0].extend(row(["Commit Index", "Trails Leader By"]));
        for (line, server) in rows[1..].iter_mut().zip(servers) {
            line.extend([server.last_index.to_string(), trail(server, furthest)]);
        }
    }
    columns(&rows)
}

fn trail(server: &RaftServer, furthest: u64) -> String {
    match furthest.saturating_sub(server.last_index) {
        _ if server.leader => "_".to_owned(),
        1 => "1 commit".to_owned(),
        behind => format!("{behind} commits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(node: &str, leader: bool, last_index: u64) -> RaftServer {
        let (id, address) = (format!("id-{node}"), "10.0.0.1:8300".to_owned());
        let (node, protocol_version) = (node.to_owned(), "3".to_owned());
        RaftServer { id, node, address, leader, protocol_version, voter: leader, last_index }
    }

    #[test]
    fn servers_stand_in_columns() {
        let servers = [server("alpha", true, 20), server("b", false, 19), server("c", false, 7)];
        let expected = "\
Node   ID        Address        State     Voter  RaftProtocol
alpha  id-alpha  10.0.0.1:8300  leader    true   3
b      id-b      10.0.0.1:8300  follower  false  3
c      id-c      10.0.0.1:8300  follower  false  3
";
        assert_eq!(table(&servers, false), expected);
        let detailed = table(&servers, true);
        assert!(detailed.contains("leader    true   3             20            _\n"), "{detailed}");
        assert!(
            detailed.contains("19            1 commit\n") && detailed.contains("7             13 commits\n")
        );
    }
}
