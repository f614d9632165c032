//! How packets and frames are closed and opened: a version, which pool they are of, and — with a keyring —
//! AES-GCM around the rest.
//!
//! ```text
//! packet   version  mode  pool tag (4)             [nonce (12)]  body
//! request  version  mode  length (2)  pool name     nonce (12)   body
//! answer   version  mode  length (2)  pool name     nonce (12)   body     bound to the request's nonce
//! ```
//!
//! The pool (datacenter and kind) is authenticated with each of them, so nothing of one pool is taken in another
//! that has the same key. Frames name it in clear text, so that a refusal can name both datacenters.
//!
//! Replays. An answer is bound to the nonce of its request and opens for no other. Packets and requests may come
//! twice without harm by what they mean: probes are numbered and answered to the identity's own address only;
//! what they say of a member counts for one generation and incarnation of it, of which the highest wins; facts
//! carry a version; user events are recognised by Lamport time and id. Forgotten members could be called back by
//! an old packet, but are not shown until their facts are fetched from somebody who has them. Only changes of
//! the keyring are not idempotent in this way: they need a challenge that is good once (see `rotation.rs`).

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use ring::aead::{Aad, NONCE_LEN, Nonce};
use ring::rand::{SecureRandom, SystemRandom};
use tribune_core::Datacenter;

use crate::keyring::Keyring;

/// The version of everything on the wire.
const VERSION: u8 = 1;

/// Nothing is encrypted.
const PLAIN: u8 = 0;
/// The body is encrypted.
const SEALED: u8 = 1;
/// An answer that is only a reason, never encrypted: the other side may have no key of ours.
const REFUSAL: u8 = 2;

/// Bytes of the pool's tag in a packet.
const TAG_LEN: usize = 4;

/// Longest reason taken from an answer that is not authenticated.
const REASON_BYTES_MAX: usize = 1024;

const PACKET: u8 = b'p';
const REQUEST: u8 = b'q';
const ANSWER: u8 = b'a';

/// Which pool something belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    text: String,
    tag: [u8; TAG_LEN],
}

impl Label {
    /// The pool of a datacenter.
    pub(crate) fn lan(datacenter: &Datacenter) -> Self {
        Self::new(format!("lan {datacenter}"))
    }

    /// The pool of all servers.
    pub(crate) fn wan() -> Self {
        Self::new("wan".into())
    }

    fn new(text: String) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&digest.as_ref()[..TAG_LEN]);
        Self { text, tag }
    }
}

/// Why something that arrived was not taken. The text is for the other side and for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the message is cut off or not of this protocol")]
    Malformed,
    #[error("the message is of protocol version {0}; this agent speaks version {VERSION}")]
    Version(u8),
    #[error("{}", other_pool(.ours, .theirs))]
    OtherPool { ours: String, theirs: String },
    #[error("the packet is of another pool")]
    OtherTag,
    #[error(
        "this pool is encrypted and the message is not: configure `encrypt` with the pool's key on all agents"
    )]
    Plaintext,
    #[error("this pool is not encrypted and the message is: configure `encrypt` on all agents or on none")]
    Unexpected,
    #[error(
        "no key of the keyring opens the message: the gossip keys of the two agents differ, compare `encrypt` and `keyring -list`"
    )]
    Undecryptable,
    #[error("{0}")]
    Told(String),
}

impl Refusal {
    /// A short word for the metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Version(_) => "version",
            Self::OtherPool { .. } | Self::OtherTag => "other_pool",
            Self::Plaintext => "plaintext",
            Self::Unexpected => "unexpected_encryption",
            Self::Undecryptable => "undecryptable",
            Self::Told(_) => "told",
        }
    }
}

fn other_pool(ours: &str, theirs: &str) -> String {
    match (ours.strip_prefix("lan "), theirs.strip_prefix("lan ")) {
        (Some(ours), Some(theirs)) => format!(
            "datacenters differ: this agent is in datacenter '{ours}', the other in '{theirs}'; agents of one \
             datacenter join over LAN, servers of several over WAN (join -wan)"
        ),
        _ => format!("pools differ: this is the pool '{ours}', the message is of the pool '{theirs}'"),
    }
}

/// A request that was opened, and what its answer must be closed with.
pub(crate) struct Opened {
    pub(crate) body: Vec<u8>,
    pub(crate) envelope: Envelope,
}

/// What an answer is bound to.
pub(crate) struct Envelope {
    nonce: [u8; NONCE_LEN],
    /// Which key of the keyring opened the request; the answer is written with it, because a member that was
    /// away during a rotation knows no other.
    key: Option<String>,
    /// The key that opened the request is not the one that this node writes with.
    pub(crate) old_key: bool,
}

impl Envelope {
    /// Whether the request was encrypted.
    pub(crate) fn is_sealed(&self) -> bool {
        self.key.is_some()
    }
}

