//! What the agent is told at its start.

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tribune_core::check::OUTPUT_BYTES_DEFAULT;
use tribune_core::{CheckSpec, Node, ServiceInstance};

use crate::alert::AlertConfig;

/// How this node's agent behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's record as the catalog is to show it.
    pub node: Node,
    /// Where its own list is kept.
    pub store: StoreAt,
    /// Who may define checks that run programs.
    pub scripts: ScriptPolicy,
    /// How long a new output without a new status is held back; zero writes each at once. Default 5 minutes.
    pub check_update_interval: Duration,
    /// Time between two comparisons of the whole list with the catalog, in a small datacenter. Default 1 minute.
    pub ae_interval: Duration,
    /// How many bytes of a check's output are kept. Default 4096.
    pub output_bytes_max: usize,
    /// Keeps outputs out of the catalog and of all listings.
    pub discard_check_output: bool,
    /// Who is told when a check turns critical and when it recovers; nobody by default.
    pub alerts: AlertConfig,
    /// Authorities that probes trust besides the public ones.
    pub extra_roots: Vec<CertificateDer<'static>>,
}

impl Config {
    /// The defaults for this node.
    pub fn new(node: Node, store: StoreAt) -> Self {
        Self {
            node,
            store,
            scripts: ScriptPolicy::Nobody,
            check_update_interval: Duration::from_secs(300),
            ae_interval: Duration::from_secs(60),
            output_bytes_max: OUTPUT_BYTES_DEFAULT,
            discard_check_output: false,
            alerts: AlertConfig::default(),
            extra_roots: Vec::new(),
        }
    }
}

/// Where an agent keeps its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAt {
    /// Nowhere: it is gone with the process.
    Memory,
    /// In the file `local.redb` of this directory, which exists.
    Directory(PathBuf),
}

/// Who may define checks that run programs. Such a check is code execution, so the default is nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptPolicy {
    /// No one.
    Nobody,
    /// The configuration files.
    Files,
    /// The configuration files and whoever reaches the API.
    Anyone,
}

/// Services and checks from configuration files. Not persisted: the files are their home.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definitions {
    /// Services, each with its checks.
    pub services: Vec<(ServiceInstance, Vec<CheckSpec>)>,
    /// Checks of the node, or of services by their id.
    pub checks: Vec<CheckSpec>,
}
