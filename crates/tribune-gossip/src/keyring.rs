//! The keys that packets are encrypted with: one primary, with which is written, and others, with which is only
//! read while a rotation is under way.
//!
//! Keys have 16, 24 or 32 bytes. The first and the last are keys of AES-GCM with 128 and 256 bits. The library
//! that encrypts knows no AES with 192 bits, so a key of 24 bytes is stretched by a hash to one of 256 bits: it
//! is as strong as it was, and all members do it alike.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_128_GCM, AES_256_GCM, LessSafeKey, UnboundKey};
use ring::digest::{SHA256, digest};

/// Most keys in a keyring. Every packet that no key opens costs one try per key.
const KEYS_MAX: usize = 16;

/// Largest keyring file that is read.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Why a key or a change of the keyring was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not base64.
    #[error("the key is not valid base64; `keygen` makes one")]
    NotBase64,
    /// The key has another length.
    #[error("key size must be 16, 24 or 32 bytes, not {0}; `keygen` makes one")]
    Length(usize),
    /// The key is not there.
    #[error("Requested key is not in the keyring")]
    Absent,
    /// The key is the one that is written with.
    #[error("Removing the primary key is not allowed; use another key first")]
    Primary,
    /// There are as many keys as there may be.
    #[error("the keyring holds {KEYS_MAX} keys already; remove one first")]
    Full,
    /// A keyring must hold a key.
    #[error("a keyring must hold at least one key")]
    Empty,
}

/// Why the file of a keyring could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyringFileError {
    /// Reading or writing failed.
    #[error("keyring file {path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file does not hold a list of keys.
    #[error(
        "keyring file {path} does not hold a list of keys ({reason}); restore it, or remove it to start from `encrypt`"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// One key.
#[derive(Clone)]
pub(crate) struct Key {
    text: String,
    cipher: LessSafeKey,
}

impl Key {
    fn parse(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| KeyError::NotBase64)?;
        let unbound = match bytes.len() {
            16 => UnboundKey::new(&AES_128_GCM, &bytes),
            24 => UnboundKey::new(&AES_256_GCM, stretched(&bytes).as_ref()),
            32 => UnboundKey::new(&AES_256_GCM, &bytes),
            other => return Err(KeyError::Length(other)),
        };
        let cipher = LessSafeKey::new(unbound.map_err(|_| KeyError::Length(bytes.len()))?);
        Ok(Self { text: STANDARD.encode(&bytes), cipher })
    }

    pub(crate) fn cipher(&self) -> &LessSafeKey {
        &self.cipher
    }
}

fn stretched(bytes: &[u8]) -> ring::digest::Digest {
    digest(&SHA256, &[b"tribune gossip key of 192 bits\n", bytes].concat())
}

/// The cipher follows from the text.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Key {}

/// Keys are secret: only a fingerprint is ever printed.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&fingerprint(&self.text))
    }
}

/// The keys of a pool. The first is the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// A keyring of one key in base64.
    pub fn new(primary: &str) -> Result<Self, KeyError> {
        Ok(Self { keys: vec![Key::parse(primary)?] })
    }

    /// A keyring of several keys; the first becomes the primary.
    pub fn from_keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyError> {
        let mut keys = keys.into_iter();
        let mut ring = Self::new(keys.next().ok_or(KeyError::Empty)?)?;
        for key in keys {
            ring.install(key)?;
        }
        Ok(ring)
    }

    /// The keys in base64, the primary first.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.text.as_str())
    }

    /// The key that is written with, in base64.
    pub fn primary(&self) -> &str {
        &self.keys[0].text
    }

    /// Whether the key is here.
    pub fn contains(&self, key: &str) -> bool {
        self.position(key).is_some()
    }

    /// Adds a key to read with. Says whether it was new.
    pub fn install(&mut self, key: &str) -> Result<bool, KeyError> {
        let key = Key::parse(key)?;
        if self.contains(&key.text) {
            return Ok(false);
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(KeyError::Full);
        }
        self.keys.push(key);
        Ok(true)
    }

    /// Makes a key the one that is written with.
    pub fn use_key(&mut self, key: &str) -> Result<(), KeyError> {
        let at = self.position(key).ok_or(KeyError::Absent)?;
        self.keys[..=at].rotate_right(1);
        Ok(())
    }

    /// Takes a key away. Says whether it was there.
    pub fn remove(&mut self, key: &str) -> Result<bool, KeyError> {
        match self.position(key) {
            None => Ok(false),
            Some(0) => Err(KeyError::Primary),
            Some(at) => {
                self.keys.remove(at);
                Ok(true)
            }
        }
    }

    /// Reads a keyring file: a JSON list of keys, the primary first. `None` when there is none.
    pub fn load(path: &Path) -> Result<Option<Self>, KeyringFileError> {
        let io = |reason| KeyringFileError::Io { path: path.to_owned(), reason };
        let damaged = |reason: String| KeyringFileError::Damaged { path: path.to_owned(), reason };
        match fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
            Ok(about) if about.len() > FILE_BYTES_MAX => return Err(damaged("it is too large".into())),
            Ok(_) => {}
        }
        let text = fs::read_to_string(path).map_err(io)?;
        let keys: Vec<String> = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let ring = Self::from_keys(keys.iter().map(String::as_str));
        ring.map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Writes the keyring file, readable for its owner only, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), KeyringFileError> {
        let keys: Vec<&str> = self.keys().collect();
        let text = serde_json::to_string_pretty(&keys).unwrap_or_default() + "\n";
        replace_file(path, text.as_bytes())
            .map_err(|reason| KeyringFileError::Io { path: path.to_owned(), reason })
    }

    pub(crate) fn ciphers(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// The key with this text, as [`keys`](Self::keys) gives it.
    pub(crate) fn key(&self, text: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.text == text)
    }

    pub(crate) fn writer(&self) -> &Key {
        &self.keys[0]
    }

    fn position(&self, key: &str) -> Option<usize> {
        let key = key.trim();
        self.keys.iter().position(|known| known.text == key)
    }
}

