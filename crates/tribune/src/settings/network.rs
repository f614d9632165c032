//! Where this node listens and what it tells others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Network;
use super::address;
use super::reading::Reading;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Reading<'_> {
    pub(super) fn network(&mut self) -> Network {
        let config = self.config;
        let default_bind = if config.is_dev { "127.0.0.1" } else { "0.0.0.0" };
        let bind = self.one("bind_addr", config.bind_addr.as_deref().unwrap_or(default_bind));
        let advertise = self.advertise(bind);
        let advertise_wan = match &config.advertise_addr_wan {
            Some(text) => self.one("advertise_addr_wan", text),
            None => advertise,
        };
        let client = self.many("client_addr", config.client_addr.as_deref().unwrap_or("127.0.0.1"));
        let http = self.interface("http", config.addresses.http.as_deref(), &client, config.ports.http, 8500);
        let dns = self.interface("dns", config.addresses.dns.as_deref(), &client, config.ports.dns, 8600);
        // HTTPS has no port of its own until it is asked for.
        let https = match config.ports.https {
            Some(_) => {
                self.interface("https", config.addresses.https.as_deref(), &client, config.ports.https, 0)
            }
            None => Vec::new(),
        };
        self.no_two_alike([("http", &http), ("https", &https), ("dns", &dns)]);
        let lan = config.serf_lan.as_deref().map_or(bind, |text| self.one("serf_lan", text));
        let wan = config.serf_wan.as_deref().map_or(bind, |text| self.one("serf_wan", text));
        Network {
            rpc: SocketAddr::new(bind, port(config.ports.server, 8300).unwrap_or(0)),
            lan: SocketAddr::new(lan, port(config.ports.serf_lan, 8301).unwrap_or(0)),
            wan: port(config.ports.serf_wan, 8302).map(|port| SocketAddr::new(wan, port)),
            advertise,
            advertise_wan,
            tagged_addresses: self.tagged_addresses(advertise, advertise_wan),
            http,
            https,
            dns,
            client,
        }
    }

    fn advertise(&mut self, bind: IpAddr) -> IpAddr {
        let config = self.config;
        if let Some(text) = &config.advertise_addr {
            let advertise = self.one("advertise_addr", text);
            if advertise.is_unspecified() {
                self.refuse(
                    "advertise_addr",
                    &format!("must be an address that others can reach, not {advertise}"),
                );
            }
            return advertise;
        }
        if !bind.is_unspecified() {
            return bind;
        }
        let written = [
            ("advertise_addr_ipv4", &config.advertise_addr_ipv4),
            ("advertise_addr_ipv6", &config.advertise_addr_ipv6),
        ];
        if let Some((key, Some(text))) = written.into_iter().find(|(_, text)| text.is_some()) {
            return self.one(key, text);
        }
        address::only_private(&self.host).unwrap_or_else(|why| {
            self.refuse("advertise_addr", &format!("is not set, and {why}"));
            LOOPBACK
        })
    }

    /// What the catalog shows of the node besides its address; own entries of the configuration come on top.
    fn tagged_addresses(&mut self, lan: IpAddr, wan: IpAddr) -> BTreeMap<String, String> {
        let config = self.config;
        let mut tagged =
            BTreeMap::from([("lan".to_owned(), lan.to_string()), ("wan".to_owned(), wan.to_string())]);
        for (purpose, ip) in [("lan", lan), ("wan", wan)] {
            let version = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
            tagged.insert(format!("{purpose}_{version}"), ip.to_string());
        }
        let written = [
            ("lan_ipv4", "advertise_addr_ipv4", &config.advertise_addr_ipv4),
            ("lan_ipv6", "advertise_addr_ipv6", &config.advertise_addr_ipv6),
            ("wan_ipv4", "advertise_addr_wan_ipv4", &config.advertise_addr_wan_ipv4),
            ("wan_ipv6", "advertise_addr_wan_ipv6", &config.advertise_addr_wan_ipv6),
        ];
        for (purpose, key, text) in written {
            if let Some(text) = text {
                let ip = self.one(key, text);
                tagged.insert(purpose.to_owned(), ip.to_string());
            }
        }
        for (purpose, text) in &config.tagged_addresses {
            let ip = self.one("tagged_addresses", text);
            tagged.insert(purpose.clone(), ip.to_string());
        }
        tagged
    }

    fn interface(
        &mut self,
        name: &str,
        written: Option<&str>,
        client: &[IpAddr],
        written_port: Option<i32>,
        default_port: u16,
    ) -> Vec<SocketAddr> {
        let Some(port) = port(written_port, default_port) else { return Vec::new() };
        let addresses = match written {
            Some(text) => self.many(&format!("addresses.{name}"), text),
            None => client.to_vec(),
        };
        addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
    }

    fn no_two_alike(&mut self, interfaces: [(&str, &[SocketAddr]); 3]) {
        for (at, (name, addresses)) in interfaces.iter().enumerate() {
            for (earlier, taken) in &interfaces[..at] {
                let clash = addresses.iter().find(|address| address.port() != 0 && taken.contains(address));
                if let Some(address) = clash {
                    let why = format!("must differ from ports.{earlier}: both are {address}");
                    self.refuse(&format!("ports.{name}"), &why);
                }
            }
        }
    }

    fn one(&mut self, key: &str, text: &str) -> IpAddr {
        address::one(text, &self.host).unwrap_or_else(|why| {
            self.refuse(key, &why);
            LOOPBACK
        })
    }

    fn many(&mut self, key: &str, text: &str) -> Vec<IpAddr> {
        address::list(text, &self.host).unwrap_or_else(|why| {
            self.refuse(key, &why);
            vec![LOOPBACK]
        })
    }
}

/// A port, or `None` for one that is off.
fn port(written: Option<i32>, default: u16) -> Option<u16> {
    written.map_or(Some(default), |port| u16::try_from(port).ok())
}
