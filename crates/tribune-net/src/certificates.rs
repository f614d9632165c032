//! Certificates in force: loaded from PEM files, shared by everything that speaks TLS, and swapped as one.
//!
//! [`Tls::reload`] reads all files again. Only when everything in them will do are they taken, and then everyone
//! who holds a clone uses them for the next connection; otherwise everything stays as it was.

mod pem;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tribune_core::Datacenter;
use x509_parser::certificate::X509Certificate;
use x509_parser::parse_x509_certificate;
use x509_parser::x509::X509Version;

use crate::identity::{self, PeerIdentity};
use pem::Pem;

/// Oldest version of TLS that is spoken. Nothing older than 1.2 is, whatever anybody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    V1_2,
    /// TLS 1.3 only.
    V1_3,
}

static ONLY_1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

impl TlsVersion {
    pub(crate) fn spoken(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::V1_2 => rustls::ALL_VERSIONS,
            Self::V1_3 => ONLY_1_3,
        }
    }
}

/// The files that a configuration names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the CAs that vouch for others; several while one takes over from another.
    pub ca_file: Option<PathBuf>,
    /// A folder of such files.
    pub ca_path: Option<PathBuf>,
    /// Our own certificate, with those of CAs between it and the root behind it.
    pub cert_file: Option<PathBuf>,
    /// The key of our own certificate.
    pub key_file: Option<PathBuf>,
    /// Oldest version spoken.
    pub min_version: TlsVersion,
}

/// Certificates or keys that cannot be used. The text names the key and the file, and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {}: {why}", path.display())]
pub struct TlsError {
    /// The key of the configuration.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it and what to do.
    pub why: String,
}

impl TlsError {
    pub(crate) fn new(key: &'static str, path: &Path, why: impl Into<String>) -> Self {
        Self { key, path: path.to_owned(), why: why.into() }
    }
}

/// The certificates in force. Clones share them: after [`Tls::reload`] all use the new ones.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    domain: String,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<Material>,
    changes: watch::Sender<u64>,
}

/// What was loaded at one time.
pub(crate) struct Material {
    /// Those who vouch for others.
    pub(crate) authorities: Vec<Authority>,
    /// Our own certificate and its key.
    pub(crate) own: Option<Arc<CertifiedKey>>,
    /// When our own certificate ends.
    expires: Option<SystemTime>,
    /// The oldest version that is spoken.
    min_version: TlsVersion,
}

/// The certificate of a CA and the time in which it may vouch.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    valid_from: SystemTime,
    valid_until: SystemTime,
}

impl Tls {
    /// Loads the files. The domain is that of the names in certificates (`server.<dc>.<domain>`).
    pub fn load(files: &TlsFiles, domain: &str) -> Result<Self, TlsError> {
        let provider = provider();
        let material = Material::load(files, &provider)?;
        Ok(Self::new(domain, provider, material))
    }

    /// Certificates made in process: of the CAs, and our own with its key.
    pub fn from_pem(
        authorities: &str,
        own: Option<&crate::authority::Pem>,
        domain: &str,
    ) -> Result<Self, TlsError> {
        let provider = provider();
        let material = Material::of_pem(authorities, own, &provider)?;
        Ok(Self::new(domain, provider, material))
    }

    fn new(domain: &str, provider: Arc<CryptoProvider>, material: Material) -> Self {
        Self(Arc::new(Shared {
            domain: identity::normal_domain(domain),
            provider,
            current: ArcSwap::from_pointee(material),
            changes: watch::Sender::new(0),
        }))
    }

    /// Reads the files, which may be others than before, and uses them from now on; connections that are open end in
    /// order and are made anew. When anything is wrong with a file, everything stays as it was.
    pub fn reload(&self, files: &TlsFiles) -> Result<(), TlsError> {
        self.take(Material::load(files, &self.0.provider)?)
    }

    /// The same as [`Tls::reload`] for certificates made in process.
    pub fn replace(&self, authorities: &str, own: Option<&crate::authority::Pem>) -> Result<(), TlsError> {
        self.take(Material::of_pem(authorities, own, &self.0.provider)?)
    }

    fn take(&self, material: Material) -> Result<(), TlsError> {
        let current = self.0.current.load();
        let missing = match &material {
            it if current.own.is_some() && it.own.is_none() => Some("cert_file"),
            it if it.authorities.is_empty() && !current.authorities.is_empty() => Some("ca_file"),
            _ => None,
        };
        if let Some(key) = missing {
            let why = "cannot be given up while the agent runs: others would be refused; restart it for that";
            return Err(TlsError::new(key, Path::new("(not set)"), why));
        }
        self.0.current.store(Arc::new(material));
        self.0.changes.send_modify(|generation| *generation += 1);
        Ok(())
    }

    /// When our own certificate ends.
    pub fn expiry(&self) -> Option<SystemTime> {
        self.0.current.load().expires
    }

    /// Who our own certificate says we are; of several datacenters, whether we are of this one.
    pub fn identity(&self, datacenter: &Datacenter) -> Option<PeerIdentity> {
        let material = self.0.current.load();
        let own = material.own.as_ref()?.cert.first()?;
        identity::single(identity::claims(own, &self.0.domain), Some(datacenter))
    }

