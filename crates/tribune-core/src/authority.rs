//! What a caller may read and write. Every query and every proposal is made under an authority.

use crate::command::Command;
use crate::ids::{NodeName, ServiceName};
use crate::kv::KvKey;

/// The caller's rights. Without access control there is one kind: everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// May read and write everything.
    Unrestricted,
}

impl Authority {
    /// The authority of a caller in a datacenter without access control.
    pub fn unrestricted() -> Self {
        Self::Unrestricted
    }

    /// Whether the caller may see this node.
    pub fn reads_node(&self, _node: &NodeName) -> bool {
        match self {
            Self::Unrestricted => true,
        }
    }

    /// Whether the caller may see instances of this service.
    pub fn reads_service(&self, _service: &ServiceName) -> bool {
        match self {
            Self::Unrestricted => true,
        }
    }

    /// Whether the caller may see this key.
    pub fn reads_key(&self, _key: &KvKey) -> bool {
        match self {
            Self::Unrestricted => true,
        }
    }

    /// Whether the caller may propose this command.
    pub fn permits(&self, _command: &Command) -> bool {
        match self {
            Self::Unrestricted => true,
        }
    }
}
