//! Who is at the other end of a connection, read from its certificate. Pure: whether the certificate is genuine
//! was decided before, in `trust.rs`.
//!
//! Only two names count, both as DNS names among the subject alternative names: `server.<dc>.<domain>` and
//! `client.<dc>.<domain>`, letter for letter but for their case. A wildcard stands for no node in particular and a
//! common name is free text, so neither makes anybody anything.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tribune_core::Datacenter;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// What part a node plays, as its certificate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerRole {
    /// `server.<dc>.<domain>`.
    Server,
    /// `client.<dc>.<domain>`.
    Client,
}

impl PeerRole {
    /// The first label of the name in the certificate.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// Who is at the other end. Requests that came over a connection whose other end showed a valid certificate with
/// one of the two names carry it as an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// What part it plays.
    pub role: PeerRole,
    /// The datacenter it belongs to, in lower case.
    pub datacenter: Datacenter,
    /// From when on its certificate is not valid any more.
    pub expires: SystemTime,
}

/// The name that a server's certificate must carry.
pub(crate) fn server_name(datacenter: &Datacenter, domain: &str) -> String {
    name_of(PeerRole::Server, datacenter, domain)
}

pub(crate) fn name_of(role: PeerRole, datacenter: &Datacenter, domain: &str) -> String {
    format!("{}.{}.{domain}", role.as_str(), datacenter.as_str().to_lowercase())
}

/// A domain without the dots and the letter case that do not matter.
pub(crate) fn normal_domain(domain: &str) -> String {
    domain.trim_matches('.').to_lowercase()
}

/// Everything a certificate says its holder is; `domain` in normal form.
pub(crate) fn claims(certificate: &[u8], domain: &str) -> Vec<PeerIdentity> {
    let Ok((_, parsed)) = parse_x509_certificate(certificate) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    // The last second of a certificate belongs to it.
    let expires = instant(parsed.validity().not_after.timestamp().saturating_add(1));
    let dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => claim(name, domain),
        _ => None,
    });
    dns.map(|(role, datacenter)| PeerIdentity { role, datacenter, expires }).collect()
}

/// The one identity among the claims: of the wanted datacenter when one is wanted, and of any when all speak of
/// the same. Who claims to belong to two datacenters could act for both, so that is no identity.
pub(crate) fn single(claims: Vec<PeerIdentity>, wanted: Option<&Datacenter>) -> Option<PeerIdentity> {
    let is_wanted =
        |claim: &PeerIdentity| wanted.is_none_or(|wanted| same(&claim.datacenter, wanted.as_str()));
    let mut claims: Vec<PeerIdentity> = claims.into_iter().filter(is_wanted).collect();
    claims.sort_by_key(|claim| claim.role);
    let first = claims.first()?.clone();
    claims.iter().all(|claim| claim.datacenter == first.datacenter).then_some(first)
}

pub(crate) fn same(datacenter: &Datacenter, name: &str) -> bool {
    datacenter.as_str().eq_ignore_ascii_case(name)
}

/// Seconds since the epoch as a time; what lies before it, or beyond what a time can hold, is cut.
pub(crate) fn instant(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

fn claim(name: &str, domain: &str) -> Option<(PeerRole, Datacenter)> {
    let name = name.to_ascii_lowercase();
    let (role, rest) = name.split_once('.')?;
    let role = match role {
        "server" => PeerRole::Server,
        "client" => PeerRole::Client,
        _ => return None,
    };
    let datacenter = rest.strip_suffix(domain)?.strip_suffix('.')?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if datacenter.is_empty() || !datacenter.chars().all(is_plain) {
        return None;
    }
    Some((role, Datacenter::new(datacenter).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<(PeerRole, &str)>) {
        let found = claim(name, "consul");
        let found = found.as_ref().map(|(role, datacenter)| (*role, datacenter.as_str()));
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn only_the_two_names_count() {
        check("server.dc1.consul", Some((PeerRole::Server, "dc1")));
        check("Client.DC-1.Consul", Some((PeerRole::Client, "dc-1")));
        check("server.my_dc.consul", Some((PeerRole::Server, "my_dc")));
        for nothing in [
            "server.consul",
            "server..consul",
            "server.dc1.consul.",
            "server.dc1.consul.example",
            "server.dc1.example",
            "server.dc1consul",
            "node.server.dc1.consul",
            "server.a.dc1.consul",
            "*.dc1.consul",
            "server.*.consul",
            "*.consul",
            "servers.dc1.consul",
            "server.dc1.xconsul",
            "server.dc 1.consul",
            "",
        ] {
            check(nothing, None);
        }
        let longer = claim("server.dc1.sd.example.org", "sd.example.org");
        assert_eq!(longer.map(|it| it.1.as_str().to_owned()), Some("dc1".to_owned()));
    }

    #[test]
    fn two_datacenters_in_one_certificate_are_no_identity() {
        let claim = |role, name: &str| PeerIdentity {
            role,
            datacenter: Datacenter::new(name).unwrap(),
            expires: UNIX_EPOCH,
        };
        let both = || vec![claim(PeerRole::Server, "dc1"), claim(PeerRole::Server, "dc2")];
        assert_eq!(single(both(), None), None);
        let dc2 = Datacenter::new("DC2").unwrap();
        assert_eq!(single(both(), Some(&dc2)), Some(claim(PeerRole::Server, "dc2")));
        let roles = vec![claim(PeerRole::Client, "dc1"), claim(PeerRole::Server, "dc1")];
        assert_eq!(single(roles, None), Some(claim(PeerRole::Server, "dc1")), "the stronger role");
        assert_eq!(single(Vec::new(), None), None);
    }

    #[test]
    fn damaged_certificates_are_read_without_harm() {
        use rustls_pki_types::CertificateDer;
        use rustls_pki_types::pem::PemObject;

        use crate::authority::{self, CaRequest, CertificateRequest, Holder};

        let ca = authority::create_ca(&CaRequest::default()).unwrap();
        let dc1 = Datacenter::new("dc1").unwrap();
        let request = CertificateRequest::new(Holder::Server, dc1.clone(), "Consul.");
        let pem = authority::issue(&ca, &request).unwrap();
        let whole = CertificateDer::from_pem_slice(pem.certificate.as_bytes()).unwrap().to_vec();
        assert_eq!(single(claims(&whole, "consul"), None).map(|it| it.datacenter), Some(dc1));
        for at in 0..whole.len() {
            assert_eq!(claims(&whole[..at], "consul"), [], "cut at {at}");
            for bit in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= bit;
                let _any = claims(&damaged, "consul");
            }
        }
    }

    #[test]
    fn what_is_no_certificate_claims_nothing() {
        assert_eq!(claims(b"garbage", "consul"), []);
        assert_eq!(claims(b"", "consul"), []);
    }
}
