//! Throw-away certificates, right ones and wrong ones.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
};
use tribune_core::Datacenter;
use tribune_net::authority::{self, CaRequest, CertificateRequest, Holder, Pem};
use tribune_net::{Tls, TlsError};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn dc(name: &str) -> Datacenter {
    Datacenter::new(name).unwrap()
}

/// The CA of a federation, as the program makes it.
pub(crate) fn ca() -> Pem {
    authority::create_ca(&CaRequest::default()).unwrap()
}

/// A certificate as the program makes it.
pub(crate) fn issued(ca: &Pem, holder: Holder, datacenter: &str) -> Pem {
    authority::issue(ca, &CertificateRequest::new(holder, dc(datacenter), "consul")).unwrap()
}

pub(crate) fn server(ca: &Pem, datacenter: &str) -> Tls {
    tls(ca, &issued(ca, Holder::Server, datacenter))
}

pub(crate) fn tls(ca: &Pem, own: &Pem) -> Tls {
    loaded(ca, own).unwrap()
}

pub(crate) fn loaded(ca: &Pem, own: &Pem) -> Result<Tls, TlsError> {
    Tls::from_pem(&ca.certificate, Some(own), "consul")
}

/// A certificate that the program would not make.
pub(crate) struct Odd {
    pub(crate) params: CertificateParams,
}

impl Odd {
    /// One that would do, with these DNS names.
    pub(crate) fn named(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "odd");
        params.not_before = (SystemTime::now() - DAY).into();
        params.not_after = (SystemTime::now() + DAY).into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Self { params }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        change(&mut self.params);
        self
    }

    pub(crate) fn signed_by(self, issuer: &CertifiedIssuer<'_, KeyPair>) -> Pem {
        let key = KeyPair::generate().unwrap();
        let certificate = self.params.signed_by(&key, issuer).unwrap();
        Pem { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn self_signed(self) -> Pem {
        let key = KeyPair::generate().unwrap();
        let certificate = self.params.self_signed(&key).unwrap();
        Pem { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// Parameters of a CA.
pub(crate) fn ca_params(name: &str) -> CertificateParams {
    let mut params = Odd::named(&[]).params;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = Vec::new();
    params
}

pub(crate) fn confined_to(domains: &[&str]) -> NameConstraints {
    let permitted_subtrees = domains.iter().map(|it| GeneralSubtree::DnsName((*it).to_owned())).collect();
    NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() }
}

pub(crate) fn root(params: CertificateParams) -> CertifiedIssuer<'static, KeyPair> {
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}
