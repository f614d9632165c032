//! Reading a prepared query.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Dns, Failover, PreparedQuery, Service, Template};
use crate::decode::{DecodeError, Object, parse};

const PEERS: &str = "cluster peering is not part of Tribune; name datacenters instead";
const SAMENESS: &str = "sameness groups are a Consul Enterprise feature";

impl PreparedQuery {
    /// Reads a request body.
    pub fn from_body(body: &[u8]) -> Result<Self, DecodeError> {
        let mut object = Object::new(parse(body)?)?;
        // What a client has read before may be sent back; the indexes in it mean nothing.
        for index in ["CreateIndex", "ModifyIndex"] {
            object.take(&[index])?;
        }
        let read = Self {
            id: object.text(&["ID"])?,
            name: object.text(&["Name"])?,
            session: object.text(&["Session"])?,
            token: object.text(&["Token"])?,
            template: object.nested(&["Template"], template)?.unwrap_or_default(),
            service: object.nested(&["Service"], service)?.unwrap_or_default(),
            dns: object.nested(&["DNS"], dns)?.unwrap_or_default(),
            create_index: 0,
            modify_index: 0,
        };
        object.finish()?;
        Ok(read)
    }
}

fn template(value: Value) -> Result<Template, DecodeError> {
    let mut object = Object::new(value)?;
    let read = Template {
        kind: object.text(&["Type"])?,
        regexp: object.text(&["Regexp"])?,
        remove_empty_tags: object.flag(&["RemoveEmptyTags"])?.unwrap_or(false),
    };
    object.finish()?;
    Ok(read)
}

fn service(value: Value) -> Result<Service, DecodeError> {
    let mut object = Object::new(value)?;
    object.refuse(&["Peer"], PEERS)?;
    object.refuse(&["SamenessGroup"], SAMENESS)?;
    object.refuse_enterprise()?;
    let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let pairs = |pairs: BTreeMap<String, String>| (!pairs.is_empty()).then_some(pairs);
    let read = Service {
        service: object.text(&["Service"])?,
        failover: object.nested(&["Failover"], failover)?.unwrap_or_default(),
        only_passing: object.flag(&["OnlyPassing"])?.unwrap_or(false),
        ignore_check_ids: list(object.texts(&["IgnoreCheckIDs"])?),
        near: object.text(&["Near"])?,
        tags: list(object.texts(&["Tags"])?),
        node_meta: pairs(object.pairs(&["NodeMeta"])?),
        service_meta: pairs(object.pairs(&["ServiceMeta"])?),
        connect: object.flag(&["Connect"])?.unwrap_or(false),
    };
    object.finish()?;
    Ok(read)
}

fn failover(value: Value) -> Result<Failover, DecodeError> {
    let mut object = Object::new(value)?;
    object.refuse(&["Targets"], PEERS)?;
    let datacenters = object.texts(&["Datacenters"])?;
    let read = Failover {
        nearest_n: object.integer(&["NearestN"], i64::MIN..=i64::MAX)?.unwrap_or(0),
        datacenters: (!datacenters.is_empty()).then_some(datacenters),
    };
    object.finish()?;
    Ok(read)
}

fn dns(value: Value) -> Result<Dns, DecodeError> {
    let mut object = Object::new(value)?;
    let read = Dns { ttl: object.text(&["TTL"])? };
    object.finish()?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Layout, to_vec};

    #[test]
    fn what_is_read_is_written_the_same() {
        let body = br#"{"ID":"1","Name":"q","Session":"","Token":"t",
            "Template":{"Type":"name_prefix_match","Regexp":"^(.*)$","RemoveEmptyTags":true},
            "Service":{"Service":"web","Failover":{"NearestN":2,"Datacenters":["dc2"]},"OnlyPassing":true,
            "IgnoreCheckIDs":["c"],"Near":"_agent","Tags":["a","!b"],"NodeMeta":{"r":"1"},"ServiceMeta":null,
            "Connect":false},"DNS":{"TTL":"10s"},"CreateIndex":7,"ModifyIndex":9}"#;
        let read = PreparedQuery::from_body(body).unwrap();
        let query = read.clone().into_query("ABC").unwrap();
        assert_eq!((query.id.as_str(), query.dns_ttl_span.as_secs()), ("abc", 10));
        assert_eq!(PreparedQuery { id: "1".into(), ..PreparedQuery::from(&query) }, read);
        let text = String::from_utf8(to_vec(&read, Layout::Compact).unwrap()).unwrap();
        assert!(
            text.contains(r#""Tags":["a","!b"],"NodeMeta":{"r":"1"},"ServiceMeta":null,"Connect":false}"#)
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_consuls_words() {
        for (body, text) in [
            (r#"{}"#, "Invalid prepared query: Must be bound to a session"),
            (r#"{"Name":"q"}"#, "Invalid prepared query: Must provide a Service name to query"),
            (
                r#"{"Name":"q","Service":{"Service":"w","Failover":{"NearestN":-1}}}"#,
                "Invalid prepared query: Bad NearestN '-1', must be >= 0",
            ),
            (
                r#"{"Name":"q","Service":{"Service":"w"},"DNS":{"TTL":"x"}}"#,
                "Invalid prepared query: Bad DNS TTL 'x': time: invalid duration \"x\"",
            ),
            (
                r#"{"Name":"q","Service":{"Service":"w"},"DNS":{"TTL":"-1s"}}"#,
                "Invalid prepared query: DNS TTL '-1000000000', must be >=0",
            ),
            (
                r#"{"Name":"q","Template":{"Type":"foo"},"Service":{"Service":"w"}}"#,
                "failed compiling template: Bad Template.Type 'foo'",
            ),
        ] {
            let read = PreparedQuery::from_body(body.as_bytes()).unwrap();
            let error = read.into_query("1").unwrap_err();
            assert_eq!((error.status, error.message.as_str()), (500, text));
        }
        let unknown = PreparedQuery::from_body(br#"{"Foo":1}"#).unwrap_err();
        assert_eq!(unknown.to_string(), "json: unknown field \"Foo\"");
    }
}
