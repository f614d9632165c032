//! How connections are secured: which certificates are shown to whom, and who has to show one.
//!
//! The older keys at the top of a file hold for everything. The `tls` block says the same by purpose and goes before
//! them: `tls.internal_rpc` and `tls.https` before `tls.defaults`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tribune_core::Datacenter;
use tribune_net::{ClientAuth, PeerRole, TlsFiles, TlsVersion};

use super::reading::Reading;
use crate::config::{Config, TlsProtocol};

/// From so long before a certificate ends, each start says so.
const EXPIRY_NEAR: Duration = Duration::from_secs(30 * 24 * 3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How connections are secured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates for traffic between nodes; `None` where no CA is named, and traffic between nodes is plain.
    pub files: Option<TlsFiles>,
    /// Certificates for HTTPS; `None` where there is none to show.
    pub https_files: Option<TlsFiles>,
    /// Whether other nodes must show a certificate.
    pub verify_incoming_rpc: bool,
    /// Whether clients of HTTPS must show a certificate.
    pub verify_incoming_https: bool,
}

impl Tls {
    /// Whether the other settings differ from these in nothing but which files there are to read.
    pub fn changes_files_only(&self, other: &Self) -> bool {
        let kind = |tls: &Self| {
            let purposes = [&tls.files, &tls.https_files];
            let shape = |files: &TlsFiles| (files.cert_file.is_some(), files.min_version);
            let shapes = purposes.map(|files| files.as_ref().map(shape));
            (shapes, tls.verify_incoming_rpc, tls.verify_incoming_https)
        };
        kind(self) == kind(other)
    }

    /// What the port between nodes asks of those who connect.
    pub fn rpc_auth(&self, datacenter: &Datacenter) -> ClientAuth {
        match self.verify_incoming_rpc {
            true => ClientAuth::Node(Some(datacenter.clone())),
            false => ClientAuth::Optional,
        }
    }

    /// What the HTTPS port asks of those who connect.
    pub fn https_auth(&self) -> ClientAuth {
        match self.verify_incoming_https {
            true => ClientAuth::Required,
            false => ClientAuth::None,
        }
    }
}

/// What the keys for one purpose say, the nearest first.
struct Purpose<'a> {
    section: &'static str,
    own: &'a TlsProtocol,
    defaults: &'a TlsProtocol,
    flat: &'a TlsProtocol,
}

impl Purpose<'_> {
    /// The value of a key and the path at which it was written.
    fn value<T>(&self, key: &str, read: impl Fn(&TlsProtocol) -> Option<T>) -> Option<(String, T)> {
        let own = read(self.own).map(|it| (format!("tls.{}.{key}", self.section), it));
        let defaults = || read(self.defaults).map(|it| (format!("tls.defaults.{key}"), it));
        own.or_else(defaults).or_else(|| read(self.flat).map(|it| (key.to_owned(), it)))
    }

    fn file(&self, key: &str, read: impl Fn(&TlsProtocol) -> Option<&String>) -> Option<(String, PathBuf)> {
        self.value(key, |it| read(it).filter(|path| !path.is_empty()).map(PathBuf::from))
    }
}

/// The files of one purpose, each with the path of the key that names it.
#[derive(Default)]
struct Named {
    ca_file: Option<(String, PathBuf)>,
    ca_path: Option<(String, PathBuf)>,
    cert_file: Option<(String, PathBuf)>,
    key_file: Option<(String, PathBuf)>,
    min_version: TlsVersion,
}

impl Named {
    fn of(purpose: &Purpose<'_>, min_version: TlsVersion) -> Self {
        Self {
            ca_file: purpose.file("ca_file", |it| it.ca_file.as_ref()),
            ca_path: purpose.file("ca_path", |it| it.ca_path.as_ref()),
            cert_file: purpose.file("cert_file", |it| it.cert_file.as_ref()),
            key_file: purpose.file("key_file", |it| it.key_file.as_ref()),
            min_version,
        }
    }

    fn files(&self) -> TlsFiles {
        let path = |named: &Option<(String, PathBuf)>| named.as_ref().map(|(_, path)| path.clone());
        TlsFiles {
            ca_file: path(&self.ca_file),
            ca_path: path(&self.ca_path),
            cert_file: path(&self.cert_file),
            key_file: path(&self.key_file),
            min_version: self.min_version,
        }
    }

    fn has_authority(&self) -> bool {
        self.ca_file.is_some() || self.ca_path.is_some()
    }

    fn has_certificate(&self) -> bool {
        self.cert_file.is_some() && self.key_file.is_some()
    }

    fn is_empty(&self) -> bool {
        !self.has_authority() && self.cert_file.is_none() && self.key_file.is_none()
    }

