//! Keys as watches show them: in the order of fields that Consul's Go client gives them, one key by itself.

use serde::Serialize;
use tribune_client::kv::KvPair;

/// How the answer to a question becomes a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// As the agent says it.
    AsItIs,
    /// One key, or `null`.
    Key,
    /// A list of keys, or `null` when there are none.
    Keys,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'a> {
    key: &'a str,
    create_index: u64,
    modify_index: u64,
    lock_index: u64,
    flags: u64,
    value: Option<String>,
    session: &'a str,
}

impl Shape {
    /// The view of an answer.
    pub(super) fn view(self, json: &str) -> anyhow::Result<String> {
        if self == Self::AsItIs {
            return Ok(json.to_owned());
        }
        let pairs: Vec<KvPair> = serde_json::from_str(json)?;
        let shown: Vec<Shown<'_>> = pairs.iter().map(Shown::from).collect();
        let shown = Some(shown).filter(|shown| !shown.is_empty());
        Ok(match self {
            Self::Key => serde_json::to_string(&shown.as_ref().and_then(|shown| shown.first()))?,
            Self::AsItIs | Self::Keys => serde_json::to_string(&shown)?,
        })
    }
}

impl<'a> From<&'a KvPair> for Shown<'a> {
    fn from(pair: &'a KvPair) -> Self {
        use base64::Engine as _;
        let value = base64::engine::general_purpose::STANDARD.encode(&pair.value);
        Self {
            key: &pair.key,
            create_index: pair.create_index,
            modify_index: pair.modify_index,
            lock_index: pair.lock_index,
            flags: pair.flags,
            value: Some(value).filter(|value| !value.is_empty()),
            session: &pair.session,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_fields_of_the_go_client() {
        let json =
            r#"[{"LockIndex":0,"Key":"q","Flags":0,"Value":"eA==","CreateIndex":188,"ModifyIndex":235}]"#;
        let one = r#"{"Key":"q","CreateIndex":188,"ModifyIndex":235,"LockIndex":0,"Flags":0,"Value":"eA==","Session":""}"#;
        assert_eq!(Shape::Key.view(json).unwrap(), one);
        assert_eq!(Shape::Keys.view(json).unwrap(), format!("[{one}]"));
        assert_eq!(Shape::Key.view("[]").unwrap(), "null");
        assert_eq!(Shape::Keys.view("[]").unwrap(), "null");
        assert_eq!(Shape::AsItIs.view("{ }").unwrap(), "{ }");
    }
}
