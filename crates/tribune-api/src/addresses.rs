//! Under which addresses nodes and instances are shown: their own, or those tagged for readers in other datacenters
//! (`translate_wan_addrs`).

use tribune_core::{Node, ServiceInstance};

use crate::params::Query;

/// The parameter that asks for them. No client of Consul's knows it: a node whose answers are translated asks other
/// datacenters with it.
pub const ADDRESSES: &str = "addresses";
/// Its value.
pub const WAN: &str = "wan";

/// The tags of a reader in another datacenter, the first one that is there counts: as the reference version has it.
const WAN_TAGS: [&str; 3] = ["wan_ipv6", "wan_ipv4", "wan"];

/// Which addresses an answer gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Addresses {
    /// Those that they have in their datacenter.
    #[default]
    Own,
    /// Those tagged `wan`, where there are any.
    Wan,
}

impl Addresses {
    /// Those that a request asks for.
    pub fn asked(query: &Query) -> Self {
        if query.text(ADDRESSES) == Some(WAN) { Self::Wan } else { Self::Own }
    }

    /// The address of a node.
    pub fn of_node(self, node: &Node) -> &str {
        let tagged = |tag: &&str| node.tagged_addresses.get(tag).map(|address| address.as_str());
        self.tagged(tagged).unwrap_or(&node.address)
    }

    /// The address of an instance, empty when it is its node's.
    pub fn of_service(self, service: &ServiceInstance) -> &str {
        let tagged = |tag: &&str| service.tagged_addresses.get(tag).map(|tagged| tagged.address.as_str());
        self.tagged(tagged).unwrap_or(&service.address)
    }

    /// The port of an instance. It belongs to `wan` alone, also where the address is one of a certain family.
    pub fn port_of(self, service: &ServiceInstance) -> u16 {
        let tagged = service.tagged_addresses.get(WAN).map(|tagged| tagged.port);
        tagged.filter(|port| self == Self::Wan && *port > 0).unwrap_or(service.port)
    }

    fn tagged<'a>(self, tagged: impl FnMut(&&str) -> Option<&'a str>) -> Option<&'a str> {
        let tags = if self == Self::Wan { &WAN_TAGS[..] } else { &[] };
        tags.iter().filter_map(tagged).find(|address| !address.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use tribune_core::{InstanceId, NodeName, Pairs, ServiceAddress, ServiceName, Weights};

    use super::*;

    fn node(tagged: &[(&str, &str)]) -> Node {
        Node {
            name: NodeName::new("n").unwrap(),
            id: Default::default(),
            address: "10.0.0.1".into(),
            tagged_addresses: tagged
                .iter()
                .map(|(tag, address)| ((*tag).into(), (*address).into()))
                .collect(),
            meta: Pairs::default(),
        }
    }

    fn service(tagged: &[(&str, &str, u16)]) -> ServiceInstance {
        let address = |(tag, address, port): &(&str, &str, u16)| {
            ((*tag).into(), ServiceAddress { address: (*address).into(), port: *port })
        };
        ServiceInstance {
            id: InstanceId::new("s").unwrap(),
            name: ServiceName::new("s").unwrap(),
            tags: Box::default(),
            address: "10.9.9.9".into(),
            tagged_addresses: tagged.iter().map(address).collect(),
            meta: Pairs::default(),
            port: 80,
            socket_path: Default::default(),
            weights: Weights::default(),
            enable_tag_override: false,
            connect_native: false,
        }
    }

    /// As a running reference version answered.
    #[test]
    fn nodes_are_shown_as_the_reference_does() {
        for (tagged, shown) in [
            (&[("wan", "1.0.0.1")][..], "1.0.0.1"),
            (&[("wan_ipv6", "1::6"), ("wan", "1.0.0.1")], "1::6"),
            (&[("wan_ipv4", "1.0.0.4"), ("wan_ipv6", "1::6"), ("wan", "1.0.0.1")], "1::6"),
            (&[("wan_ipv4", "1.0.0.4"), ("wan", "wan.example.org")], "1.0.0.4"),
            (&[("wan", "wan.example.org")], "wan.example.org"),
            (&[], "10.0.0.1"),
            // Which is of more use than the empty text that the reference gives, and than an address of the inside.
            (&[("wan", "")], "10.0.0.1"),
            (&[("lan_ipv4", "3.0.0.4")], "10.0.0.1"),
        ] {
            assert_eq!(Addresses::Wan.of_node(&node(tagged)), shown, "{tagged:?}");
            assert_eq!(Addresses::Own.of_node(&node(tagged)), "10.0.0.1");
        }
    }

    #[test]
    fn instances_are_shown_as_the_reference_does() {
        for (tagged, shown) in [
            (&[("wan", "2.0.0.1", 1)][..], ("2.0.0.1", 1)),
            (&[("wan_ipv6", "2::6", 6), ("wan", "2.0.0.1", 1)], ("2::6", 1)),
            (&[("wan_ipv4", "2.0.0.4", 4)], ("2.0.0.4", 80)),
            (&[("wan", "2.0.0.1", 0)], ("2.0.0.1", 80)),
            (&[("wan", "", 7)], ("10.9.9.9", 7)),
            (&[], ("10.9.9.9", 80)),
        ] {
            let service = service(tagged);
            let all = |addresses: Addresses| (addresses.of_service(&service), addresses.port_of(&service));
            assert_eq!(all(Addresses::Wan), shown, "{tagged:?}");
            assert_eq!(all(Addresses::Own), ("10.9.9.9", 80));
        }
    }
}
