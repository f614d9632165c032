//! Clients that are slow, that stop half-way, and too many of them: others are served, nobody is dropped in
//! silence.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde_json::json;
use tribune_integration::{Answer, DnsProbe, Settings, TestNode, eventually};

use crate::LIMIT;

/// Clients that send half a request and then nothing.
const HALF_OPEN: usize = 150;
/// Connections of one client that the node of the flood test allows.
const ALLOWED: usize = 30;
/// Connections that it gets.
const FLOOD: usize = 90;

#[test]
fn slow_and_half_open_clients_do_not_hold_up_others() {
    let node = TestNode::start().unwrap();
    let beginnings: [&[u8]; 4] = [
        b"",
        b"GET /v1/agent/se",
        b"PUT /v1/agent/service/register HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"Name\": ",
        b"PUT /v1/catalog/register HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"No",
    ];
    let stuck: Vec<_> = (0..HALF_OPEN).map(|turn| opened(node.http(), beginnings[turn % 4])).collect();
    let slow_dns = opened(node.dns(), &[0, 30, 1]);
    for turn in 0..20 {
        node.put("/v1/agent/service/register", &json!({"Name": "web", "Port": turn})).unwrap();
        let answer = DnsProbe::new(node.dns()).ask("web.service.consul", RecordType::SRV).unwrap();
        assert_eq!(answer.answers.len(), 1);
        let over_tcp = DnsProbe::new(node.dns()).ask_tcp("web.service.consul", RecordType::SRV).unwrap();
        assert_eq!(over_tcp.answers.len(), 1);
    }
    // A request that is never finished must not be carried out.
    drop((stuck, slow_dns));
    let services = node.get("/v1/agent/services").unwrap().json().unwrap();
    assert_eq!(services.as_object().unwrap().len(), 1, "{services}");
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let configuration = json!({"limits": {"http_max_conns_per_client": ALLOWED}});
    let node = TestNode::start_with(Settings { configuration, ..Settings::default() }).unwrap();
    let mut flood: Vec<_> = (0..FLOOD).map(|_| opened(node.http(), b"")).collect();
    let told = flood.iter_mut().filter_map(read_refusal).count();
    assert!(told > 0, "none of {FLOOD} connections was told that {ALLOWED} are allowed");
    assert!(told <= FLOOD - ALLOWED + 2, "{told} of {FLOOD} were refused, {ALLOWED} are allowed");
    drop(flood);
    eventually("the flood is forgotten", LIMIT, || {
        Ok(node.get("/v1/status/leader").is_ok_and(|answer| answer.status == 200))
    })
    .unwrap();
}

#[test]
fn malformed_datagrams_get_an_error_or_silence_and_harm_nobody() {
    let node = TestNode::start().unwrap();
    node.put("/v1/agent/service/register", &json!({"Name": "web", "Port": 80})).unwrap();
    let probe = DnsProbe::new(node.dns());
    let good =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x07service\x06consul\x00\x00\x21\x00\x01";
    let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|length| good[..length].to_vec()).collect();
    // A label that points at itself, one that is too long, a count that lies, another opcode, an answer.
    bad.push(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01".to_vec());
    bad.push(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x7fweb\x00\x00\x01\x00\x01".to_vec());
    bad.push(b"\x12\x34\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\x03web\x00\x00\x01\x00\x01".to_vec());
    bad.push([&[0x12, 0x34, 0x78], &good[3..]].concat());
    bad.push([&[0x12, 0x34, 0x81], &good[3..]].concat());
    bad.push(vec![0xff; 60_000]);
    for bytes in &bad {
        let answer = probe.datagram(bytes, Duration::from_millis(20)).unwrap();
        if let Some(answer) = answer {
            assert!(answer.len() <= 512.max(bytes.len()), "{} bytes answer {}", answer.len(), bytes.len());
        }
    }
    let answer = probe.ask("web.service.consul", RecordType::SRV).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert_eq!(answer.answers.len(), 1);
}

fn opened(address: SocketAddr, beginning: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(beginning).unwrap();
    stream
}

/// What a refused connection is told without having asked; nothing for one that waits for its request.
fn read_refusal(stream: &mut TcpStream) -> Option<Answer> {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => None,
        _ => {
            let answer = Answer::parse(&received).expect("a refused connection is told why");
            assert_eq!(answer.status, 429);
            assert!(
                answer.text().contains("Your IP is issuing too many concurrent connections"),
                "{}",
                answer.text()
            );
            Some(answer)
        }
    }
}
