//! `tribune tls cert create`: makes a certificate with the key of the CA.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use tribune_net::authority::{self, CertificateRequest, Holder};

use super::files::Pair;
use crate::cli::output::print;
use crate::settings::naming;

const SERVER_WARNING: &str = "==> WARNING: whoever has this certificate and its key can be a server of the datacenter\n    and read and change everything in it. Copy them to servers only, and guard them like\n    the key of the CA.";

/// Makes certificates.
#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Command {
    Create(Arguments),
}

/// Makes a certificate and its key in the current folder, for a server, a client agent or a person.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// For a server.
    #[arg(long)]
    server: bool,
    /// For a client agent.
    #[arg(long)]
    client: bool,
    /// For a person with a command line.
    #[arg(long)]
    cli: bool,
    /// The datacenter.
    #[arg(long, default_value = "dc1")]
    dc: String,
    /// The domain; the agent's `domain`.
    #[arg(long, default_value = "consul")]
    domain: String,
    /// For how many days it is valid.
    #[arg(long, default_value_t = 365)]
    days: u32,
    /// Name of the server, if it shall stand in the certificate too.
    #[arg(long)]
    node: Option<String>,
    /// File with the certificate of the CA; without it, `<domain>-agent-ca.pem`.
    #[arg(long, value_name = "FILE")]
    ca: Option<String>,
    /// File with the key of the CA; without it, `<domain>-agent-ca-key.pem`.
    #[arg(long, value_name = "FILE")]
    key: Option<String>,
    /// One more DNS name; may be given several times.
    #[arg(long, value_name = "NAME")]
    additional_dnsname: Vec<String>,
    /// One more address; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    additional_ipaddress: Vec<IpAddr>,
}

pub(super) fn create(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let holder = match (arguments.server, arguments.client, arguments.cli) {
        (true, false, false) => Holder::Server,
        (false, true, false) => Holder::Client,
        (false, false, true) => Holder::Cli,
        _ => bail!("Please provide either -server, -client, or -cli"),
    };
    if arguments.node.is_some() && holder != Holder::Server {
        bail!("-node requires -server");
    }
    let domain = naming::domain(&arguments.domain).map_err(|why| anyhow!("-domain {why}"))?;
    let datacenter = naming::datacenter(&arguments.dc).map_err(|why| anyhow!("-dc {why}"))?;
    let of_domain = Pair::ca(&domain);
    let ca = Pair {
        certificate: arguments.ca.clone().unwrap_or(of_domain.certificate),
        key: arguments.key.clone().unwrap_or(of_domain.key),
    };
    let authority = ca.read()?;
    let pair = Pair::free(&format!("{}-{}-{domain}", datacenter.as_str(), holder.as_str()))?;
    let pem = authority::issue(
        &authority,
        &CertificateRequest {
            days: arguments.days,
            node: arguments.node.clone(),
            dns_names: arguments.additional_dnsname.clone(),
            addresses: arguments.additional_ipaddress.clone(),
            ..CertificateRequest::new(holder, datacenter, &domain)
        },
    )?;
    if holder == Holder::Server {
        eprintln!("{SERVER_WARNING}");
    }
    pair.write(&pem)?;
    print(format!("==> Using {} and {}\n{}", ca.certificate, ca.key, pair.saved()))?;
    Ok(ExitCode::SUCCESS)
}
