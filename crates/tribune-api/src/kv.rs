//! Bodies of `/v1/kv/…`: entries as they are written and as clients read them, and what a request may say about
//! a key.

use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tribune_core::{Blob, Index, KvChange, KvEntry, KvKey, KvPut, PutMode, SessionId, Stored};

use crate::error::ApiError;
use crate::json::Text;
use crate::params::Query;

/// Most bytes of one value unless the configuration says otherwise (`limits.kv_max_value_size`).
pub const VALUE_BYTES_MAX: usize = 512 * 1024;

/// Text of the answer to a session id that is none; clients of the API see it wherever one is looked up.
pub const BAD_SESSION_ID: &str = "failed session lookup: index error: UUID must be 36 characters";

/// Text of the answer when a key has to be named.
pub const MISSING_KEY: &str = "Missing key name";

/// An entry, written.
#[derive(Debug, Clone, Copy)]
pub struct KvJson<'a>(pub &'a Stored<KvEntry>);

impl Serialize for KvJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Stored { value: entry, created, modified } = self.0;
        let mut out = serializer.serialize_struct("DirEntry", 7)?;
        out.serialize_field("LockIndex", &entry.lock_index)?;
        out.serialize_field("Key", entry.key.as_str())?;
        out.serialize_field("Flags", &entry.flags)?;
        let value = (!entry.value.is_empty()).then_some(&entry.value);
        out.serialize_field(
            "Value",
            &value.map(|value| Text(Base64Display::new(value.as_bytes(), &STANDARD))),
        )?;
        if let Some(session) = &entry.session {
            out.serialize_field("Session", session.as_str())?;
        }
        out.serialize_field("CreateIndex", &created.0)?;
        out.serialize_field("ModifyIndex", &modified.0)?;
        out.end()
    }
}

/// An entry as clients read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct KvPair {
    /// The key.
    pub key: String,
    /// The value.
    #[serde(deserialize_with = "value")]
    pub value: Vec<u8>,
    /// A number that belongs to whoever uses the key.
    pub flags: u64,
    /// How often the key was locked.
    pub lock_index: u64,
    /// The session that holds the key, or empty.
    pub session: String,
    /// When it was created.
    pub create_index: u64,
    /// When it last changed.
    pub modify_index: u64,
}

/// Base64, or `null` for nothing.
fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    STANDARD.decode(text.unwrap_or_default()).map_err(serde::de::Error::custom)
}

/// The names of keys as `?keys` lists them: with a separator, names are cut after its first occurrence behind the
/// prefix, and each is told once. The names come in order, so equal ones stand side by side.
pub fn names<'a>(
    names: impl Iterator<Item = &'a str>,
    prefix: &'a str,
    separator: &'a str,
) -> impl Iterator<Item = &'a str> {
    let mut last: Option<&str> = None;
    names.filter_map(move |name| {
        let rest = name.get(prefix.len()..).unwrap_or_default();
        let at = if separator.is_empty() { None } else { rest.find(separator) };
        let cut = at.map_or(name, |at| &name[..prefix.len() + at + separator.len()]);
        (last.replace(cut) != Some(cut)).then_some(cut)
    })
}

/// Reads a key; there is none when the path ends before it.
pub fn key(text: &str) -> Result<KvKey, ApiError> {
    if text.is_empty() {
        return Err(ApiError::bad_request(MISSING_KEY));
    }
    KvKey::new(text).map_err(|why| ApiError::bad_request(format!("Invalid key: {why}")))
}

/// What a PUT asks for.
pub fn put(path: &str, query: &Query, body: &[u8]) -> Result<KvPut, ApiError> {
    let key = key(path)?;
    refuse_conflict(query, &["cas", "acquire", "release"])?;
    let flags = query.number("flags")?.unwrap_or(0);
    let mode = if let Some(index) = query.number("cas")? {
        PutMode::OnlyAt(Index(index))
    } else if let Some(id) = query.get("acquire") {
        PutMode::Acquire(session(id)?)
    } else if let Some(id) = query.get("release") {
        PutMode::Release(session(id)?)
    } else {
        PutMode::Always
    };
    Ok(KvPut { key, value: Blob::from(body), flags, mode })
}

/// What a DELETE asks for.
pub fn delete(path: &str, query: &Query) -> Result<KvChange, ApiError> {
    refuse_conflict(query, &["recurse", "cas"])?;
    if query.flag("recurse") {
        return Ok(KvChange::DeleteTree(path.into()));
    }
    let key = key(path)?;
    Ok(KvChange::Delete { key, only_at: query.number("cas")?.map(Index) })
}