/// Closes and opens for one pool.
pub(crate) struct Seal {
    label: Label,
    keyring: ArcSwapOption<Keyring>,
    random: SystemRandom,
}

impl Seal {
    pub(crate) fn new(label: Label, keyring: Option<Keyring>) -> Self {
        Self { label, keyring: ArcSwapOption::new(keyring.map(Arc::new)), random: SystemRandom::new() }
    }

    pub(crate) fn keyring(&self) -> Option<Arc<Keyring>> {
        self.keyring.load_full()
    }

    pub(crate) fn set_keyring(&self, keyring: Keyring) {
        self.keyring.store(Some(Arc::new(keyring)));
    }

    /// Closes a packet.
    pub(crate) fn packet(&self, body: &[u8]) -> Bytes {
        let keyring = self.keyring.load();
        let mut out = Vec::with_capacity(body.len() + 40);
        out.extend([VERSION, if keyring.is_some() { SEALED } else { PLAIN }]);
        out.extend(self.label.tag);
        match keyring.as_ref() {
            None => out.extend(body),
            Some(keyring) => {
                let nonce = self.nonce();
                out.extend(nonce);
                let aad = self.associated(PACKET, &[]);
                out.extend(encrypt(keyring.writer(), nonce, &aad, body));
            }
        }
        out.into()
    }

    /// Opens a packet.
    pub(crate) fn open_packet(&self, packet: &[u8]) -> Result<Vec<u8>, Refusal> {
        let (&[version, mode], rest) = packet.split_first_chunk().ok_or(Refusal::Malformed)?;
        let (tag, rest) = rest.split_first_chunk::<TAG_LEN>().ok_or(Refusal::Malformed)?;
        self.admit(version, mode)?;
        if *tag != self.label.tag {
            return Err(Refusal::OtherTag);
        }
        if mode == PLAIN {
            return Ok(rest.to_vec());
        }
        let (nonce, rest) = rest.split_first_chunk().ok_or(Refusal::Malformed)?;
        let aad = self.associated(PACKET, &[]);
        Ok(decrypt(&*self.reader()?, *nonce, &aad, rest)?.0)
    }

    /// Closes a request; the nonce opens the answer.
    pub(crate) fn request(&self, body: &[u8]) -> (Bytes, [u8; NONCE_LEN]) {
        let keyring = self.keyring.load();
        let writer = keyring.as_ref().map(|ring| ring.writer());
        let nonce = self.nonce();
        (self.frame(REQUEST, writer, nonce, &[], body), nonce)
    }

    /// Opens a request.
    pub(crate) fn open_request(&self, frame: &[u8]) -> Result<Opened, Refusal> {
        let parts = self.parts(frame)?;
        self.admit(VERSION, parts.mode)?;
        let mut envelope = Envelope { nonce: parts.nonce, key: None, old_key: false };
        if parts.mode == PLAIN {
            return Ok(Opened { body: parts.body.to_vec(), envelope });
        }
        let aad = self.associated(REQUEST, &[]);
        let keyring = self.reader()?;
        let (body, at) = decrypt(&keyring, parts.nonce, &aad, parts.body)?;
        envelope.old_key = at > 0;
        envelope.key = keyring.keys().nth(at).map(str::to_owned);
        Ok(Opened { body, envelope })
    }

    /// Closes the answer to a request. When the key of the request was removed in the meantime there is nothing
    /// left that the other side can surely open, and in clear text the answer never goes.
    pub(crate) fn answer(&self, envelope: &Envelope, body: &[u8]) -> Bytes {
        let Some(wanted) = envelope.key.as_deref() else {
            return self.frame(ANSWER, None, self.nonce(), &envelope.nonce, body);
        };
        let keyring = self.keyring.load();
        let key = keyring.as_ref().and_then(|ring| ring.key(wanted));
        match key {
            Some(key) => self.frame(ANSWER, Some(key), self.nonce(), &envelope.nonce, body),
            None => self.refuse(&Refusal::Undecryptable),
        }
    }

    /// The answer to a request that was not taken: a reason in clear text.
    pub(crate) fn refuse(&self, refusal: &Refusal) -> Bytes {
        let reason = self.told_to_other(refusal);
        let mut out = vec![VERSION, REFUSAL];
        out.extend((self.label.text.len() as u16).to_be_bytes());
        out.extend(self.label.text.as_bytes());
        out.extend([0; NONCE_LEN]);
        out.extend(reason.as_bytes());
        out.into()
    }

    /// Opens the answer to the request with this nonce.
    pub(crate) fn open_answer(&self, request: [u8; NONCE_LEN], frame: &[u8]) -> Result<Vec<u8>, Refusal> {
        if let [VERSION, REFUSAL, ..] = frame {
            return Err(Refusal::Told(reason_of(frame)));
        }
        let parts = self.parts(frame)?;
        self.admit(VERSION, parts.mode)?;
        if parts.mode == PLAIN {
            return Ok(parts.body.to_vec());
        }
        let aad = self.associated(ANSWER, &request);
        Ok(decrypt(&*self.reader()?, parts.nonce, &aad, parts.body)?.0)
    }