    /// Where the key of this name was written.
    fn path(&self, key: &'static str) -> String {
        let named = match key {
            "ca_file" => &self.ca_file,
            "ca_path" => &self.ca_path,
            "cert_file" => &self.cert_file,
            _ => &self.key_file,
        };
        named.as_ref().map_or_else(|| key.to_owned(), |(path, _)| path.clone())
    }
}

impl Reading<'_> {
    pub(super) fn tls(&mut self, datacenter: &Datacenter, serves_https: bool) -> Tls {
        let config = self.config;
        let flat = flat(config);
        let purpose = |section, own| Purpose { section, own, defaults: &config.tls.defaults, flat: &flat };
        let rpc = purpose("internal_rpc", &config.tls.internal_rpc);
        let https = purpose("https", &config.tls.https);
        let (rpc_files, https_files) = (self.named(&rpc), self.named(&https));
        let files = self.usable(&rpc_files, datacenter);
        let is_same = rpc_files.files() == https_files.files();
        let for_https = if is_same { files.clone() } else { self.usable(&https_files, datacenter) };

        let needs = |purpose: &Purpose<'_>, own: Option<bool>, own_key: &str| {
            let key = if own == Some(true) { own_key } else { "verify_incoming" };
            match purpose.value("verify_incoming", |it| it.verify_incoming) {
                Some((path, is_wanted)) if path.starts_with("tls.") => (path, is_wanted),
                flat => (key.to_owned(), flat.is_some_and(|(_, is_wanted)| is_wanted) || own == Some(true)),
            }
        };
        let (rpc_key, verify_incoming_rpc) = needs(&rpc, config.verify_incoming_rpc, "verify_incoming_rpc");
        let (https_key, verify_incoming_https) =
            needs(&https, config.verify_incoming_https, "verify_incoming_https");
        let hostname = rpc.value("verify_server_hostname", |it| it.verify_server_hostname);
        let outgoing = rpc.value("verify_outgoing", |it| it.verify_outgoing);

        // With a CA other nodes are always asked over TLS, and their names checked.
        for written in [outgoing, hostname] {
            if let (Some((path, true)), false) = (written, rpc_files.has_authority()) {
                self.refuse(
                    &path,
                    "needs a CA to judge servers by: set ca_file (`tribune tls ca create` makes one)",
                );
            }
        }
        if verify_incoming_rpc {
            self.judges(&rpc_key, &rpc_files);
        }
        if verify_incoming_https && serves_https && !(verify_incoming_rpc && is_same) {
            self.judges(&https_key, &https_files);
        }
        if serves_https && !https_files.has_certificate() {
            let why = "needs a certificate to show: set cert_file and key_file (`tribune tls cert create` makes them)";
            self.refuse("ports.https", why);
        }
        Tls {
            files: files.filter(|_| rpc_files.has_authority()),
            https_files: for_https.filter(|_| https_files.has_certificate()),
            verify_incoming_rpc,
            verify_incoming_https,
        }
    }

    /// Refuses to ask others for certificates without the means to judge them.
    fn judges(&mut self, key: &str, named: &Named) {
        if !named.has_authority() {
            self.refuse(
                key,
                "needs a CA to judge certificates by: set ca_file (`tribune tls ca create` makes one)",
            );
        } else if !named.has_certificate() {
            let why = "needs a certificate of this node: set cert_file and key_file (`tribune tls cert create` makes \
                       them)";
            self.refuse(key, why);
        }
    }

    fn named(&mut self, purpose: &Purpose<'_>) -> Named {
        let written = purpose.value("tls_min_version", |it| it.tls_min_version.clone());
        let min_version = written.map_or(TlsVersion::default(), |(path, text)| self.version(&path, &text));
        Named::of(purpose, min_version)
    }

    fn version(&mut self, path: &str, text: &str) -> TlsVersion {
        match text.to_lowercase().replace('_', ".").as_str() {
            "tls12" | "tlsv1.2" | "tls.auto" | "" => TlsVersion::V1_2,
            "tls13" | "tlsv1.3" => TlsVersion::V1_3,
            "tls10" | "tls11" | "tlsv1.0" | "tlsv1.1" => {
                self.warn(
                    path,
                    "asks for a version of TLS that is not secure; 1.2 is the oldest that is spoken",
                );
                TlsVersion::V1_2
            }
            _ => {
                self.refuse(path, &format!("must be \"TLSv1_2\" or \"TLSv1_3\", not {text:?}"));
                TlsVersion::V1_2
            }
        }
    }

    /// The files, if there are any and they can be used.
    fn usable(&mut self, named: &Named, datacenter: &Datacenter) -> Option<TlsFiles> {
        if named.is_empty() {
            return None;
        }
        let (files, domain) = (named.files(), self.config.domain.as_deref().unwrap_or("consul"));
        match tribune_net::Tls::load(&files, domain) {
            Ok(tls) => {
                self.doubt(named, &tls, datacenter);
                Some(files)
            }
            Err(error) => {
                let path = named.path(error.key);
                self.refuse(&path, &format!("{}: {}", error.path.display(), error.why));
                None
            }
        }
    }

    /// Says what others will object to.
    fn doubt(&mut self, named: &Named, tls: &tribune_net::Tls, datacenter: &Datacenter) {
        let Some((path, file)) = &named.cert_file else { return };
        let file = file.display();
        let left = tls.expiry().map(|expiry| expiry.duration_since(SystemTime::now()));
        match left {
            Some(Err(_)) => {
                self.warn(path, &format!("{file}: the certificate has ended; others will refuse it"));
            }
            Some(Ok(left)) if left < EXPIRY_NEAR => {
                let days = left.as_secs() / DAY.as_secs();
                self.warn(path, &format!("{file}: the certificate ends in {days} days; renew it and reload"));
            }
            _ => {}
        }
        let is_server = self.config.is_dev || self.config.server == Some(true);
        let identity = tls.identity(datacenter);
        let fits = identity.is_some_and(|identity| !is_server || identity.role == PeerRole::Server);
        if named.has_authority() && !fits {
            let (dc, domain) = (datacenter.as_str(), tls.domain());
            let role = if is_server { "server" } else { "client" };
            self.warn(
                path,
                &format!(
                    "{file}: the certificate does not carry the name {role}.{dc}.{domain}, so other nodes may refuse it; \
                     `tribune tls cert create -{role} -dc {dc}` makes one that does"
                ),
            );
        }
    }
}

