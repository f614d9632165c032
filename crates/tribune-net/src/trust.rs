//! Which certificates are believed: the chain to one of our CAs, its times and uses are checked by webpki, who the
//! holder is by `identity.rs`. Both directions of a connection ask here.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tribune_core::Datacenter;

use crate::certificates::{Material, Tls};
use crate::identity::{self, PeerIdentity, PeerRole};

/// What an acceptor asks of those who connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate.
    None,
    /// A certificate of our CAs, or none at all. Who shows none has no identity.
    Optional,
    /// Any certificate of our CAs, whatever it says its holder is.
    Required,
    /// One that says `server.<dc>.<domain>` or `client.<dc>.<domain>`, of this datacenter when one is given.
    Node(Option<Datacenter>),
    /// One that says `server.<dc>.<domain>`, of this datacenter when one is given.
    Server(Option<Datacenter>),
}

impl ClientAuth {
    /// Whether certificates of others have to be judged.
    pub(crate) fn asks(&self) -> bool {
        *self != Self::None
    }

    /// Who the holder of a genuine certificate is.
    pub(crate) fn identity(&self, certificate: &[u8], domain: &str) -> Option<PeerIdentity> {
        let claims = identity::claims(certificate, domain);
        match self {
            Self::None => None,
            Self::Optional | Self::Required => identity::single(claims, None),
            Self::Node(datacenter) => identity::single(claims, datacenter.as_ref()),
            Self::Server(datacenter) => {
                let servers = claims.into_iter().filter(|it| it.role == PeerRole::Server).collect();
                identity::single(servers, datacenter.as_ref())
            }
        }
    }

    /// The identity that is missing, if one is needed.
    fn objection(&self, certificate: &[u8], domain: &str) -> Option<String> {
        let (roles, datacenter) = match self {
            Self::None | Self::Optional | Self::Required => return None,
            Self::Node(datacenter) => ("server or client", datacenter),
            Self::Server(datacenter) => ("server", datacenter),
        };
        let wanted = datacenter.as_ref().map_or("<dc>", Datacenter::as_str);
        let why = || {
            format!(
                "the certificate does not name its holder {roles} of one datacenter: it needs the DNS name \
                 <role>.{wanted}.{domain} among its subject alternative names (`tribune tls cert create` makes it)"
            )
        };
        self.identity(certificate, domain).is_none().then(why)
    }
}

/// Whom a dialer expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Anyone with a certificate of our CAs.
    Anyone,
    /// A server of this datacenter.
    ServerOf(Datacenter),
}

/// The judge of both directions.
pub(crate) struct Trust<W> {
    wanted: W,
    material: Arc<Material>,
    provider: Arc<CryptoProvider>,
    domain: String,
    /// The names of our CAs, told to clients that choose among several certificates.
    hints: Vec<DistinguishedName>,
}

impl<W> Trust<W> {
    pub(crate) fn new(wanted: W, tls: &Tls, material: Arc<Material>) -> Self {
        let hints = material.roots(SystemTime::now()).subjects();
        let (provider, domain) = (Arc::clone(tls.provider()), tls.domain().to_owned());
        Self { wanted, material, provider, domain, hints }
    }

    fn roots(&self, now: UnixTime) -> Result<Arc<RootCertStore>, Error> {
        let roots = self.material.roots(UNIX_EPOCH + Duration::from_secs(now.as_secs()));
        if roots.is_empty() {
            return Err(refused("no CA of ours is valid now: renew the certificate in ca_file".to_owned()));
        }
        Ok(Arc::new(roots))
    }
}

impl<W> fmt::Debug for Trust<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Trust<Expected> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let roots = self.roots(now)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &roots,
            intermediates,
            now,
            algorithms,
        )?;
        if let Expected::ServerOf(datacenter) = &self.wanted {
            let is_it = |claim: &PeerIdentity| {
                claim.role == PeerRole::Server && identity::same(&claim.datacenter, datacenter.as_str())
            };
            if !identity::claims(end_entity, &self.domain).iter().any(is_it) {
                let name = identity::server_name(datacenter, &self.domain);
                return Err(refused(format!(
                    "the certificate does not carry the DNS name {name}: another node answers there, or its certificate \
                     was made for another role or datacenter"
                )));
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Trust<ClientAuth> {
    fn client_auth_mandatory(&self) -> bool {
        self.wanted != ClientAuth::Optional
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = WebPkiClientVerifier::builder_with_provider(self.roots(now)?, Arc::clone(&self.provider));
        let chain = chain.build().map_err(|error| refused(error.to_string()))?;
        let verified = chain.verify_client_cert(end_entity, intermediates, now)?;
        match self.wanted.objection(end_entity, &self.domain) {
            Some(why) => Err(refused(why)),
            None => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A refusal with a text of ours.
fn refused(why: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Objection(why)))))
}

/// Why a genuine certificate will not do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Objection(String);
