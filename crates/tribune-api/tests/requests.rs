//! Request bodies and configuration values: what is understood, and what is refused in which words.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tribune_api::agent::{CheckDefinition, CheckUpdate, Origin, ServiceDefinition};
use tribune_api::catalog::{Deregistration, Registration, TaggedAddress, Weights};
use tribune_api::convert::{LocalService, check_status};
use tribune_api::decode::DecodeReason;
use tribune_api::health::CheckRegistration;
use tribune_api::{ApiError, Layout};
use tribune_core::{CheckKind, CheckSpec, Command, Status, Target};

fn service(body: &str) -> Result<LocalService, ApiError> {
    LocalService::try_from(ServiceDefinition::from_body(body.as_bytes())?)
}

fn check(body: &str) -> Result<CheckSpec, ApiError> {
    CheckSpec::try_from(CheckDefinition::from_body(body.as_bytes())?)
}

fn register(body: &str) -> Result<Command, ApiError> {
    Command::try_from(Registration::from_body(body.as_bytes())?)
}

fn deregister(body: &str) -> Result<Command, ApiError> {
    Command::try_from(Deregistration::from_body(body.as_bytes())?)
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(read: fn(&str) -> Result<T, ApiError>, cases: &[(&str, &str)]) {
    for (body, message) in cases {
        let error = read(body).expect_err(body);
        assert_eq!((error.status, error.message.as_str()), (400, *message), "{body}");
    }
}

#[test]
fn malformed_bodies_are_refused_in_gos_words() {
    let cases = [
        ("", "Request decode failed: EOF"),
        (" \n", "Request decode failed: EOF"),
        ("{", "Request decode failed: unexpected EOF"),
        ("{\"Name\":\"x", "Request decode failed: unexpected EOF"),
        ("nope", "Request decode failed: json: expected ident at line 1 column 2"),
        ("[]", "Request decode failed: json: cannot unmarshal array into the top level of type object"),
        ("\"abc\"", "Request decode failed: json: cannot unmarshal string into the top level of type object"),
        (r#"{"Name":"x","xyz":1}"#, "Request decode failed: json: unknown field \"xyz\""),
        (r#"{"Name":"x","Check":{"foo":1}}"#, "Request decode failed: json: unknown field \"foo\""),
        (r#"{"Name":"x","Weights":{"foo":1}}"#, "Request decode failed: json: unknown field \"foo\""),
        (r#"{"Name":5}"#, "Request decode failed: json: cannot unmarshal number into Name of type string"),
        (
            r#"{"Name":"x","Port":"80"}"#,
            "Request decode failed: json: cannot unmarshal string into Port of type int",
        ),
        (
            r#"{"Name":"x","Port":1.5}"#,
            "Request decode failed: json: cannot unmarshal number into Port of type int",
        ),
        (
            r#"{"Name":"x","Port":65536}"#,
            "Request decode failed: json: 65536 is out of range for Port: it must be between 0 and 65535",
        ),
        (
            r#"{"Name":"x","Tags":"a"}"#,
            "Request decode failed: json: cannot unmarshal string into Tags of type list",
        ),
        (
            r#"{"Name":"x","Tags":[1]}"#,
            "Request decode failed: json: cannot unmarshal number into Tags of type string",
        ),
        (
            r#"{"Name":"x","Meta":{"a":1}}"#,
            "Request decode failed: json: cannot unmarshal number into Meta of type string",
        ),
        (
            r#"{"Name":"x","Check":{"TTL":"10x"}}"#,
            "Request decode failed: time: unknown unit \"x\" in duration \"10x\"",
        ),
        (
            r#"{"Name":"x","Check":{"TTL":true}}"#,
            "Request decode failed: json: cannot unmarshal bool into Check.TTL of type duration",
        ),
        (
            r#"{"Name":"x","name":"y"}"#,
            "Request decode failed: json: Name is given more than once, in different letter case",
        ),
        (
            r#"{"Name":"x","Namespace":"foo"}"#,
            "Request decode failed: json: unknown field \"Namespace\" - Namespaces are a Consul Enterprise feature",
        ),
    ];
    assert_refused(service, &cases);
    let deep = "[".repeat(200);
    assert!(service(&deep).unwrap_err().message.contains("recursion limit exceeded"));
}

#[test]
fn services_are_refused_in_consuls_words() {
    let long = format!(r#"{{"Name":"x","Meta":{{"a":"{}"}}}}"#, "v".repeat(513));
    let many = format!(
        r#"{{"Name":"x","Meta":{}}}"#,
        json!((0..65).map(|n| (format!("k{n}"), "v")).collect::<BTreeMap<_, _>>())
    );
    let cases = [
        ("null", "Missing service name"),
        ("{}", "Missing service name"),
        (r#"{"Name":"x","Address":"0.0.0.0"}"#, "Invalid service address"),
        (r#"{"Name":"x","Address":"::"}"#, "Invalid service address"),
        (r#"{"Name":"x","Address":"[::]"}"#, "Invalid service address"),
        (
            r#"{"Name":"x","Weights":{"Passing":0,"Warning":0}}"#,
            "Invalid Weights: Passing must be greater than 0",
        ),
        (
            r#"{"Name":"x","Weights":{"Passing":1,"Warning":-1}}"#,
            "Invalid Weights: Warning must be greater or equal than 0",
        ),
        (
            r#"{"Name":"x","Weights":{"Passing":70000}}"#,
            "Invalid Weights: DNS Weight must be between 0 and 65535",
        ),
        (
            r#"{"Name":"x","Meta":{"a b":"c"}}"#,
            "Invalid Service Meta: Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters",
        ),
        (
            r#"{"Name":"x","Meta":{"":"c"}}"#,
            "Invalid Service Meta: Couldn't load metadata pair ('', 'c'): Key cannot be blank",
        ),
        (
            r#"{"Name":"x","Meta":{"consul-x":"c"}}"#,
            "Invalid Service Meta: Couldn't load metadata pair ('consul-x', 'c'): Key prefix 'consul-' is reserved \
             for internal use",
        ),
        (&many, "Invalid Service Meta: Node metadata cannot contain more than 64 key/value pairs"),
    ];
    assert_refused(service, &cases);
    assert!(service(&long).unwrap_err().message.ends_with("Value is too long (limit: 512 characters)"));
}

#[test]
fn checks_of_services_and_the_mesh_are_refused_in_clear_words() {
    let cases = [
        (r#"{"Name":"x","Check":{"Name":"a"}}"#, "Invalid check: TTL must be > 0 for TTL checks"),
        (r#"{"Name":"x","Check":{"TTL":"-5s"}}"#, "Invalid check: TTL must be > 0 for TTL checks"),
        (r#"{"Name":"x","Check":{"Interval":"-5s"}}"#, "Invalid check: TTL must be > 0 for TTL checks"),
        (r#"{"Name":"x","Checks":[{"TTL":"10s"},{}]}"#, "Invalid check: TTL must be > 0 for TTL checks"),
        (
            r#"{"Name":"x","Check":{"HTTP":"http://x"}}"#,
            "Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks",
        ),
        (
            r#"{"Name":"x","Check":{"HTTP":"http://x","Interval":"10s","TTL":"5s"}}"#,
            "Invalid check: Interval and TTL cannot both be specified",
        ),
        (
            r#"{"Name":"x","Check":{"AliasService":"y","TTL":"5s"}}"#,
            "Invalid check: TTL must be not be set for Alias checks",
        ),
        (
            r#"{"Name":"x","Check":{"TTL":"10s","OutputMaxSize":-1}}"#,
            "Invalid check: MaxOutputMaxSize must be positive",
        ),
        (
            r#"{"Name":"x","Check":{"TTL":"10s","Status":"foo"}}"#,
            "Status for checks must 'passing', 'warning', 'critical'",
        ),
        (
            r#"{"Name":"x","Check":{"TTL":"10s","Token":"t"}}"#,
            "Request decode failed: json: unknown field \"Token\"",
        ),
        (
            r#"{"Name":"x","Kind":"connect-proxy"}"#,
            "Kind cannot be used: the service mesh is not part of Tribune; register the service without it",
        ),
        (
            r#"{"Name":"x","Proxy":{"DestinationServiceName":"y"}}"#,
            "Proxy cannot be used: the service mesh is not part of Tribune; register the service without it",
        ),
        (
            r#"{"Name":"x","Connect":{"SidecarService":{}}}"#,
            "Connect.SidecarService cannot be used: the service mesh is not part of Tribune; register the service \
             without it",
        ),
        (
            "{\"Name\":\"a\\u0007b\"}",
            "Invalid service name \"a\\u{7}b\": a name must not hold control characters",
        ),
    ];
    assert_refused(service, &cases);
}

#[test]
fn keys_match_in_any_case_and_in_both_spellings() {
    let read = service(
        r#"{"name":"x","ID":null,"PORT":7,"enable_tag_override":true,"connect":{"native":true},"proxy":{},"kind":"",
            "tagged_addresses":{"lan":{"address":"1.2.3.4","port":5}},"Namespace":"default","Partition":"",
            "Weights":{"passing":3,"warning":0},"Address":"192.0.2.9","Tags":["a","a"],
            "Check":{"http":"http://h","interval":"10s","header":{"A":["b"]},"tls_skip_verify":true,
                     "deregister_critical_service_after":"90m","success_before_passing":2}} and more"#,
    )
    .unwrap();
    let instance = read.instance;
    assert_eq!((instance.id.as_str(), instance.port, instance.connect_native), ("x", 7, true));
    assert!(instance.enable_tag_override);
    assert_eq!(instance.tags.len(), 2);
    assert_eq!(instance.weights, tribune_core::Weights { passing: 3, warning: 0 });
    let tagged: Vec<String> = instance
        .tagged_addresses
        .iter()
        .map(|(tag, it)| format!("{tag}={}:{}", it.address, it.port))
        .collect();
    assert_eq!(tagged, ["lan=1.2.3.4:5", "lan_ipv4=192.0.2.9:7", "wan_ipv4=192.0.2.9:7"]);
    let check = &read.checks[0];
    assert_eq!((check.id.as_str(), check.name.as_str()), ("service:x", "Service 'x' check"));
    assert_eq!(check.kind(), Ok(CheckKind::Http));
    assert_eq!(check.success_before_passing, 2);
    assert!(check.definition.tls_skip_verify);
    assert_eq!(check.definition.deregister_critical_service_after, Some(Duration::from_secs(5400)));
}

#[test]
fn a_key_given_twice_counts_in_its_last_form() {
    assert_eq!(service(r#"{"Name":"a","Name":"b"}"#).unwrap().instance.name.as_str(), "b");
}

#[test]
fn durations_are_texts_or_nanoseconds() {
    let ttl =
        |text: &str| check(&format!(r#"{{"Name":"c","TTL":{text}}}"#)).map(|check| check.definition.ttl);
    assert_eq!(ttl("\"1h30m\"").unwrap(), Some(Duration::from_secs(5400)));
    assert_eq!(ttl("15000000000").unwrap(), Some(Duration::from_secs(15)));
    assert_eq!(ttl("1.5e9").unwrap(), Some(Duration::from_millis(1500)));
    assert_eq!(ttl("\"-5s\"").unwrap_err().message, "Invalid check: TTL must be > 0 for TTL checks");
}

#[test]
fn checks_of_a_service_are_numbered_with_the_lone_one_first() {
    let read = service(
        r#"{"Name":"w","ID":"w1","Checks":[{"TTL":"1s"},{"CheckID":"own","TTL":"2s"}],"Check":{"TTL":"3s"}}"#,
    );
    let checks = read.unwrap().checks;
    let ids: Vec<_> =
        checks.iter().map(|check| (check.id.as_str(), check.definition.ttl.unwrap().as_secs())).collect();
    assert_eq!(ids, [("service:w1:1", 3), ("service:w1:2", 1), ("own", 2)]);
    let empty = service(r#"{"Name":"w","Check":{},"Checks":null}"#).unwrap();
    assert!(empty.checks.is_empty());
}

#[test]
fn checks_alone_are_refused_in_consuls_words() {
    let cases = [
        ("{}", "Missing check name"),
        (r#"{"ID":"c","TTL":"10s"}"#, "Missing check name"),
        (r#"{"Name":"c"}"#, "Invalid check: TTL must be > 0 for TTL checks"),
        (r#"{"Name":"c","TTL":"10s","Status":"bad"}"#, "Bad check status"),
        (
            r#"{"Name":"c","TTL":"10s","CheckID":"z"}"#,
            "Request decode failed: json: unknown field \"CheckID\"",
        ),
        (r#"{"Name":"c","Script":"x"}"#, "Request decode failed: json: unknown field \"Script\""),
        (
            r#"{"Name":"c","Host":{"Resource":"gpu"}}"#,
            "Invalid check: no host resource \"gpu\"; write \"cpu\", \"memory\" or \"disk\"",
        ),
    ];
    assert_refused(check, &cases);
    let read = check(r#"{"Name":"c","service_id":"w","args":["a","b"],"interval":"5s","slow_warning":"1s"}"#)
        .unwrap();
    assert_eq!(read.kind(), Ok(CheckKind::Script));
    assert_eq!(read.service_id.as_ref().map(|id| id.as_str()), Some("w"));
    assert_eq!(read.slow_warning, Some(Duration::from_secs(1)));
}

#[test]
fn catalog_registrations_are_refused_in_consuls_words() {
    let node = |rest: &str| format!(r#"{{"Node":"n","Address":"1.1.1.1",{rest}}}"#);
    let cases = [
        ("".to_owned(), "Request decode failed: EOF"),
        ("{}".to_owned(), "Must provide node"),
        (r#"{"Node":"n"}"#.to_owned(), "Must provide address if SkipNodeUpdate is not set"),
        (node(r#""ID":"bad""#), "Bad node ID: uuid string is wrong length"),
        (node(r#""ID":"aaaaaaaa-0000-4000-8000-00000000000x""#), "Bad node ID: uuid is improperly formatted"),
        (node(r#""Foo":1"#), "Request decode failed: json: unknown field \"Foo\""),
        (node(r#""node_meta":{}"#), "Request decode failed: json: unknown field \"node_meta\""),
        (node(r#""Service":{"ID":"x"}"#), "Must provide service name with ID"),
        (node(r#""Service":{}"#), "Must provide service name"),
        (node(r#""Service":{"Service":"s","Foo":1}"#), "Request decode failed: json: unknown field \"Foo\""),
        (node(r#""Service":{"Service":"s","Address":"0.0.0.0"}"#), "Invalid service address"),
        (
            node(r#""Service":{"Service":"s","Meta":{"a b":"c"}}"#),
            "Invalid Service Meta for node n and serviceID s: Couldn't load metadata pair ('a b', 'c'): Key contains \
             invalid characters",
        ),
        (node(r#""Check":{"Name":"c","Node":"other"}"#), "check node \"other\" does not match node \"n\""),
        (node(r#""Check":{"Name":"c","Status":"bogus"}"#), "Invalid check status: 'bogus'"),
        (node(r#""Check":{}"#), "Invalid check ID \"\": a name must not be empty"),
        (node(r#""Check":{"Name":"c","Foo":1}"#), "Request decode failed: json: unknown field \"Foo\""),
    ];
    for (body, message) in &cases {
        let error = register(body).expect_err(body);
        assert_eq!((error.status, error.message.as_str()), (400, *message), "{body}");
    }
}

#[test]
fn catalog_registrations_take_what_answers_show() {
    let command = register(
        r#"{"Datacenter":"dc1","ID":"AAAAAAAA-0000-4000-8000-00000000000F","Node":"n","Address":"h","SkipNodeUpdate":true,
            "TaggedAddresses":null,"NodeMeta":{"a b":"c"},
            "Service":{"Service":"s","Tags":null,"Meta":null,"Weights":{"Passing":0,"Warning":0},"Proxy":{"MeshGateway":{},
                       "Expose":{}},"Connect":{},"CreateIndex":5,"ModifyIndex":6},
            "Check":{"CheckID":"c1","Name":"c","Status":"passing","ServiceID":"s","ServiceName":"s","ServiceTags":[],
                     "Definition":{"Foo":1},"CreateIndex":1,"ModifyIndex":2},
            "Checks":[{"Name":"d","Node":"N"}]}"#,
    );
    let Ok(Command::Register(registration)) = command else { panic!("{command:?}") };
    assert!(registration.skip_node_update);
    assert_eq!(registration.node.id, "aaaaaaaa-0000-4000-8000-00000000000f");
    assert_eq!(registration.service.unwrap().weights, tribune_core::Weights::default());
    let checks: Vec<_> = registration.checks.iter().map(|check| (check.id.as_str(), check.status)).collect();
    assert_eq!(checks, [("c1", Status::Passing), ("d", Status::Critical)]);
    assert_eq!(registration.checks[0].definition, None);
}

#[test]
fn deregistrations_name_one_thing() {
    let target = |body: &str| match deregister(body) {
        Ok(Command::Deregister(found)) => found.target,
        other => panic!("{other:?}"),
    };
    assert_eq!(target(r#"{"Node":"n","Address":"ignored"}"#), Target::Node);
    assert!(matches!(target(r#"{"Node":"n","CheckID":"c"}"#), Target::Check(_)));
    assert!(matches!(target(r#"{"Node":"n","CheckID":"c","ServiceID":"s"}"#), Target::Instance(_)));
    assert_eq!(deregister("{}").unwrap_err().message, "Must provide node");
}

#[test]
fn updates_carry_a_status() {
    let update = CheckUpdate::from_body(br#"{"status":"warning","Output":"x"}"#).unwrap();
    assert_eq!(check_status(&update.status), Ok(Status::Warning));
    assert_eq!(check_status("foo").unwrap_err().message, "Invalid check status: 'foo'");
}

#[test]
fn files_repeat_blocks_and_hold_tokens() {
    let value = json!({
        "name": "web", "token": "t", "enableTagOverride": true,
        "check": [{"tcp": "h:1", "interval": "1s"}, {"ttl": "1s", "id": "b"}],
    });
    let read = LocalService::try_from(ServiceDefinition::decode(value, Origin::File).unwrap()).unwrap();
    assert_eq!((read.token.as_str(), read.checks.len()), ("t", 2));
    assert!(read.instance.enable_tag_override);
    let unknown = ServiceDefinition::decode(json!({"name": "web", "prot": 1}), Origin::File).unwrap_err();
    assert_eq!(unknown.path, "prot");
    let DecodeReason::UnknownField { known, .. } = unknown.reason else { panic!("{unknown}") };
    assert!(known.contains(&"Port"));
    let script = CheckDefinition::decode(json!({"name": "c", "script": "x"}), Origin::File).unwrap_err();
    assert!(script.to_string().contains("write `args`"), "{script}");
}

#[test]
fn what_clients_write_is_read_back() {
    let probe = tribune_core::CheckDefinition {
        http: "http://h".into(),
        header: [("A".into(), ["b".into()].into())].into_iter().collect(),
        interval: Some(Duration::from_millis(1500)),
        h2ping: "h:1".into(),
        output_max_size: Some(9),
        ttl: Some(Duration::from_secs(9)),
        ..Default::default()
    };
    let check = CheckDefinition {
        id: "c".to_owned(),
        probe: probe.clone(),
        failures_before_critical: 3,
        slow_critical: Some(Duration::from_secs(2)),
        ..Default::default()
    };
    let service = ServiceDefinition {
        name: "web".to_owned(),
        tags: vec!["a".to_owned()],
        tagged_addresses: BTreeMap::from([(
            "lan".to_owned(),
            TaggedAddress { address: "h".to_owned(), port: 1 },
        )]),
        weights: Some(Weights { passing: 2, warning: 0 }),
        checks: vec![check],
        connect_native: true,
        ..Default::default()
    };
    let body = tribune_api::json::to_vec(&service, Layout::Compact).unwrap();
    assert_eq!(ServiceDefinition::from_body(&body), Ok(service));
    let registration = Registration {
        node: "n".to_owned(),
        address: "h".to_owned(),
        checks: vec![CheckRegistration {
            name: "c".to_owned(),
            definition: Some(probe),
            ..Default::default()
        }],
        ..Default::default()
    };
    let body = tribune_api::json::to_vec(&registration, Layout::Compact).unwrap();
    assert_eq!(Registration::from_body(&body), Ok(registration));
}

proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = ServiceDefinition::from_body(&body);
        let _ = Registration::from_body(&body);
    }

    #[test]
    fn no_value_panics(text in r#"\{("(Name|Port|Check|Meta|Tags|Weights|TTL|Checks)":([0-9e.-]{1,6}|"[a-z0-9]{0,3}"|\[\]|\{\}|null),?){0,4}\}"#) {
        let _ = service(&text);
        let _ = check(&text);
        let _ = register(&text);
    }
}
