//! What an operator decides about the names we answer for (`dns_config`, `domain`, `alt_domain`).

use std::collections::BTreeMap;

use super::name::Name;
use super::record::{Data, Owner, Record, Soa};
use crate::ids::Datacenter;

/// The zone and how it is answered for. Times to live in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// The domain, `consul.` unless configured (`domain`).
    pub domain: Name,
    /// A second domain with the same content (`alt_domain`); answers use the one that was asked.
    pub alt_domain: Option<Name>,
    /// The datacenter whose state is asked.
    pub datacenter: Datacenter,
    /// Whether instances with warnings are left out (`only_passing`; default no).
    pub only_passing: bool,
    /// TTL of node answers (`node_ttl`; default 0).
    pub node_ttl: u32,
    /// TTL of service answers (`service_ttl`).
    pub service_ttl: ServiceTtls,
    /// Timing of the start of authority (`soa`).
    pub soa: SoaTimes,
    /// Whether the TC bit is set when answers were left out (`enable_truncate`; default no: HAProxy discards
    /// answers that carry it).
    pub enable_truncate: bool,
    /// Most answers over UDP to clients without EDNS (`udp_answer_limit`; default 3, never above 8).
    pub udp_answer_limit: usize,
    /// Most address answers in any reply (`a_record_limit`; default 0: no limit).
    pub a_record_limit: usize,
    /// Whether node metadata goes along in the additional section (`enable_additional_node_meta_txt`; default
    /// yes).
    pub additional_node_meta_txt: bool,
    /// Whether addresses tagged `wan` come first: in answers about another datacenter, when the operator has them
    /// translated (`translate_wan_addrs`; default no).
    pub prefers_wan: bool,
    /// Whether names are written out in full each time (`disable_compression`; default no).
    pub disable_compression: bool,
}

/// Timing of the start of authority, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoaTimes {
    /// How often a secondary looks for changes (default 3600).
    pub refresh: u32,
    /// How soon it tries again (default 600).
    pub retry: u32,
    /// When it gives up (default 86400).
    pub expire: u32,
    /// How long negative answers may be kept, and the TTL of the record itself (default 0).
    pub min_ttl: u32,
}

impl Default for SoaTimes {
    fn default() -> Self {
        Self { refresh: 3600, retry: 600, expire: 86_400, min_ttl: 0 }
    }
}

/// TTLs by service name: an exact name, else the longest `prefix*`, else 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceTtls {
    exact: BTreeMap<String, u32>,
    /// Longest first.
    prefixes: Vec<(String, u32)>,
}

impl ServiceTtls {
    /// The TTL of answers about `service`, which is compared without letter case.
    pub fn of(&self, service: &str) -> u32 {
        let name = service.to_lowercase();
        let by_prefix = || self.prefixes.iter().find(|(prefix, _)| name.starts_with(prefix.as_str()));
        self.exact.get(&name).copied().or_else(|| by_prefix().map(|(_, ttl)| *ttl)).unwrap_or(0)
    }
}

impl<S: AsRef<str>> FromIterator<(S, u32)> for ServiceTtls {
    fn from_iter<I: IntoIterator<Item = (S, u32)>>(pairs: I) -> Self {
        let mut ttls = Self::default();
        for (key, ttl) in pairs {
            let key = key.as_ref().to_lowercase();
            match key.strip_suffix('*') {
                Some(prefix) => ttls.prefixes.push((prefix.to_owned(), ttl)),
                None => {
                    ttls.exact.insert(key, ttl);
                }
            }
        }
        ttls.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        ttls
    }
}

impl Zone {
    /// A zone with every choice at its default.
    pub fn new(domain: Name, datacenter: Datacenter) -> Self {
        Self {
            domain,
            alt_domain: None,
            datacenter,
            only_passing: false,
            node_ttl: 0,
            service_ttl: ServiceTtls::default(),
            soa: SoaTimes::default(),
            enable_truncate: false,
            udp_answer_limit: 3,
            a_record_limit: 0,
            additional_node_meta_txt: true,
            prefers_wan: false,
            disable_compression: false,
        }
    }

    /// The domain that holds `name`, and the labels of `name` to the left of it.
    pub(super) fn locate<'a>(&'a self, name: &'a Name) -> Option<(&'a Name, Vec<&'a [u8]>)> {
        let domains = std::iter::once(&self.domain).chain(&self.alt_domain);
        domains
            .filter_map(|domain| Some((domain, name.labels_within(domain)?)))
            .min_by_key(|(_, left)| left.len())
    }

    /// The start of authority of `domain`.
    pub(super) fn soa_record(&self, domain: &Name) -> Record {
        let SoaTimes { refresh, retry, expire, min_ttl } = self.soa;
        let named = |label: &str| domain.under([label.as_bytes()]).unwrap_or_else(|| domain.clone());
        let soa = Soa {
            primary: named("ns"),
            mailbox: named("hostmaster"),
            refresh,
            retry,
            expire,
            minimum: min_ttl,
        };
        Record { owner: Owner::Name(domain.clone()), ttl: min_ttl, data: Data::Soa(Box::new(soa)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_matching_key_gives_the_ttl() {
        let ttls: ServiceTtls = [("Web", 1), ("web*", 2), ("web-api*", 3), ("*", 4)].into_iter().collect();
        for (service, ttl) in [("web", 1), ("WEB", 1), ("web2", 2), ("web-api-v1", 3), ("db", 4)] {
            assert_eq!(ttls.of(service), ttl, "{service}");
        }
        assert_eq!(ServiceTtls::default().of("web"), 0);
    }
}
