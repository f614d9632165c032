//! The built-in CA: makes the certificate of an authority and, with its key, those of nodes. In process, as PEM
//! text; who stores it where is decided elsewhere.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
};
use tribune_core::Datacenter;
use x509_parser::pem::parse_x509_pem;

use crate::identity;

/// How far in the past a certificate begins, so that a clock that is a little behind accepts it.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate and its key, as PEM text.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pem").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Why no certificate was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate or the key of the CA cannot be used.
    #[error(
        "the certificate and key of the CA cannot be used: {0}; name the two that `tribune tls ca create` wrote"
    )]
    Ca(String),
    /// A name cannot stand in a certificate.
    #[error("{0:?} cannot stand in a certificate: names are made of letters, digits, dots and hyphens")]
    Name(String),
    /// The time for which it would be valid cannot be.
    #[error("a certificate cannot be valid for {0} days: choose between 1 and {DAYS_MAX}")]
    Days(u32),
    /// Anything else.
    #[error("no certificate could be made: {0}")]
    Failed(String),
}

/// Longest validity: a hundred years.
pub const DAYS_MAX: u32 = 36_500;

/// What a CA is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaRequest {
    /// For how many days it may vouch.
    pub days: u32,
    /// The domain of the names it will vouch for.
    pub domain: String,
    /// Its common name; by default one made of the domain.
    pub common_name: Option<String>,
    /// Identifier of the cluster; stands in the certificate as `spiffe://<id>.<domain>`.
    pub cluster_id: Option<String>,
    /// Domains to which its word is confined, besides its own domain and `localhost`; `None` confines it to none.
    pub name_constraints: Option<Vec<String>>,
}

impl Default for CaRequest {
    fn default() -> Self {
        let domain = "consul".to_owned();
        Self { days: 1825, domain, common_name: None, cluster_id: None, name_constraints: None }
    }
}

/// For whom a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A server: `server.<dc>.<domain>`.
    Server,
    /// A client agent: `client.<dc>.<domain>`.
    Client,
    /// A person with a command line: `cli.<dc>.<domain>`, which makes nobody a node.
    Cli,
}

impl Holder {
    /// As the names of certificates and of their files have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Cli => "cli",
        }
    }
}

/// What a certificate is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    /// For whom it is.
    pub holder: Holder,
    /// The datacenter of the holder.
    pub datacenter: Datacenter,
    /// The domain.
    pub domain: String,
    /// For how many days it is valid.
    pub days: u32,
    /// The name of the server, if it shall stand in the certificate too.
    pub node: Option<String>,
    /// More DNS names.
    pub dns_names: Vec<String>,
    /// More addresses.
    pub addresses: Vec<IpAddr>,
}

impl CertificateRequest {
    /// An ordinary certificate for a year.
    pub fn new(holder: Holder, datacenter: Datacenter, domain: &str) -> Self {
        Self {
            holder,
            datacenter,
            domain: domain.to_owned(),
            days: 365,
            node: None,
            dns_names: Vec::new(),
            addresses: Vec::new(),
        }
    }

    fn names(&self) -> Result<Vec<SanType>, AuthorityError> {
        let domain = identity::normal_domain(&self.domain);
        let own = self.common_name();
        let mut dns = Vec::new();
        if let (Some(node), Holder::Server) = (&self.node, self.holder) {
            dns.push(format!("{node}.server.{}.{domain}", self.datacenter.as_str().to_lowercase()));
        }
        dns.push(own);
        dns.push("localhost".to_owned());
        dns.extend(self.dns_names.iter().cloned());
        let mut names = dns.into_iter().map(dns_name).collect::<Result<Vec<_>, _>>()?;
        // People with a command line are found at no address.
        if self.holder != Holder::Cli {
            names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        }
        names.extend(self.addresses.iter().copied().map(SanType::IpAddress));
        Ok(names)
    }

    fn common_name(&self) -> String {
        let domain = identity::normal_domain(&self.domain);
        format!("{}.{}.{domain}", self.holder.as_str(), self.datacenter.as_str().to_lowercase())
    }
}

/// Makes a CA.
pub fn create_ca(request: &CaRequest) -> Result<Pem, AuthorityError> {
    let key = fresh_key()?;
    let mut params = valid_for(request.days)?;
    let domain = identity::normal_domain(&request.domain);
    // Two CAs of one name could not be told apart while one takes over from the other.
    let drawn: String = key.public_key_raw().iter().rev().take(6).map(|byte| format!("{byte:02x}")).collect();
    let default_name = || format!("Tribune Agent CA {drawn}");
    let name = request.common_name.clone().unwrap_or_else(default_name);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if let Some(id) = &request.cluster_id {
        let name = format!("spiffe://{id}.{domain}");
        let refused = || AuthorityError::Name(name.clone());
        params.subject_alt_names.push(SanType::URI(name.clone().try_into().map_err(|_| refused())?));
    }
    if let Some(more) = &request.name_constraints {
        let own = [domain.clone(), "localhost".to_owned()];
        let permitted = own.into_iter().chain(more.iter().map(|name| identity::normal_domain(name)));
        let permitted_subtrees = permitted.map(GeneralSubtree::DnsName).collect();
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    }
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Pem { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Makes a certificate with the key of a CA.
pub fn issue(ca: &Pem, request: &CertificateRequest) -> Result<Pem, AuthorityError> {
    let key = fresh_key()?;
    let mut params = valid_for(request.days)?;
    params.distinguished_name.push(DnType::CommonName, request.common_name());
    params.subject_alt_names = request.names()?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    // Every node is both: it takes connections and opens some.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer(ca)?).map_err(failed)?;
    Ok(Pem { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn issuer(ca: &Pem) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
    let wrong = |error: &dyn std::fmt::Display| AuthorityError::Ca(error.to_string());
    let key = KeyPair::from_pem(&ca.key).map_err(|error| wrong(&error))?;
    let (_, pem) = parse_x509_pem(ca.certificate.as_bytes()).map_err(|error| wrong(&error))?;
    let parsed = pem.parse_x509().map_err(|error| wrong(&error))?;
    if !parsed.is_ca() {
        return Err(wrong(&"the certificate is not one of a CA"));
    }
    if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(wrong(&"they do not belong together"));
    }
    Issuer::from_ca_cert_pem(&ca.certificate, key).map_err(|error| wrong(&error))
}

/// The serial number is drawn from the key, which is fresh each time.
fn fresh_key() -> Result<KeyPair, AuthorityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)
}

fn valid_for(days: u32) -> Result<CertificateParams, AuthorityError> {
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(AuthorityError::Days(days));
    }
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = (now - CLOCK_TOLERANCE).into();
    params.not_after = (now + DAY * days).into();
    Ok(params)
}

fn dns_name(name: String) -> Result<SanType, AuthorityError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '*');
    let is_name = !name.is_empty() && name.len() <= 253 && name.chars().all(is_plain);
    let refused = || AuthorityError::Name(name.clone());
    if !is_name {
        return Err(refused());
    }
    Ok(SanType::DnsName(name.clone().try_into().map_err(|_| refused())?))
}

fn failed(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Failed(error.to_string())
}
