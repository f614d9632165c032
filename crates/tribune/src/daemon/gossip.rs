//! The pools of a node, from its settings.

use std::path::PathBuf;
use std::sync::Arc;

use tribune_gossip::{Carrier, Config, Pool, Running, Timing};

use super::sockets::Gossip;
use super::{Sight, StartError};
use crate::datadir::DataDir;
use crate::membership;
use crate::settings::Joining;

/// The folder of the data directory.
const FOLDER: &str = "serf";

/// The pool of this datacenter.
pub(super) async fn lan(
    sight: &Sight<'_>,
    uses_tls: bool,
    (udp, tcp): Gossip,
) -> Result<(Pool, Running), StartError> {
    let Sight { settings, id, reach, data_dir } = *sight;
    let name = settings.identity.name.as_str();
    let mut config = Config::new(name, id, settings.datacenter.clone(), reach.lan);
    config.tags = membership::tags(settings, id, reach, uses_tls);
    config.keyring = settings.cluster.gossip_key.clone();
    if settings.cluster.keeps_keyring {
        config.keyring_file = file(data_dir, "local.keyring")?;
    }
    join(&mut config, &settings.cluster.lan, file(data_dir, "local.snapshot")?);
    if settings.is_dev {
        config.timing = Timing::local();
    }
    Ok(tribune_gossip::lan(config, udp, tcp).await?)
}

/// The pool of all servers of the federation.
pub(super) async fn wan(
    sight: &Sight<'_>,
    siblings: &Pool,
    carrier: Arc<dyn Carrier>,
) -> Result<(Pool, Running), StartError> {
    let Sight { settings, id, reach, data_dir } = *sight;
    let name = format!("{}.{}", settings.identity.name, settings.datacenter);
    let address = reach.wan.unwrap_or(reach.lan);
    let mut config = Config::new(name, id, settings.datacenter.clone(), address);
    config.tags = membership::tags(settings, id, reach, true);
    config.siblings = Some(siblings.clone());
    config.timing = if settings.is_dev { Timing::local() } else { Timing::wan() };
    join(&mut config, &settings.cluster.wan, file(data_dir, "remote.snapshot")?);
    Ok(tribune_gossip::wan(config, carrier).await?)
}

fn join(config: &mut Config, joining: &Joining, state_file: Option<PathBuf>) {
    config.state_file = state_file;
    config.rejoin_after_leave = joining.after_leave;
    config.reconnect_timeout = joining.reconnect_timeout;
}

fn file(data_dir: Option<&DataDir>, name: &str) -> Result<Option<PathBuf>, StartError> {
    let folder = data_dir.map(|data_dir| data_dir.folder(FOLDER)).transpose()?;
    Ok(folder.map(|folder| folder.join(name)))
}