    /// Whether what arrived is encrypted as it must be.
    fn admit(&self, version: u8, mode: u8) -> Result<(), Refusal> {
        if version != VERSION {
            return Err(Refusal::Version(version));
        }
        let encrypted = self.keyring.load().is_some();
        match mode {
            PLAIN if encrypted => Err(Refusal::Plaintext),
            PLAIN => Ok(()),
            SEALED if encrypted => Ok(()),
            SEALED => Err(Refusal::Unexpected),
            _ => Err(Refusal::Malformed),
        }
    }

    fn parts<'a>(&self, frame: &'a [u8]) -> Result<Parts<'a>, Refusal> {
        let (&[version, mode, high, low], rest) = frame.split_first_chunk().ok_or(Refusal::Malformed)?;
        if version != VERSION {
            return Err(Refusal::Version(version));
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (label, rest) = rest.split_at_checked(length).ok_or(Refusal::Malformed)?;
        if label != self.label.text.as_bytes() {
            let theirs =
                String::from_utf8_lossy(label).chars().filter(|c| !c.is_control()).take(256).collect();
            return Err(Refusal::OtherPool { ours: self.label.text.clone(), theirs });
        }
        let (nonce, body) = rest.split_first_chunk().ok_or(Refusal::Malformed)?;
        Ok(Parts { mode, nonce: *nonce, body })
    }

    fn frame(
        &self,
        kind: u8,
        key: Option<&crate::keyring::Key>,
        nonce: [u8; NONCE_LEN],
        bound: &[u8],
        body: &[u8],
    ) -> Bytes {
        let mut out = Vec::with_capacity(body.len() + self.label.text.len() + 40);
        out.extend([VERSION, if key.is_some() { SEALED } else { PLAIN }]);
        out.extend((self.label.text.len() as u16).to_be_bytes());
        out.extend(self.label.text.as_bytes());
        out.extend(nonce);
        match key {
            None => out.extend(body),
            Some(key) => {
                let aad = self.associated(kind, bound);
                out.extend(encrypt(key, nonce, &aad, body));
            }
        }
        out.into()
    }

    /// What is authenticated beside the body.
    fn associated(&self, kind: u8, bound: &[u8]) -> Vec<u8> {
        [&[VERSION, kind], self.label.text.as_bytes(), b"\n", bound].concat()
    }

    /// The reason as the other side should read it: what is "this" and "the other" is turned round.
    fn told_to_other(&self, refusal: &Refusal) -> String {
        match refusal {
            Refusal::OtherPool { ours, theirs } => other_pool(theirs, ours),
            other => other.to_string(),
        }
    }

    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        if self.random.fill(&mut nonce).is_err() {
            // A nonce that comes twice gives the key away, so nothing may be sent. The system's source fails
            // only where it does not exist.
            panic!("the system gives no random numbers; gossip cannot be encrypted");
        }
        nonce
    }

    /// The keyring to open something with.
    fn reader(&self) -> Result<Arc<Keyring>, Refusal> {
        self.keyring().ok_or(Refusal::Unexpected)
    }
}

struct Parts<'a> {
    mode: u8,
    nonce: [u8; NONCE_LEN],
    body: &'a [u8],
}

/// The reason in an answer that is not authenticated: shortened, and nothing that could disturb a terminal.
fn reason_of(frame: &[u8]) -> String {
    let length = frame.get(2..4).map_or(0, |it| usize::from(u16::from_be_bytes([it[0], it[1]])));
    let reason = frame.get(4 + length + NONCE_LEN..).unwrap_or_default();
    let reason = &reason[..reason.len().min(REASON_BYTES_MAX)];
    String::from_utf8_lossy(reason).chars().filter(|c| !c.is_control()).collect()
}

fn encrypt(key: &crate::keyring::Key, nonce: [u8; NONCE_LEN], aad: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = body.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    // Fails only for bodies of 64 GiB.
    if key.cipher().seal_in_place_append_tag(nonce, Aad::from(aad), &mut out).is_err() {
        out.clear();
    }
    out
}

/// Opens a body. Says at which place of the keyring its key is.
fn decrypt(
    keyring: &Keyring,
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    body: &[u8],
) -> Result<(Vec<u8>, usize), Refusal> {
    for (at, key) in keyring.ciphers().enumerate() {
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        if let Ok(clear) = key.cipher().open_in_place(nonce, Aad::from(aad), &mut body) {
            let length = clear.len();
            body.truncate(length);
            return Ok((body, at));
        }
    }
    Err(Refusal::Undecryptable)
}

#[cfg(test)]
mod tests;
