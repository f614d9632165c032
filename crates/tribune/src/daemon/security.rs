//! The certificates of a node, and what becomes encrypted by them.

use std::net::IpAddr;
use std::time::SystemTime;

use tracing::warn;
use tribune_core::Datacenter;
use tribune_net::{Acceptor, ClientAuth, Dialer, Pace, Tls, TlsError, TlsFiles};

use crate::settings::{self, Settings};

/// What the warning of a node without certificates names.
const HOW_TO: &str =
    "set ca_file, cert_file and key_file (`tribune tls ca create`, `tribune tls cert create`)";

/// The certificates. Clones share them.
#[derive(Clone)]
pub(crate) struct Security {
    /// Traffic between nodes; `None` leaves it readable.
    rpc: Option<Tls>,
    /// HTTPS.
    https: Option<Tls>,
    /// What is asked of nodes that connect.
    auth: ClientAuth,
    https_auth: ClientAuth,
    /// Addresses of this node that calls leave from, where it listens on one only.
    source: Option<IpAddr>,
    wan_source: Option<IpAddr>,
}

impl Security {
    /// Reads all files.
    pub(crate) fn load(settings: &Settings) -> Result<Self, TlsError> {
        let load = |files: &Option<TlsFiles>| {
            files.as_ref().map(|files| Tls::load(files, &settings.dns.domain)).transpose()
        };
        let rpc = load(&settings.tls.files)?;
        Ok(Self {
            https: load(&settings.tls.https_files)?,
            auth: settings.tls.rpc_auth(&settings.datacenter),
            https_auth: settings.tls.https_auth(),
            source: specific(settings.network.rpc.ip()),
            wan_source: settings.network.wan.and_then(|wan| specific(wan.ip())),
            rpc,
        })
    }

    /// Whether other nodes are talked to over TLS.
    pub(crate) fn uses_tls(&self) -> bool {
        self.rpc.is_some()
    }

    /// Whether this node can show a certificate to other datacenters and judge theirs.
    pub(crate) fn federates(&self) -> bool {
        self.rpc.as_ref().is_some_and(|tls| tls.has_certificate() && tls.has_authority())
    }

    /// Says once what is not protected.
    pub(super) fn warn(&self, is_dev: bool) {
        if is_dev || self.rpc.is_some() {
            return;
        }
        warn!(
            "traffic between nodes is not encrypted and everybody who reaches their ports counts as one; {HOW_TO}"
        );
    }

    /// Calls to servers of this datacenter.
    pub(super) fn dialer(&self) -> Dialer {
        let dialer = match &self.rpc {
            Some(tls) => Dialer::tls(tls.clone(), true),
            None => Dialer::plain(),
        };
        dialer.with_pace(Pace { source: self.source, ..Pace::default() })
    }

    /// Calls to servers of other datacenters; `None` without certificates.
    pub(super) fn wan(&self) -> Option<Tls> {
        self.rpc.clone().filter(|_| self.federates())
    }

    /// Such calls, with certificates of the datacenter that is asked or, to addresses of which nothing is known
    /// yet, of any.
    pub(super) fn wan_dialer(&self, tls: Tls, is_known: bool) -> Dialer {
        Dialer::tls(tls, is_known).with_pace(Pace { source: self.wan_source, ..Pace::default() })
    }

    /// Takes calls of other nodes.
    pub(super) fn rpc_acceptor(&self, acceptor: Acceptor) -> Result<Acceptor, TlsError> {
        match &self.rpc {
            Some(tls) if tls.has_certificate() => acceptor.with_tls(tls.clone(), self.auth.clone()),
            _ => Ok(acceptor),
        }
    }

    /// Takes requests over HTTPS.
    pub(super) fn https_acceptor(&self, acceptor: Acceptor) -> Result<Acceptor, TlsError> {
        match &self.https {
            Some(tls) => acceptor.with_tls(tls.clone(), self.https_auth.clone()),
            None => Ok(acceptor),
        }
    }

    /// Reads the files again, which may be others than before; connections from then on use what is in them.
    pub(crate) fn reload(&self, settings: &settings::Tls) -> Result<(), TlsError> {
        for (tls, files) in [(&self.rpc, &settings.files), (&self.https, &settings.https_files)] {
            if let (Some(tls), Some(files)) = (tls, files) {
                tls.reload(files)?;
            }
        }
        Ok(())
    }

    /// When the certificate that is shown to other nodes ends.
    pub(crate) fn expiry(&self) -> Option<SystemTime> {
        self.rpc.as_ref().and_then(Tls::expiry)
    }

    /// What other datacenters have to show: a certificate of one of their servers.
    pub(super) fn wan_auth() -> ClientAuth {
        ClientAuth::Server(None::<Datacenter>)
    }
}

fn specific(ip: IpAddr) -> Option<IpAddr> {
    (!ip.is_unspecified()).then_some(ip)
}
