//! `tribune tls ca create`: makes the CA of a federation.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use tribune_net::authority::{self, CaRequest};

use super::files::Pair;
use crate::cli::output::print;
use crate::settings::naming;

/// Makes and looks after the CA.
#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Command {
    Create(Arguments),
}

/// Makes a CA in the current folder: `<domain>-agent-ca.pem`, which every node gets, and `<domain>-agent-ca-key.pem`,
/// which stays where certificates are made.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// For how many days it may vouch.
    #[arg(long, default_value_t = 1825)]
    days: u32,
    /// The domain of the names it vouches for; the agent's `domain`.
    #[arg(long, default_value = "consul")]
    domain: String,
    /// Confines it to names in its domain and to localhost: certificates for other names are not accepted.
    #[arg(long)]
    name_constraint: bool,
    /// One more domain it may vouch for, with -name-constraint; may be given several times.
    #[arg(long, value_name = "DOMAIN")]
    additional_name_constraint: Vec<String>,
    /// Common name of the CA.
    #[arg(long)]
    common_name: Option<String>,
    /// Identifier of the cluster, which becomes a SPIFFE name of the CA.
    #[arg(long, value_name = "ID")]
    cluster_id: Option<String>,
}

pub(super) fn create(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if !arguments.name_constraint && !arguments.additional_name_constraint.is_empty() {
        bail!("-additional-name-constraint only has a meaning with -name-constraint: give both or neither");
    }
    let domain = naming::domain(&arguments.domain).map_err(|why| anyhow!("-domain {why}"))?;
    let pair = Pair::ca(&domain);
    for taken in [&pair.certificate, &pair.key] {
        if Path::new(taken).exists() {
            bail!(
                "{taken} already exists. A new CA would not be believed by nodes that have the old one: move both files \
                 away first if that is meant"
            );
        }
    }
    let additional = arguments.additional_name_constraint.clone();
    let pem = authority::create_ca(&CaRequest {
        days: arguments.days,
        domain,
        common_name: arguments.common_name.clone(),
        cluster_id: arguments.cluster_id.clone(),
        name_constraints: arguments.name_constraint.then_some(additional),
    })?;
    pair.write(&pem)?;
    print(pair.saved())?;
    Ok(ExitCode::SUCCESS)
}
