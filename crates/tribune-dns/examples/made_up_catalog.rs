//! Serves a made-up catalog, to try the DNS server alone and to measure it:
//!
//! ```text
//! cargo run --release -p tribune-dns --example made_up_catalog -- 127.0.0.1:8600 1000 10 2
//! dig @127.0.0.1 -p 8600 svc7.service.consul SRV
//! ```
//!
//! Arguments: address, number of services (`svc0`, `svc1`, …), instances of each, UDP sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tribune_core::dns::{Name, Zone};
use tribune_core::{
    Authority, Command, Datacenter, Index, InstanceId, Node, NodeName, Pairs, Registration, ServiceInstance,
    ServiceName, State, Weights,
};
use tribune_dns::{Config, LiveConfig, NoOtherDatacenters, Sockets, Source, Sources, serve};

struct Catalog {
    state: Arc<State>,
    authority: Arc<Authority>,
}

impl Source for Catalog {
    fn state(&self) -> Arc<State> {
        self.state.clone()
    }

    fn authority(&self) -> Arc<Authority> {
        self.authority.clone()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:8600").parse()?;
    let mut number = |default: &str| arguments.next().as_deref().unwrap_or(default).parse::<u32>();
    let (services, instances, sockets) = (number("10")?, number("10")?, number("2")?);
    let catalog = Catalog {
        state: Arc::new(made_up(services, instances)?),
        authority: Arc::new(Authority::unrestricted()),
    };
    let domain = Name::parse("consul").ok_or("the domain is not a domain name")?;
    let config = LiveConfig::new(Config::new(Zone::new(domain, Datacenter::new("dc1")?)));
    let sources =
        Sources { own: tribune_dns::Own::Held(Arc::new(catalog)), remote: Arc::new(NoOtherDatacenters) };
    let shutdown = CancellationToken::new();
    let sockets = vec![Sockets::bind(address, sockets as usize)?];
    let server = tokio::spawn(serve(sockets, sources, config, shutdown.clone()));
    println!("{services} services with {instances} instances each on {address}; ctrl-c ends it");
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    Ok(server.await??)
}

fn made_up(services: u32, instances: u32) -> Result<State, Box<dyn std::error::Error>> {
    let mut state = State::default();
    for service in 0..services {
        for instance in 0..instances {
            let serial = u64::from(service) * u64::from(instances) + u64::from(instance);
            let address = std::net::Ipv4Addr::from_bits(0x0a00_0001 + serial as u32);
            let node = Node {
                name: NodeName::new(format!("node{serial}"))?,
                id: Default::default(),
                address: address.to_string().into(),
                tagged_addresses: Pairs::default(),
                meta: [("consul-network-segment".into(), "".into())].into_iter().collect(),
            };
            let service = ServiceInstance {
                id: InstanceId::new(format!("svc{service}-{instance}"))?,
                name: ServiceName::new(format!("svc{service}"))?,
                tags: Box::default(),
                address: address.to_string().into(),
                tagged_addresses: Pairs::default(),
                meta: Pairs::default(),
                port: 8080,
                socket_path: Default::default(),
                weights: Weights::default(),
                enable_tag_override: false,
                connect_native: false,
            };
            let registration =
                Registration { node, skip_node_update: false, service: Some(service), checks: Vec::new() };
            state.apply(Index(serial + 1), &Command::Register(Box::new(registration)));
        }
    }
    Ok(state)
}
