//! `tribune services register`: registers what files or flags describe.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tribune_client::agent::{ServiceDefinition, TaggedAddress};

use super::definitions;
use crate::cli::connection::{Connection, wait_for};
use crate::cli::output::{failed, print};

/// Registers services with the local agent, from files (HCL or JSON, as in its configuration) or from flags.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    service: Service,
    /// Files with a `service` or `services`.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// One service, described by flags.
#[derive(Debug, Default, clap::Args)]
struct Service {
    /// Unique on the node; without it, the name.
    #[arg(long)]
    id: Option<String>,
    /// Name of the service.
    #[arg(long)]
    name: Option<String>,
    /// Address; without it, that of the node.
    #[arg(long)]
    address: Option<String>,
    /// Port.
    #[arg(long)]
    port: Option<u16>,
    /// A tag; may be given several times.
    #[arg(long)]
    tag: Vec<String>,
    /// A pair of metadata; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::cli::flag::pair)]
    meta: Vec<(String, String)>,
    /// An address by purpose, such as wan=1.2.3.4:80; may be given several times.
    #[arg(long, value_name = "KEY=ADDRESS:PORT", value_parser = crate::cli::flag::pair)]
    tagged_address: Vec<(String, String)>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let by_flags = arguments.service.is_given();
    let services = match (by_flags, arguments.files.is_empty()) {
        (false, true) => bail!("Service registration requires at least one argument or flags."),
        (true, false) => bail!("Service registration requires arguments or -id, not both."),
        (true, true) => vec![arguments.service.definition()?],
        (false, false) => definitions::read(&arguments.files)?,
    };
    let client = arguments.connection.client()?;
    wait_for(async {
        for service in &services {
            let doing = format!("registering service {:?}", service.name);
            client.register(service).await.map_err(|error| failed(&doing, &error))?;
            print(format!("Registered service: {}\n", service.name))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

impl Service {
    fn is_given(&self) -> bool {
        let single = [&self.id, &self.name, &self.address].iter().any(|flag| flag.is_some());
        let lists = self.tag.len() + self.meta.len() + self.tagged_address.len();
        single || self.port.is_some() || lists > 0
    }

    fn definition(&self) -> anyhow::Result<ServiceDefinition> {
        let mut tagged_addresses = BTreeMap::new();
        for (purpose, text) in &self.tagged_address {
            tagged_addresses.insert(purpose.clone(), tagged(text)?);
        }
        Ok(ServiceDefinition {
            id: self.id.clone().unwrap_or_default(),
            name: self.name.clone().unwrap_or_default(),
            address: self.address.clone().unwrap_or_default(),
            port: self.port.unwrap_or(0),
            tags: self.tag.clone(),
            meta: self.meta.iter().cloned().collect(),
            tagged_addresses,
            ..ServiceDefinition::default()
        })
    }
}

fn tagged(text: &str) -> anyhow::Result<TaggedAddress> {
    let Some((address, port)) = text.rsplit_once(':') else {
        bail!("Invalid Tagged Address: address {text}: missing port in address");
    };
    let port = port.parse().with_context(|| format!("Invalid Tagged Address: address {text}: bad port"))?;
    Ok(TaggedAddress { address: address.trim_matches(['[', ']']).to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_a_definition() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let service = Service {
            name: Some("web".into()),
            port: Some(80),
            tag: vec!["a".into(), "b".into()],
            meta: vec![pair("k", "v")],
            tagged_address: vec![pair("wan", "[::1]:5")],
            ..Service::default()
        };
        let definition = service.definition().unwrap();
        assert_eq!((definition.name.as_str(), definition.port, definition.tags.len()), ("web", 80, 2));
        let wan = &definition.tagged_addresses["wan"];
        assert_eq!((wan.address.as_str(), wan.port), ("::1", 5));
        assert!(service.is_given() && !Service::default().is_given());
    }

    #[test]
    fn a_tagged_address_needs_a_port() {
        let error = tagged("1.2.3.4").unwrap_err().to_string();
        assert_eq!(error, "Invalid Tagged Address: address 1.2.3.4: missing port in address");
    }
}
