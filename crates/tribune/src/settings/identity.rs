//! Who this node is.

use std::collections::BTreeMap;

use tribune_core::NodeName;

use super::reading::Reading;

/// Bounds of metadata, which are Consul's.
const META_PAIRS_MAX: usize = 64;
const META_KEY_MAX: usize = 128;
const META_VALUE_MAX: usize = 512;

/// A node's names.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name in the catalog.
    pub name: NodeName,
    /// The id that the configuration gives it; without one it is taken from the data directory or drawn.
    pub id: Option<String>,
    /// Its metadata.
    pub meta: BTreeMap<String, String>,
    /// What its host calls itself.
    pub host_name: String,
}

impl Reading<'_> {
    pub(super) fn identity(&mut self) -> Identity {
        let host_name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let host_name = host_name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned());
        let config = self.config;
        let written = config.node_name.as_deref().map(str::trim).unwrap_or(&host_name);
        let name = NodeName::new(written).unwrap_or_else(|error| {
            self.refuse("node_name", &format!("will not do: {error}"));
            fallback_name()
        });
        let is_dns_label = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !name.as_str().chars().all(is_dns_label) || name.as_str().len() > 63 {
            let why = format!(
                "{:?} will not be discoverable via DNS: use a-z, 0-9 and -, at most 63 letters",
                name.as_str()
            );
            self.warn("node_name", &why);
        }
        let id = config.node_id.as_deref().filter(|id| !id.is_empty()).map(str::to_lowercase);
        if let Some(id) = &id
            && uuid::Uuid::parse_str(id).is_err()
        {
            self.refuse(
                "node_id",
                &format!("must be a UUID such as 6d4a2f3c-0b1e-4c5d-8f7a-9e0b1c2d3e4f, not {id:?}"),
            );
        }
        for (key, value) in &config.node_meta {
            if let Err(why) = check_meta(key, value) {
                self.refuse("node_meta", &why);
            }
        }
        if config.node_meta.len() > META_PAIRS_MAX {
            self.refuse(
                "node_meta",
                &format!("has {} pairs; at most {META_PAIRS_MAX} are kept", config.node_meta.len()),
            );
        }
        Identity { name, id, meta: config.node_meta.clone(), host_name }
    }
}

fn check_meta(key: &str, value: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if key.is_empty() || key.len() > META_KEY_MAX || !key.chars().all(is_plain) {
        return Err(format!(
            "has the key {key:?}: keys are made of A-Z, a-z, 0-9, _ and -, at most {META_KEY_MAX}"
        ));
    }
    if key.to_lowercase().starts_with("consul-") {
        return Err(format!("has the key {key:?}: keys that begin with consul- are reserved"));
    }
    if value.len() > META_VALUE_MAX {
        return Err(format!(
            "has a value of {} bytes under {key:?}; at most {META_VALUE_MAX} are kept",
            value.len()
        ));
    }
    Ok(())
}

fn fallback_name() -> NodeName {
    NodeName::new("localhost").unwrap_or_else(|_| unreachable!("localhost is a valid name"))
}