    /// Whether there is a certificate of our own to show.
    pub fn has_certificate(&self) -> bool {
        self.0.current.load().own.is_some()
    }

    /// Whether there is a CA, so that the certificates of others can be told from forged ones.
    pub fn has_authority(&self) -> bool {
        !self.0.current.load().authorities.is_empty()
    }

    /// The domain of the names in certificates, in lower case and without outer dots.
    pub fn domain(&self) -> &str {
        &self.0.domain
    }

    pub(crate) fn current(&self) -> Arc<Material> {
        self.0.current.load_full()
    }

    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.0.provider
    }

    pub(crate) fn min_version(&self) -> TlsVersion {
        self.0.current.load().min_version
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("domain", &self.0.domain).finish_non_exhaustive()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Material {
    fn load(files: &TlsFiles, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let mut bundles = Vec::new();
        if let Some(path) = &files.ca_file {
            bundles.push(Pem::read("ca_file", path)?);
        }
        if let Some(path) = &files.ca_path {
            bundles.extend(Pem::read_folder("ca_path", path)?);
        }
        let own = match (&files.cert_file, &files.key_file) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((Pem::read("cert_file", cert)?, Pem::read("key_file", key)?)),
            (Some(cert), None) => {
                return Err(TlsError::new("cert_file", cert, "needs its key: set key_file too"));
            }
            (None, Some(key)) => {
                return Err(TlsError::new("key_file", key, "needs its certificate: set cert_file too"));
            }
        };
        Ok(Self { min_version: files.min_version, ..Self::of(&bundles, own.as_ref(), provider)? })
    }

    fn of_pem(
        authorities: &str,
        own: Option<&crate::authority::Pem>,
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        let bundle = Pem::of_text("ca_file", authorities);
        let bundles = if authorities.is_empty() { Vec::new() } else { vec![bundle] };
        let own =
            own.map(|own| (Pem::of_text("cert_file", &own.certificate), Pem::of_text("key_file", &own.key)));
        Self::of(&bundles, own.as_ref(), provider)
    }

    fn of(bundles: &[Pem], own: Option<&(Pem, Pem)>, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let mut authorities = Vec::new();
        for bundle in bundles {
            for certificate in bundle.certificates()? {
                authorities.push(Authority::new(bundle, certificate)?);
            }
        }
        let min_version = TlsVersion::default();
        let Some((certificate, key)) = own else {
            return Ok(Self { authorities, own: None, expires: None, min_version });
        };
        let chain = certificate.certificates()?;
        let expires = parsed(certificate, &chain[0])?.1;
        let key = provider.key_provider.load_private_key(key.private_key()?).map_err(|error| {
            key.wrong(format!("holds a key that cannot be used: {error}; make an EC P-256 key"))
        })?;
        let own = CertifiedKey::new(chain, key);
        match own.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => {
                return Err(
                    certificate.wrong("does not belong to the key in key_file: name the two of one pair")
                );
            }
        }
        Ok(Self { authorities, own: Some(Arc::new(own)), expires: Some(expires), min_version })
    }

    /// The CAs that may vouch at this time: one whose own certificate has ended may not.
    pub(crate) fn roots(&self, now: SystemTime) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let valid = self.authorities.iter().filter(|it| it.valid_from <= now && now <= it.valid_until);
        roots.add_parsable_certificates(valid.map(|it| it.certificate.clone()));
        roots
    }
}

impl Authority {
    fn new(bundle: &Pem, certificate: CertificateDer<'static>) -> Result<Self, TlsError> {
        let (valid_from, valid_until, is_authority) = {
            let (from, until, x509) = validity(bundle, &certificate)?;
            (from, until, may_vouch(&x509))
        };
        if !is_authority {
            return Err(
                bundle.wrong("holds a certificate that is not one of a CA: name the CA's certificate")
            );
        }
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|error| bundle.wrong(format!("holds a certificate that cannot be used: {error}")))?;
        Ok(Self { certificate, valid_from, valid_until })
    }
}

fn parsed(pem: &Pem, certificate: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), TlsError> {
    validity(pem, certificate).map(|(from, until, _)| (from, until))
}

fn validity<'a>(
    pem: &Pem,
    certificate: &'a CertificateDer<'_>,
) -> Result<(SystemTime, SystemTime, X509Certificate<'a>), TlsError> {
    let (_, x509) = parse_x509_certificate(certificate)
        .map_err(|error| pem.wrong(format!("holds something that is no X.509 certificate: {error}")))?;
    let from = identity::instant(x509.validity().not_before.timestamp());
    let until = identity::instant(x509.validity().not_after.timestamp());
    Ok((from, until, x509))
}

/// Whether a certificate in `ca_file` is one of a CA. Version 1 knows no such mark, so there it is believed.
fn may_vouch(x509: &X509Certificate<'_>) -> bool {
    match x509.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        Ok(None) => x509.version() != X509Version::V3,
        Err(_) => false,
    }
}
