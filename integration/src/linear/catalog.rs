//! The instances of one service in the catalog.

use std::collections::BTreeMap;

use super::Model;

/// A service whose instances come, change and go.
#[derive(Debug)]
pub enum Catalog {}

/// A call on a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogCall {
    /// Registers an instance, or changes it.
    Register {
        /// Which.
        instance: u32,
        /// What tells this registration from all others.
        version: u32,
    },
    /// Takes an instance out.
    Deregister(u32),
    /// All instances with their versions.
    List(BTreeMap<u32, u32>),
}

impl Model for Catalog {
    type State = BTreeMap<u32, u32>;
    type Call = CatalogCall;

    fn initial() -> Self::State {
        BTreeMap::new()
    }

    fn apply(service: &Self::State, call: &CatalogCall) -> Option<Self::State> {
        let mut after = service.clone();
        match call {
            CatalogCall::Register { instance, version } => {
                after.insert(*instance, *version);
            }
            CatalogCall::Deregister(instance) => {
                after.remove(instance);
            }
            CatalogCall::List(found) => return (found == service).then_some(after),
        }
        Some(after)
    }
}