/// The keys at the top of a file as one of the blocks.
fn flat(config: &Config) -> TlsProtocol {
    TlsProtocol {
        ca_file: config.ca_file.clone(),
        ca_path: config.ca_path.clone(),
        cert_file: config.cert_file.clone(),
        key_file: config.key_file.clone(),
        tls_min_version: config.tls_min_version.clone(),
        verify_incoming: config.verify_incoming,
        verify_outgoing: config.verify_outgoing,
        verify_server_hostname: config.verify_server_hostname,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tribune_net::authority::{self, CaRequest, CertificateRequest, Holder, Pem};

    use super::*;
    use crate::config::{Refused, Remark, Source, Sources};
    use crate::settings::Settings;

    fn resolve(text: &str) -> Result<(Tls, Vec<Remark>), Refused> {
        let files = vec![Source::Fragment(text.to_owned())];
        let (config, warnings) = Sources { files, is_dev: true, ..Sources::default() }.read().unwrap();
        assert_eq!(warnings, []);
        Settings::resolve(&config).map(|(settings, warnings)| (settings.tls, warnings))
    }

    fn refuse(text: &str, expected: &str) {
        let refused = resolve(text).unwrap_err().to_string();
        assert!(refused.contains(expected), "{text}: {refused}");
    }

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            let ca = authority::create_ca(&CaRequest::default()).unwrap();
            folder.put("ca", &ca);
            let of = |holder, dc: &str| {
                let dc = Datacenter::new(dc).unwrap();
                authority::issue(&ca, &CertificateRequest::new(holder, dc, "consul")).unwrap()
            };
            folder.put("server", &of(Holder::Server, "dc1"));
            folder.put("client", &of(Holder::Client, "dc1"));
            folder.put("other", &of(Holder::Server, "dc2"));
            folder
        }

        fn put(&self, name: &str, pem: &Pem) {
            fs::write(self.0.path().join(format!("{name}.pem")), &pem.certificate).unwrap();
            fs::write(self.0.path().join(format!("{name}-key.pem")), &pem.key).unwrap();
        }

        /// The text with `@` for the folder.
        fn text(&self, text: &str) -> String {
            text.replace('@', self.0.path().to_str().unwrap())
        }
    }

    const FLAT: &str = "ca_file = \"@/ca.pem\" cert_file = \"@/server.pem\" key_file = \"@/server-key.pem\" ";

    #[test]
    fn nothing_is_secured_unless_asked_for() {
        assert_eq!(resolve("").unwrap(), (Tls::default(), Vec::new()));
    }

    #[test]
    fn flat_keys_hold_for_everything() {
        let folder = Folder::new();
        let text =
            format!("{FLAT} verify_incoming = true verify_server_hostname = true ports {{ https = 0 }}");
        let (tls, warnings) = resolve(&folder.text(&text)).unwrap();
        assert_eq!(warnings, []);
        assert!(tls.verify_incoming_rpc && tls.verify_incoming_https);
        assert!(tls.files.is_some() && tls.files == tls.https_files);
        let dc1 = Datacenter::new("dc1").unwrap();
        assert_eq!(tls.rpc_auth(&dc1), ClientAuth::Node(Some(dc1.clone())));
        assert_eq!(tls.https_auth(), ClientAuth::Required);
        let (tls, _) = resolve(&folder.text(&format!("{FLAT} verify_incoming_rpc = true"))).unwrap();
        assert_eq!((tls.verify_incoming_rpc, tls.verify_incoming_https), (true, false));
    }

    #[test]
    fn the_block_goes_before_flat_keys_and_purposes_before_defaults() {
        let folder = Folder::new();
        let text = format!(
            "{FLAT} verify_incoming = true tls {{ defaults {{ verify_outgoing = true tls_min_version = \"TLSv1_3\" }} \
             https {{ verify_incoming = false cert_file = \"@/other.pem\" key_file = \"@/other-key.pem\" \
             tls_min_version = \"tls12\" }} }}"
        );
        let (tls, warnings) = resolve(&folder.text(&text)).unwrap();
        assert!(tls.verify_incoming_rpc && !tls.verify_incoming_https);
        let (files, https) = (tls.files.unwrap(), tls.https_files.unwrap());
        assert!(
            files.cert_file.unwrap().ends_with("server.pem")
                && https.cert_file.unwrap().ends_with("other.pem")
        );
        assert_eq!((files.min_version, https.min_version), (TlsVersion::V1_3, TlsVersion::V1_2));
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(warning.text.contains("does not carry the name server.dc1.consul"), "{warning}");
        assert!(warning.place.to_string().starts_with("-hcl:1:"), "{warning}");
    }

    #[test]
    fn a_server_that_would_show_a_certificate_of_a_client_agent_is_warned() {
        let folder = Folder::new();
        let text = "ca_file = \"@/ca.pem\" cert_file = \"@/client.pem\" key_file = \"@/client-key.pem\"";
        let (_, warnings) = resolve(&folder.text(text)).unwrap();
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(warning.text.contains("`tribune tls cert create -server -dc dc1`"), "{warning}");
    }

    #[test]
    fn a_certificate_alone_serves_https_only() {
        let folder = Folder::new();
        let alone = "ports { https = 8501 } cert_file = \"@/server.pem\" key_file = \"@/server-key.pem\"";
        let (tls, _) = resolve(&folder.text(alone)).unwrap();
        assert_eq!((tls.files.is_some(), tls.https_files.is_some()), (false, true));
        assert_eq!(tls.https_auth(), ClientAuth::None);
    }

    #[test]
    fn what_cannot_work_is_refused_with_key_and_file() {
        let folder = Folder::new();
        let refuse = |text: &str, expected: &str| refuse(&folder.text(text), expected);
        refuse("cert_file = \"@/server.pem\"", "server.pem: needs its key: set key_file too");
        refuse("key_file = \"@/server-key.pem\"", "server-key.pem: needs its certificate: set cert_file too");
        refuse("\n ca_file = \"@/no.pem\"", "-hcl:2:2: ca_file ");
        refuse("ca_file = \"@/no.pem\"", "no.pem: cannot be read");
        refuse("tls { defaults { ca_file = \"@/no.pem\" } }", "tls.defaults.ca_file ");
        refuse("ca_file = \"@/ca-key.pem\"", "holds no certificate");
        refuse("ca_file = \"@/server.pem\"", "not one of a CA");
        refuse("ca_path = \"@/ca.pem\"", "ca_path ");
        let strangers = "cert_file = \"@/server.pem\" key_file = \"@/other-key.pem\"";
        refuse(strangers, "does not belong to the key in key_file");
        refuse("cert_file = \"@/server.pem\" key_file = \"@/other.pem\"", "holds no private key");
        refuse("verify_incoming = true", "verify_incoming needs a CA to judge certificates by");
        refuse(
            "verify_incoming = true ca_file = \"@/ca.pem\"",
            "verify_incoming needs a certificate of this node",
        );
        refuse("verify_incoming_rpc = true", "verify_incoming_rpc needs a CA");
        refuse(
            "tls { internal_rpc { verify_incoming = true } }",
            "tls.internal_rpc.verify_incoming needs a CA",
        );
        refuse("verify_outgoing = true", "verify_outgoing needs a CA to judge servers by");
        refuse("verify_server_hostname = true", "verify_server_hostname needs a CA");
        refuse("ports { https = 8501 }", "ports.https needs a certificate to show");
        refuse(
            "tls_min_version = \"ssl3\"",
            "tls_min_version must be \"TLSv1_2\" or \"TLSv1_3\", not \"ssl3\"",
        );
    }

    #[test]
    fn old_versions_are_warned_about_and_not_spoken() {
        let (_, warnings) = resolve("tls_min_version = \"tls10\"").unwrap();
        assert!(warnings[0].text.contains("1.2 is the oldest that is spoken"), "{warnings:?}");
    }
}
