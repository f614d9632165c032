//! Addresses as configurations write them: numbers, lists separated by blanks, and the templates that stand for
//! the addresses of this host.

use std::net::{IpAddr, Ipv4Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// An address of one of this host's interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostAddress {
    /// Name of the interface.
    pub interface: String,
    /// The address.
    pub ip: IpAddr,
}

/// The addresses of all interfaces that are up, in the system's order.
pub(super) fn of_this_host() -> Vec<HostAddress> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    all.filter(|it| it.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|it| {
            let storage = it.address?;
            let v4 = storage.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
            let ip = v4.or_else(|| storage.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))?;
            Some(HostAddress { interface: it.interface_name, ip })
        })
        .collect()
}

/// Reads a list of addresses separated by blanks, with templates in it.
pub(super) fn list(text: &str, host: &[HostAddress]) -> Result<Vec<IpAddr>, String> {
    let plain = expanded(text, host)?;
    let addresses: Result<Vec<IpAddr>, String> = plain.split_whitespace().map(parsed).collect();
    match addresses? {
        none if none.is_empty() => Err(format!("names no address: {text:?}")),
        some => Ok(some),
    }
}

/// Reads exactly one address.
pub(super) fn one(text: &str, host: &[HostAddress]) -> Result<IpAddr, String> {
    match list(text, host)?.as_slice() {
        [one] => Ok(*one),
        several => Err(format!("must be one address, but {text:?} gives {}", shown(several))),
    }
}

/// The address others are told when nothing says otherwise: the only private IPv4 address of the host.
pub(super) fn only_private(host: &[HostAddress]) -> Result<IpAddr, String> {
    match private(host).as_slice() {
        [one] => Ok(*one),
        [] => {
            Err("no private IPv4 address found; set advertise_addr to the address others reach this node at"
                .to_owned())
        }
        several => Err(format!(
            "Multiple private IPv4 addresses found. Please configure one with 'bind' and/or 'advertise'. They are {}",
            shown(several)
        )),
    }
}

fn parsed(text: &str) -> Result<IpAddr, String> {
    if text.starts_with("unix:") {
        return Err(format!(
            "{text:?} is a Unix socket, which this version does not listen on; give an IP address"
        ));
    }
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text);
    bare.parse()
        .map_err(|_| format!("{text:?} is not an IP address; host names and ports are not taken here"))
}

/// Replaces each `{{ … }}` by the addresses it stands for.
fn expanded(text: &str, host: &[HostAddress]) -> Result<String, String> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        plain.push_str(&rest[..start]);
        let after = &rest[start + 2..];
        let end = after
            .find("}}")
            .ok_or_else(|| format!("the template in {text:?} has no end: }}}} is missing"))?;
        plain.push_str(&addresses_of(&after[..end], host)?);
        rest = &after[end + 2..];
    }
    plain.push_str(rest);
    Ok(plain)
}

fn addresses_of(template: &str, host: &[HostAddress]) -> Result<String, String> {
    let words: Vec<&str> = template.split_whitespace().collect();
    let found: Vec<IpAddr> = match words.as_slice() {
        ["GetPrivateIP"] => private(host).into_iter().take(1).collect(),
        ["GetPrivateIPs"] => private(host),
        ["GetPublicIP"] => public(host).into_iter().take(1).collect(),
        ["GetPublicIPs"] => public(host),
        ["GetInterfaceIP", name] => of_interface(host, name).into_iter().take(1).collect(),
        ["GetInterfaceIPs", name] => of_interface(host, name),
        _ => {
            return Err(format!(
                "the template {{{{{template}}}}} is not known; known are GetPrivateIP, GetPrivateIPs, GetPublicIP, \
                 GetPublicIPs, GetInterfaceIP \"name\" and GetInterfaceIPs \"name\""
            ));
        }
    };
    if found.is_empty() {
        return Err(format!("the template {{{{{template}}}}} finds no address on this host"));
    }
    Ok(shown(&found))
}

fn private(host: &[HostAddress]) -> Vec<IpAddr> {
    ipv4(host).filter(|ip| ip.is_private()).map(IpAddr::V4).collect()
}

fn public(host: &[HostAddress]) -> Vec<IpAddr> {
    let is_special = |ip: &Ipv4Addr| ip.is_private() || ip.is_loopback() || ip.is_link_local();
    ipv4(host).filter(|ip| !is_special(ip)).map(IpAddr::V4).collect()
}

fn ipv4(host: &[HostAddress]) -> impl Iterator<Item = Ipv4Addr> {
    host.iter().filter_map(|it| match it.ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    })
}

/// IPv4 before IPv6; link-local IPv6 addresses need a zone that a configuration cannot give.
fn of_interface(host: &[HostAddress], quoted: &str) -> Vec<IpAddr> {
    let name = quoted.trim_matches('"');
    let is_usable = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    let mut found: Vec<IpAddr> =
        host.iter().filter(|it| it.interface == name).map(|it| it.ip).filter(is_usable).collect();
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

fn shown(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Vec<HostAddress> {
        [
            ("lo", "127.0.0.1"),
            ("eth0", "10.0.0.7"),
            ("eth0", "fe80::1"),
            ("eth0", "fd00::7"),
            ("eth1", "9.9.9.9"),
        ]
        .iter()
        .map(|(name, ip)| HostAddress { interface: (*name).to_owned(), ip: ip.parse().unwrap() })
        .collect()
    }

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<String> = list(text, &host()).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{text}");
    }

    fn refuse(text: &str, expected: &str) {
        let error = list(text, &host()).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }

    #[test]
    fn lists_and_templates_are_read() {
        check("127.0.0.1 ::1", &["127.0.0.1", "::1"]);
        check("[::1]", &["::1"]);
        check("{{ GetPrivateIP }} 127.0.0.1", &["10.0.0.7", "127.0.0.1"]);
        check("{{GetInterfaceIP \"eth1\"}}", &["9.9.9.9"]);
        check("{{ GetInterfaceIPs \"eth0\" }}", &["10.0.0.7", "fd00::7"]);
        check("{{ GetPublicIP }}", &["9.9.9.9"]);
    }

    #[test]
    fn what_is_no_address_is_explained() {
        refuse("localhost", "is not an IP address");
        refuse("127.0.0.1:8500", "is not an IP address");
        refuse("unix:///tmp/x", "is a Unix socket");
        refuse("{{ GetInterfaceIP \"wlan0\" }}", "finds no address on this host");
        refuse("{{ GetAllInterfaces | attr \"x\" }}", "is not known; known are");
        refuse("{{ GetPrivateIP", "has no end");
        refuse("", "names no address");
        assert!(one("::1 127.0.0.1", &host()).unwrap_err().contains("must be one address"));
    }

    #[test]
    fn the_only_private_address_is_advertised() {
        assert_eq!(only_private(&host()), Ok("10.0.0.7".parse().unwrap()));
        let mut two = host();
        two.push(HostAddress { interface: "docker0".to_owned(), ip: "172.17.0.1".parse().unwrap() });
        assert!(only_private(&two).unwrap_err().contains("Multiple private IPv4 addresses"));
        assert!(only_private(&[]).unwrap_err().contains("no private IPv4 address"));
    }
}
