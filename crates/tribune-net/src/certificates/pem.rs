//! Certificates and keys from PEM files, and what is wrong with files that hold none.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// Largest file read: a bundle of all public authorities has a fifth of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Most files read from a folder of authorities.
const FILES_MAX: usize = 256;

/// Text in PEM form and where it came from.
pub(super) struct Pem {
    /// The key of the configuration that names it.
    pub(super) key: &'static str,
    /// The file, or a name for what came from none.
    pub(super) path: PathBuf,
    bytes: Vec<u8>,
}

impl Pem {
    pub(super) fn of_text(key: &'static str, text: &str) -> Self {
        Self { key, path: PathBuf::from("(in memory)"), bytes: text.as_bytes().to_vec() }
    }

    pub(super) fn read(key: &'static str, path: &Path) -> Result<Self, TlsError> {
        let refused = |error: &io::Error| TlsError::new(key, path, unreadable(error));
        let file = fs::File::open(path).map_err(|error| refused(&error))?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| refused(&error))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(TlsError::new(
                key,
                path,
                format!("is larger than {FILE_BYTES_MAX} bytes: name a PEM file"),
            ));
        }
        Ok(Self { key, path: path.to_owned(), bytes })
    }

    /// Every file of a folder, by name. Hidden ones are left out: folders that an orchestrator mounts hold hidden
    /// links to the same files.
    pub(super) fn read_folder(key: &'static str, folder: &Path) -> Result<Vec<Self>, TlsError> {
        let refused = |error: &io::Error| TlsError::new(key, folder, unreadable(error));
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| refused(&error))? {
            let path = entry.map_err(|error| refused(&error))?.path();
            let is_hidden =
                path.file_name().is_none_or(|name| name.as_encoded_bytes().first() == Some(&b'.'));
            if !is_hidden && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        if files.is_empty() {
            let why = "holds no file: put the certificate of each CA into it, or name one with ca_file";
            return Err(TlsError::new(key, folder, why));
        }
        if files.len() > FILES_MAX {
            let why = format!("holds more than {FILES_MAX} files: keep only certificates of CAs in it");
            return Err(TlsError::new(key, folder, why));
        }
        files.iter().map(|path| Self::read(key, path)).collect()
    }

    /// All certificates in it; at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match found {
            Ok(found) if found.is_empty() => {
                Err(self.wrong("holds no certificate: it must be PEM text with a BEGIN CERTIFICATE line"))
            }
            Ok(found) => Ok(found),
            Err(error) => Err(self.wrong(format!("is not whole PEM text: {error}"))),
        }
    }

    /// The private key in it.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|_| {
            let is_locked = String::from_utf8_lossy(&self.bytes).contains("ENCRYPTED");
            self.wrong(if is_locked {
                "holds a key that is locked with a passphrase: decrypt it, and let only the agent's user read it"
            } else {
                "holds no private key: it must be PEM text with a BEGIN PRIVATE KEY line"
            })
        })
    }

    pub(super) fn wrong(&self, why: impl Into<String>) -> TlsError {
        TlsError::new(self.key, &self.path, why)
    }
}

fn unreadable(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => {
            "make certificates with `tribune tls ca create` and `tribune tls cert create`, or \
                                    correct the path"
        }
        io::ErrorKind::PermissionDenied => "let the user the agent runs as read it",
        _ => "name a PEM file",
    };
    format!("cannot be read: {error}; {advice}")
}
