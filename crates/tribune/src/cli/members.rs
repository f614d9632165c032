//! `tribune members`: who belongs to the datacenter.

use std::process::ExitCode;

use anyhow::Context;
use regex::Regex;
use tribune_client::agent::{self, Member};

use super::connection::{Connection, wait_for};
use super::output::{columns, failed, print, row};

/// Nobody matched.
const NOBODY: u8 = 2;

/// Lists the members of a datacenter.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Shows all tags.
    #[arg(long)]
    detailed: bool,
    /// Only members whose status matches this regular expression.
    #[arg(long, default_value = ".*", value_name = "REGEX")]
    status: String,
    /// Lists the servers of all datacenters instead.
    #[arg(long)]
    wan: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let status = Regex::new(&arguments.status).context("Failed to compile status regexp")?;
    let question = if arguments.wan { agent::members().wan() } else { agent::members() };
    let client = arguments.connection.client()?;
    let answer = wait_for(async {
        client.ask(&question).await.map_err(|error| failed("retrieving members", &error))
    })?;
    let mut members = answer.value;
    members.retain(|member| status.is_match(status_name(member.status)));
    if members.is_empty() {
        eprint!("{}", why_nobody(arguments));
        return Ok(ExitCode::from(NOBODY));
    }
    print(table(members, arguments.detailed))?;
    Ok(ExitCode::SUCCESS)
}

/// What is behind an empty list, where it is not what was asked for.
fn why_nobody(arguments: &Arguments) -> &'static str {
    match arguments.wan {
        true if arguments.status == ".*" => {
            "This agent takes no part in a federation: ask a server (-http-addr=IP:8500) that has a certificate (ca_file, \
             cert_file, key_file).\n"
        }
        _ => "",
    }
}

fn table(mut members: Vec<Member>, detailed: bool) -> String {
    for member in &mut members {
        let segment = match (tag(member, "role"), tag(member, "segment")) {
            ("consul", _) => "<all>",
            (_, "") => "<default>",
            _ => continue,
        };
        member.tags.insert("segment".into(), segment.into());
    }
    members.sort_by(|a, b| (tag(a, "segment"), &a.name).cmp(&(tag(b, "segment"), &b.name)));
    let header = match detailed {
        true => row(["Node", "Address", "Status", "Tags"]),
        false => row(["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Segment"]),
    };
    let rows = members.iter().map(if detailed { detailed_row } else { plain_row });
    columns(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

fn plain_row(member: &Member) -> Vec<String> {
    let kind = match tag(member, "role") {
        "node" => "client",
        "consul" => "server",
        _ => "unknown",
    };
    let build = match tag(member, "build") {
        "" => "< 0.3",
        build => build.split(':').next().unwrap_or(build),
    };
    row([
        &member.name,
        &address(member),
        status_name(member.status),
        kind,
        build,
        tag(member, "vsn"),
        tag(member, "dc"),
        tag(member, "segment"),
    ])
}

fn detailed_row(member: &Member) -> Vec<String> {
    let tags: Vec<String> = member.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    row([&member.name, &address(member), status_name(member.status), &tags.join(",")])
}

fn tag<'a>(member: &'a Member, name: &str) -> &'a str {
    member.tags.get(name).map_or("", String::as_str)
}

fn address(member: &Member) -> String {
    if member.addr.contains(':') {
        format!("[{}]:{}", member.addr, member.port)
    } else {
        format!("{}:{}", member.addr, member.port)
    }
}

fn status_name(status: u8) -> &'static str {
    match status {
        1 => "alive",
        2 => "leaving",
        3 => "left",
        4 => "failed",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, addr: &str, status: u8, tags: &[(&str, &str)]) -> Member {
        let tags = tags.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        Member { name: name.into(), addr: addr.into(), port: 8301, status, tags, ..Member::default() }
    }

    fn three() -> Vec<Member> {
        vec![
            member(
                "beta",
                "::1",
                4,
                &[("role", "node"), ("build", "1.8.7:abc"), ("vsn", "2"), ("dc", "dc1")],
            ),
            member("odd", "10.0.0.9", 0, &[]),
            member(
                "alpha",
                "127.0.0.1",
                1,
                &[("role", "consul"), ("build", "1.8.7:"), ("vsn", "2"), ("dc", "dc1"), ("segment", "")],
            ),
        ]
    }

    #[test]
    fn servers_come_first() {
        let expected = "\
Node   Address         Status  Type     Build  Protocol  DC   Segment
alpha  127.0.0.1:8301  alive   server   1.8.7  2         dc1  <all>
beta   [::1]:8301      failed  client   1.8.7  2         dc1  <default>
odd    10.0.0.9:8301   none    unknown  < 0.3                 <default>
";
        assert_eq!(table(three(), false), expected);
    }

    #[test]
    fn details_are_sorted_tags() {
        let expected = "\
Node   Address         Status  Tags
alpha  127.0.0.1:8301  alive   build=1.8.7:,dc=dc1,role=consul,segment=<all>,vsn=2
";
        assert_eq!(table(three().split_off(2), true), expected);
    }
}
