//! The server over real sockets, asked by hickory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use harness::{Client, PATIENCE, Server, config, question, receive_tcp, send_tcp, with_edns};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{RData, RecordType};
use tribune_core::Datacenter;
use tribune_core::dns::Subject;
use tribune_dns::{Found, NoOtherDatacenters, RateLimit, RemoteError, RemoteLookup};

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_records_come_with_addresses_over_udp_and_tcp() {
    let server = Server::start(config());
    server
        .client(|client| {
            let plain = client.udp(&question("web.service.consul.", RecordType::SRV));
            assert_eq!((plain.answers.len(), plain.additionals.len()), (3, 3));
            assert!(plain.metadata.authoritative && !plain.metadata.truncation);
            assert_eq!(plain.metadata.id, 4711);

            let asked = with_edns(question("web.service.consul.", RecordType::SRV), 4096);
            for answer in [client.udp(&asked), client.tcp(&asked)] {
                assert_eq!((answer.answers.len(), answer.additionals.len()), (10, 20));
                assert_eq!(answer.edns.as_ref().unwrap().max_payload(), 4096);
                let addresses: BTreeSet<_> = answer.additionals.iter().map(|record| &record.name).collect();
                for record in &answer.answers {
                    let RData::SRV(srv) = &record.data else { panic!("no SRV record") };
                    assert!(addresses.contains(&srv.target));
                    assert!((8001..=8010).contains(&srv.port));
                }
            }
        })
        .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_show_in_the_next_answer() {
    let server = Server::start(config());
    let ask = || server.client(|client| client.udp(&question("late.service.consul.", RecordType::A)));
    assert_eq!(code(&ask().await), ResponseCode::NXDomain);
    server.catalog.register("late", 1, "10.9.0.1");
    assert_eq!(ask().await.answers.len(), 1);
    server.catalog.register("late", 2, "10.9.0.2");
    assert_eq!(ask().await.answers.len(), 2);
    server.catalog.register("other", 1, "10.9.0.3");
    assert_eq!(ask().await.answers.len(), 2);

    let mut reloaded = config();
    reloaded.zone.udp_answer_limit = 1;
    server.config.replace(reloaded);
    assert_eq!(ask().await.answers.len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_letter_case_of_a_question_comes_back() {
    let server = Server::start(config());
    server
        .client(|client| {
            for name in ["wEb.SerVICE.coNSul.", "WEB.service.consul."] {
                let answer = client.udp(&question(name, RecordType::A));
                assert_eq!(answer.queries[0].name().to_ascii(), name);
                assert_eq!(answer.answers[0].name.to_ascii(), name);
            }
        })
        .await;
    server.stop().await;
}

/// What RFC 8906 asks of every server, case by case.
#[tokio::test(flavor = "multi_thread")]
async fn unusual_questions_get_the_answers_of_rfc_8906() {
    let server = Server::start(config());
    server
        .client(|client| {
            let unknown_type = client.udp(&question("web.service.consul.", RecordType::Unknown(1000)));
            assert_eq!((code(&unknown_type), unknown_type.answers.len()), (ResponseCode::NoError, 0));

            let mut flags = question("web.service.consul.", RecordType::A);
            flags.metadata.checking_disabled = true;
            flags.metadata.authentic_data = true;
            assert!(!client.udp(&flags).metadata.authentic_data);

            // The last reserved flag of the header.
            let mut reserved = question("web.service.consul.", RecordType::A).to_vec().unwrap();
            reserved[3] |= 0x40;
            let answer = client.exchange(&reserved);
            assert_eq!((answer[3] & 0x4f, answer[7]), (0, 3));

            let mut opcode = question("web.service.consul.", RecordType::A).to_vec().unwrap();
            for number in [1, 2, 4, 5, 15] {
                opcode[2] = opcode[2] & 0x87 | number << 3;
                let answer = client.exchange(&opcode);
                assert_eq!((answer[3] & 15, answer[2] >> 3 & 15), (4, number), "opcode {number}");
                assert_eq!(&answer[..2], &opcode[..2]);
                let header_only = client.exchange(&[&opcode[..4], &[0; 8]].concat());
                assert_eq!(header_only[3] & 15, 4);
            }

            let mut version = with_edns(question("web.service.consul.", RecordType::A), 1232);
            version.edns.as_mut().unwrap().set_version(100);
            let answer = client.udp(&version);
            // 16 means BADVERS here; hickory shows its other meaning.
            assert_eq!(u16::from(code(&answer)), 16);
            assert_eq!(answer.edns.as_ref().unwrap().version(), 0);

            let mut option = with_edns(question("web.service.consul.", RecordType::A), 1232);
            option.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Unknown(100, vec![1, 2, 3]));
            option.edns.as_mut().unwrap().flags_mut().z = 0x40;
            option.edns.as_mut().unwrap().set_dnssec_ok(true);
            let answer = client.udp(&option);
            let edns = answer.edns.as_ref().unwrap();
            assert_eq!(code(&answer), ResponseCode::NoError);
            assert!(edns.options().as_ref().is_empty() && edns.flags().z == 0 && !edns.flags().dnssec_ok);

            let transfer = client.tcp(&question("consul.", RecordType::AXFR));
            assert_eq!(code(&transfer), ResponseCode::NotImp);
            let foreign = client.udp(&question("www.example.com.", RecordType::A));
            assert_eq!(code(&foreign), ResponseCode::Refused);
            assert!(!foreign.metadata.recursion_available);
        })
        .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_packets_get_formerr_or_silence_and_nobody_is_hurt() {
    let server = Server::start(config());
    server
        .client(|client| {
            let good = question("web.service.consul.", RecordType::A).to_vec().unwrap();
            let formerr = |packet: &[u8]| {
                let answer = client.exchange(packet);
                assert_eq!((answer[3] & 15, answer.len()), (1, 12), "{packet:?}");
            };
            for length in 12..good.len() {
                formerr(&good[..length]);
            }
            let with = |at: usize, byte: u8| {
                let mut packet = good.clone();
                packet[at] = byte;
                packet
            };
            formerr(&with(5, 0));
            formerr(&with(5, 2));
            formerr(&with(4, 255));
            formerr(&with(7, 1));
            formerr(&with(11, 255));
            formerr(&with(12, 0xc0));
            formerr(&with(12, 64));
            // A pointer to itself.
            let mut looped = with(12, 0xc0);
            looped[13] = 12;
            formerr(&looped);

            // Answers, and what is shorter than a header, get nothing; the next question shows that it is alive.
            client.socket.send(&with(2, 0x80)).unwrap();
            client.socket.send(&good[..11]).unwrap();
            client.socket.send(&[]).unwrap();
            assert_eq!(client.udp(&question("web.service.consul.", RecordType::A)).answers.len(), 3);
        })
        .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_concurrent_questions_never_mix() {
    let server = Server::start(config());
    for number in 1..=20 {
        server.catalog.register(&format!("svc{number}"), number, &format!("10.2.0.{number}"));
    }
    let address = server.address;
    let clients = (0..8u8).map(|offset| {
        tokio::task::spawn_blocking(move || {
            let client = Client::new(address);
            for round in 0..500u16 {
                let number = (round + u16::from(offset)) % 20 + 1;
                let mut asked = question(&format!("svc{number}.service.consul."), RecordType::A);
                asked.metadata.id = round;
                let answer = client.udp(&asked);
                assert_eq!(answer.metadata.id, round);
                assert_eq!(answer.queries, asked.queries);
                let expected = RData::A(Ipv4Addr::new(10, 2, 0, number as u8).into());
                assert_eq!(answer.answers.iter().map(|record| &record.data).collect::<Vec<_>>(), [&expected]);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_carries_many_questions_and_ends_when_silent() {
    let mut settings = config();
    settings.tcp_idle = Duration::from_millis(200);
    settings.tcp_connections_max = 1;
    let server = Server::start(settings);
    server
        .client(|client| {
            let connect = || {
                let stream = TcpStream::connect(client.server).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream
            };
            let mut stream = connect();
            let packet = question("web.service.consul.", RecordType::A).to_vec().unwrap();
            for _ in 0..3 {
                send_tcp(&mut stream, &packet);
            }
            for _ in 0..3 {
                assert_eq!(Message::from_vec(&receive_tcp(&mut stream).unwrap()).unwrap().answers.len(), 10);
            }
            // The only place is taken; a second connection is closed at once.
            assert!(receive_tcp(&mut connect()).is_err());
            // Half a message, then nothing: the server gives up.
            std::io::Write::write_all(&mut stream, &[0, 40, 1]).unwrap();
            assert!(receive_tcp(&mut stream).is_err());
        })
        .await;
    server.stop().await;
}

/// A recursor that answers every question with one address, after `lies` forged answers.
fn recursor(lies: usize, code: ResponseCode) -> (std::net::SocketAddr, std::thread::JoinHandle<()>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else { return };
        let asked = Message::from_vec(&buffer[..length]).unwrap();
        let mut answer = asked.clone();
        answer.metadata.message_type = hickory_proto::op::MessageType::Response;
        answer.metadata.recursion_available = true;
        answer.metadata.response_code = code;
        let name = asked.queries[0].name().clone();
        let data = RData::A(Ipv4Addr::new(192, 0, 2, 1).into());
        answer.answers.push(hickory_proto::rr::Record::from_rdata(name, 60, data));
        for _ in 0..lies {
            let mut lie = answer.clone();
            lie.metadata.id = lie.metadata.id.wrapping_add(1);
            socket.send_to(&lie.to_vec().unwrap(), peer).unwrap();
        }
        socket.send_to(&answer.to_vec().unwrap(), peer).unwrap();
    });
    (address, thread)
}

#[tokio::test(flavor = "multi_thread")]
async fn other_names_are_asked_of_the_recursors_in_turn() {
    let (failing, first) = recursor(0, ResponseCode::ServFail);
    let (working, second) = recursor(3, ResponseCode::NoError);
    let mut settings = config();
    settings.recursors = vec![failing, working];
    let server = Server::start(settings);
    let answer = server.client(|client| client.udp(&question("www.Example.com.", RecordType::A))).await;
    assert_eq!((answer.metadata.id, code(&answer)), (4711, ResponseCode::NoError));
    assert!(answer.metadata.recursion_available && !answer.metadata.authoritative);
    assert_eq!(answer.answers[0].ttl, 60);
    first.join().unwrap();
    second.join().unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_that_lead_outside_are_followed() {
    let (address, thread) = recursor(0, ResponseCode::NoError);
    let mut settings = config();
    settings.recursors = vec![address];
    let server = Server::start(settings);
    server.catalog.register("host", 1, "www.example.com");
    let answer = server.client(|client| client.udp(&question("host.service.consul.", RecordType::A))).await;
    assert_eq!(answer.answers.len(), 2);
    assert_eq!(answer.answers[1].name.to_ascii(), "www.example.com.");
    assert_eq!(answer.answers[1].ttl, 0);
    thread.join().unwrap();
    server.stop().await;
}

/// The client's socket is connected, so it takes nothing from another address.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_all_addresses_answers_from_the_one_that_was_asked() {
    // Some machines that run tests have no IPv6.
    let has_ipv6 = UdpSocket::bind("[::1]:0").is_ok();
    for (listens, asked) in [("0.0.0.0", "127.0.0.2"), ("::", "127.0.0.2"), ("::", "::1")] {
        if listens == "::" && !has_ipv6 {
            continue;
        }
        let (address, thread) = recursor(0, ResponseCode::NoError);
        let mut settings = config();
        settings.recursors = vec![address];
        let server = Server::start_on(listens.parse().unwrap(), settings, Arc::new(NoOtherDatacenters));
        let asked = (asked.parse::<IpAddr>().unwrap(), server.address.port());
        let answers = tokio::task::spawn_blocking(move || {
            let client = Client::new(asked.into());
            ["web.service.consul.", "www.example.com."].map(|name| client.udp(&question(name, RecordType::A)))
        });
        let [ours, forwarded] = answers.await.unwrap();
        assert_eq!((ours.answers.len(), forwarded.answers.len()), (3, 1));
        thread.join().unwrap();
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_recurses_for_strangers_or_when_recursors_are_silent() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut settings = config();
    settings.recursors = vec![silent.local_addr().unwrap()];
    settings.recursor_timeout = Duration::from_millis(50);
    let mut closed = settings.clone();
    closed.recursion_allowed.clear();
    let server = Server::start(settings);
    let ask = || server.client(|client| client.udp(&question("www.example.com.", RecordType::A)));
    let failed = ask().await;
    assert_eq!(code(&failed), ResponseCode::ServFail);
    assert!(failed.metadata.recursion_available);
    server.config.replace(closed);
    let refused = ask().await;
    assert_eq!(code(&refused), ResponseCode::Refused);
    assert!(!refused.metadata.recursion_available);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_are_limited_and_real_clients_told_to_use_tcp() {
    let mut settings = config();
    settings.rate_limit =
        RateLimit { answers_per_second: 5, slip: 2, exempt: Vec::new(), ..RateLimit::default() };
    let server = Server::start(settings);
    server
        .client(|client| {
            let packet = question("web.service.consul.", RecordType::A).to_vec().unwrap();
            client.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            for _ in 0..200 {
                client.socket.send(&packet).unwrap();
            }
            let (mut full, mut slipped, mut buffer) = (0, 0, [0; 4096]);
            while let Ok(length) = client.socket.recv(&mut buffer) {
                let answer = Message::from_vec(&buffer[..length]).unwrap();
                match answer.metadata.truncation {
                    true => slipped += 1,
                    false => full += answer.answers.len().min(1),
                }
                assert!(answer.metadata.truncation != (length > packet.len()));
            }
            // The flood may span two or three seconds of the clock.
            assert!((5..=15).contains(&full), "{full} full answers");
            assert!((80..=100).contains(&slipped), "{slipped} hints");
            assert_eq!(client.tcp(&question("web.service.consul.", RecordType::A)).answers.len(), 10);
        })
        .await;
    server.stop().await;
}

/// Knows the service `far` of dc2, and that dc3 is away.
struct Elsewhere;

#[async_trait::async_trait]
impl RemoteLookup for Elsewhere {
    async fn fetch(&self, datacenter: &Datacenter, subject: &Subject) -> Result<Found, RemoteError> {
        match datacenter.as_str() {
            "dc2" => {
                assert!(matches!(subject, Subject::Service { name, .. } if name == "far"));
                let catalog = harness::Catalog::default();
                catalog.register("far", 1, "10.7.0.1");
                Ok(Found::records(datacenter, tribune_dns::Source::state(&catalog)))
            }
            "dc3" => Err(RemoteError::Unreachable),
            _ => Err(RemoteError::Unknown),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_datacenters_are_asked_and_answered_for() {
    let server = Server::start_with(config(), Arc::new(Elsewhere));
    server
        .client(|client| {
            let answer = client.udp(&question("far.service.dc2.consul.", RecordType::SRV));
            let RData::SRV(srv) = &answer.answers[0].data else { panic!("no SRV record") };
            assert_eq!(srv.target.to_ascii(), "0a070001.addr.dc2.consul.");
            let away = client.udp(&question("far.service.dc3.consul.", RecordType::SRV));
            assert_eq!(code(&away), ResponseCode::ServFail);
            let unknown = client.udp(&question("far.service.dc4.consul.", RecordType::SRV));
            assert_eq!((code(&unknown), unknown.authorities.len()), (ResponseCode::NXDomain, 1));
        })
        .await;
    server.stop().await;
}
