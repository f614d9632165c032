//! Settings in the words of the crates that they configure.

use tribune_core::dns::{Name, ServiceTtls, SoaTimes, Zone};
use tribune_core::{Node, NodeName};
use tribune_dns::RecursorStrategy;
use tribune_local::StoreAt;
use tribune_raft::{ServerInfo, Storage};
use tribune_wan::ExchangeConfig;

use super::StartError;
use super::sockets::Reach;
use crate::datadir::{self, DataDir, RAFT};
use crate::settings::Settings;

/// The folder of the agent's own list in the data directory.
const LOCAL: &str = "local";

pub(super) fn raft(
    settings: &Settings,
    node_id: &str,
    reach: &Reach,
    data_dir: Option<&DataDir>,
) -> Result<tribune_raft::Config, datadir::Error> {
    let storage = match data_dir {
        Some(data_dir) => Storage::Directory(data_dir.folder(RAFT)?),
        None => Storage::Memory,
    };
    let server = ServerInfo {
        id: node_id.to_owned(),
        name: NodeName::clone(&settings.identity.name),
        address: reach.rpc.unwrap_or(settings.network.rpc),
    };
    let config = tribune_raft::Config::new(storage, server);
    let mut config = config.with_raft_multiplier(settings.raft.multiplier);
    config.datacenter = settings.datacenter.clone();
    config.bootstrap = settings.cluster.founds_alone();
    config.snapshot_threshold = settings.raft.snapshot_threshold;
    config.snapshot_interval = settings.raft.snapshot_interval;
    config.trailing_logs = settings.raft.trailing_logs;
    config.rpc_hold_timeout = settings.raft.rpc_hold_timeout;
    Ok(config)
}

pub(super) fn local(
    settings: &Settings,
    node: Node,
    data_dir: Option<&DataDir>,
) -> Result<tribune_local::Config, datadir::Error> {
    let store = match data_dir {
        Some(data_dir) => StoreAt::Directory(data_dir.folder(LOCAL)?),
        None => StoreAt::Memory,
    };
    let mut config = tribune_local::Config::new(node, store);
    config.scripts = settings.checks.scripts;
    config.check_update_interval = settings.checks.update_interval;
    config.ae_interval = settings.checks.ae_interval;
    config.output_bytes_max = settings.checks.output_bytes_max;
    config.discard_check_output = settings.checks.discard_output;
    config.alerts.clone_from(&settings.alerts);
    Ok(config)
}

/// How requests to other datacenters, and to the servers of a client agent, are answered.
pub(super) fn exchange(settings: &Settings) -> ExchangeConfig {
    ExchangeConfig {
        use_cache: settings.http.use_cache,
        translates: settings.cluster.translate_wan_addrs,
        ..ExchangeConfig::default()
    }
}

/// How DNS answers; also used when the configuration was read again.
pub(crate) fn dns(settings: &Settings) -> Result<tribune_dns::Config, StartError> {
    let written = &settings.dns;
    let name = |key: &'static str, text: &str| {
        Name::parse(text).ok_or_else(|| StartError::Domain { key, text: text.to_owned() })
    };
    let alt_domain = written.alt_domain.as_deref().map(|text| name("alt_domain", text)).transpose()?;
    let seconds = |span: std::time::Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
    let service_ttl: ServiceTtls =
        written.service_ttl.iter().map(|(name, ttl)| (name, seconds(*ttl))).collect();
    let zone = Zone {
        alt_domain,
        only_passing: written.only_passing,
        node_ttl: seconds(written.node_ttl),
        service_ttl,
        soa: SoaTimes {
            refresh: written.soa.refresh,
            retry: written.soa.retry,
            expire: written.soa.expire,
            min_ttl: written.soa.min_ttl,
        },
        enable_truncate: written.enable_truncate,
        udp_answer_limit: written.udp_answer_limit,
        a_record_limit: written.a_record_limit.unwrap_or(0),
        additional_node_meta_txt: written.node_meta_txt,
        disable_compression: written.disable_compression,
        ..Zone::new(name("domain", &written.domain)?, settings.datacenter.clone())
    };
    let mut config = tribune_dns::Config::new(zone);
    config.translate_wan_addrs = settings.cluster.translate_wan_addrs;
    config.recursors.clone_from(&written.recursors);
    config.recursor_timeout = written.recursor_timeout;
    config.recursor_strategy =
        if written.recursors_at_random { RecursorStrategy::Random } else { RecursorStrategy::Sequential };
    Ok(config)
}