/// Refuses a request that names more than one of these.
fn refuse_conflict(query: &Query, names: &[&str]) -> Result<(), ApiError> {
    if names.iter().filter(|name| query.flag(name)).count() < 2 {
        return Ok(());
    }
    Err(ApiError::bad_request(format!("Conflicting flags: {}\n", query.encoded())))
}

/// The session that a lock is asked for or given back with.
pub(crate) fn session(id: &str) -> Result<SessionId, ApiError> {
    if id.is_empty() {
        return Err(ApiError::server("missing session"));
    }
    SessionId::new(id).map_err(|_| ApiError::server(BAD_SESSION_ID))
}

/// A body beyond its limit, which the configuration sets under `setting`.
pub fn too_large(bytes: u64, bytes_max: usize, setting: &str) -> ApiError {
    ApiError::new(
        413,
        format!("Request body({bytes} bytes) too large, max size: {bytes_max} bytes. See {setting}."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Layout, to_vec};

    fn entry(value: &[u8], session: Option<&str>) -> Stored<KvEntry> {
        let session = session.map(|id| SessionId::new(id).unwrap());
        let key = KvKey::new("a/<b>").unwrap();
        let value = KvEntry { key, value: value.into(), flags: 7, lock_index: 1, session };
        Stored { value, created: Index(3), modified: Index(4) }
    }

    fn json(entry: &Stored<KvEntry>) -> String {
        String::from_utf8(to_vec(&KvJson(entry), Layout::Compact).unwrap()).unwrap()
    }

    #[test]
    fn entries_look_as_consul_writes_them() {
        assert_eq!(
            json(&entry(b"hello<", None)),
            r#"{"LockIndex":1,"Key":"a/\u003cb\u003e","Flags":7,"Value":"aGVsbG88","CreateIndex":3,"ModifyIndex":4}"#
        );
        let held = json(&entry(b"", Some("C0477FCC-d9d7-9872-067c-d1cbf7cf237c")));
        assert!(
            held.contains(r#""Value":null,"Session":"c0477fcc-d9d7-9872-067c-d1cbf7cf237c","CreateIndex""#)
        );
        let read: KvPair = serde_json::from_str(&held).unwrap();
        assert_eq!((read.value.len(), read.lock_index, read.flags), (0, 1, 7));
        let read: KvPair = serde_json::from_str(&json(&entry(&[0, 255], None))).unwrap();
        assert_eq!((read.value, read.session), (vec![0, 255], String::new()));
    }

    #[test]
    fn names_are_cut_after_the_separator_and_told_once() {
        let all = ["a", "a/", "a/b", "a/b/c", "a/b/d", "a/e", "ab/c"];
        let cut = |prefix: &'static str, separator: &'static str| -> Vec<&str> {
            let under = all.into_iter().filter(|name| name.starts_with(prefix));
            names(under, prefix, separator).collect()
        };
        assert_eq!(cut("", ""), all);
        assert_eq!(cut("", "/"), ["a", "a/", "ab/"]);
        assert_eq!(cut("a/", "/"), ["a/", "a/b", "a/b/", "a/e"]);
        assert_eq!(cut("a", "b/"), ["a", "a/", "a/b", "a/b/", "a/e", "ab/"]);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let query = |raw| Query::parse(raw).unwrap();
        let refused = |raw| put("k", &query(raw), b"").unwrap_err();
        assert_eq!(refused("release=a b&cas=1").message, "Conflicting flags: cas=1&release=a+b\n");
        assert_eq!(refused("flags=-1").message, "strconv.ParseUint: parsing \"-1\": invalid syntax");
        assert_eq!(
            refused("cas=18446744073709551616").message,
            "strconv.ParseUint: parsing \"18446744073709551616\": value out of range"
        );
        assert_eq!(refused("acquire=").message, "missing session");
        assert_eq!(refused("acquire=x").message, BAD_SESSION_ID);
        assert_eq!(put("", &query(""), b"").unwrap_err().message, MISSING_KEY);
        assert_eq!(delete("", &query("")).unwrap_err().message, MISSING_KEY);
        assert_eq!(delete("k", &query("recurse&cas=1")).unwrap_err().status, 400);
        assert_eq!(delete("", &query("recurse")).unwrap(), KvChange::DeleteTree("".into()));
    }
}