/// A short name for a key that gives nothing of it away.
pub(crate) fn fingerprint(key: &str) -> String {
    let digest = digest(&SHA256, key.trim().as_bytes());
    digest.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new random key of 32 bytes, for AES with 256 bits, in base64.
pub fn generate_key() -> String {
    STANDARD.encode(rand::random::<[u8; 32]>())
}

/// Puts a file in the place of another in one step, so that a crash leaves the old or the new one.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8, length: usize) -> String {
        STANDARD.encode(vec![byte; length])
    }

    #[test]
    fn keys_have_one_of_three_lengths() {
        for length in [16, 24, 32] {
            assert!(Keyring::new(&key(1, length)).is_ok(), "{length}");
        }
        assert_eq!(Keyring::new(&key(1, 15)).unwrap_err(), KeyError::Length(15));
        assert_eq!(Keyring::new("no base64!").unwrap_err(), KeyError::NotBase64);
        assert_eq!(Keyring::from_keys([]).unwrap_err(), KeyError::Empty);
    }

    #[test]
    fn generated_keys_are_keys_and_differ() {
        let (one, two) = (generate_key(), generate_key());
        assert!(Keyring::from_keys([one.as_str(), two.as_str()]).is_ok());
        assert_ne!(one, two);
    }

    #[test]
    fn a_rotation_step_by_step() {
        let (old, new) = (key(1, 16), key(2, 32));
        let mut ring = Keyring::new(&old).unwrap();
        assert_eq!(ring.use_key(&new), Err(KeyError::Absent));
        assert_eq!(ring.install(&new), Ok(true));
        assert_eq!(ring.install(&new), Ok(false));
        assert_eq!(ring.remove(&old), Err(KeyError::Primary));
        ring.use_key(&new).unwrap();
        assert_eq!(ring.keys().collect::<Vec<_>>(), [new.as_str(), old.as_str()]);
        assert_eq!(ring.remove(&old), Ok(true));
        assert_eq!(ring.remove(&old), Ok(false));
        assert_eq!(ring.primary(), new);
    }

    #[test]
    fn a_keyring_is_bounded() {
        let mut ring = Keyring::new(&key(0, 16)).unwrap();
        for byte in 1..KEYS_MAX as u8 {
            ring.install(&key(byte, 16)).unwrap();
        }
        assert_eq!(ring.install(&key(99, 16)), Err(KeyError::Full));
    }

    #[test]
    fn the_file_is_a_json_list_and_damage_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("serf/local.keyring");
        assert!(Keyring::load(&path).unwrap().is_none());
        let ring = Keyring::from_keys([key(1, 16).as_str(), key(2, 24).as_str()]).unwrap();
        ring.save(&path).unwrap();
        let again = Keyring::load(&path).unwrap().unwrap();
        assert_eq!(ring.keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
        for text in ["", "[]", "{}", "[\"abc\"]", "[1]"] {
            fs::write(&path, text).unwrap();
            let error = Keyring::load(&path).unwrap_err();
            assert!(matches!(error, KeyringFileError::Damaged { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn nothing_prints_a_key() {
        let secret = key(7, 32);
        let printed = format!("{:?}", Keyring::new(&secret).unwrap());
        assert!(!printed.contains(&secret[..8]) && printed.contains(&fingerprint(&secret)));
    }
}
