//! As `single_node`, but with two instances, and found through DNS: what an application does that knows nothing
//! of this registry. The DNS server is expected at 127.0.0.1:8600; `TRIBUNE_DNS_ADDR` names another.

use std::time::Duration;

use anyhow::{Context, bail};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tribune_client::agent::ServiceDefinition;
use tribune_examples::connect;

/// Largest answer that comes without EDNS, in bytes.
const ANSWER_BYTES_MAX: usize = 512;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = connect().await?;
    let server = std::env::var("TRIBUNE_DNS_ADDR").unwrap_or_else(|_| "127.0.0.1:8600".into());

    for port in [9001, 9002] {
        let shop = ServiceDefinition {
            name: "shop".into(),
            id: format!("shop-{port}"),
            port,
            ..ServiceDefinition::default()
        };
        client.register(&shop).await?;
        println!("registered {} on port {port}", shop.id);
    }

    let resolved = resolve("_shop._tcp.service.consul.", &server).await;
    for port in [9001, 9002] {
        client.deregister(&format!("shop-{port}")).await?;
    }
    for (target, port) in resolved? {
        println!("DNS says: {target} port {port}");
    }
    Ok(())
}

/// Asks for the SRV records of `name`.
async fn resolve(name: &str, server: &str) -> anyhow::Result<Vec<(String, u16)>> {
    let mut question = Message::query();
    question.add_query(Query::query(Name::from_ascii(name)?, RecordType::SRV));
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(server).await?;
    socket.send(&question.to_vec()?).await?;
    let mut bytes = [0; ANSWER_BYTES_MAX];
    let length = timeout(Duration::from_secs(2), socket.recv(&mut bytes))
        .await
        .with_context(|| format!("no DNS server answers at {server}"))??;
    let answer = Message::from_vec(&bytes[..length])?;
    let mut found = Vec::new();
    for record in &answer.answers {
        if let RData::SRV(srv) = &record.data {
            found.push((srv.target.to_string(), srv.port));
        }
    }
    if found.is_empty() {
        bail!("{name} has no instances: {:?}", answer.metadata.response_code);
    }
    found.sort();
    Ok(found)
}
