//! A DNS server on loopback over a made-up catalog, and a client that speaks to it through hickory.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio_util::sync::CancellationToken;
use tribune_core::dns::Zone;
use tribune_core::{
    Authority, Command, Datacenter, Index, InstanceId, Node, NodeName, Pairs, Registration, ServiceInstance,
    ServiceName, State, Weights,
};
use tribune_dns::{
    Config, LiveConfig, NoOtherDatacenters, Own, RemoteLookup, Sockets, Source, Sources, serve,
};

/// Longer than any answer takes, short enough for a failing test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A catalog that tests change at will.
#[derive(Default)]
pub(crate) struct Catalog(Mutex<Arc<State>>);

impl Catalog {
    /// Registers one instance on a node of its own.
    pub(crate) fn register(&self, service: &str, number: u8, address: &str) {
        let name = format!("{service}-{number}");
        let command = Command::Register(Box::new(Registration {
            node: Node {
                name: NodeName::new(name.as_str()).unwrap(),
                id: Default::default(),
                address: format!("10.0.0.{number}").into(),
                tagged_addresses: Pairs::default(),
                meta: [("consul-network-segment".into(), "".into())].into_iter().collect(),
            },
            skip_node_update: false,
            service: Some(ServiceInstance {
                id: InstanceId::new(name.as_str()).unwrap(),
                name: ServiceName::new(service).unwrap(),
                tags: Box::default(),
                address: address.into(),
                tagged_addresses: Pairs::default(),
                meta: Pairs::default(),
                port: 8000 + u16::from(number),
                socket_path: Default::default(),
                weights: Weights::default(),
                enable_tag_override: false,
                connect_native: false,
            }),
            checks: Vec::new(),
        }));
        let mut held = self.0.lock().unwrap();
        let mut state = State::clone(&held);
        state.apply(Index(state.index().0 + 1), &command);
        *held = Arc::new(state);
    }
}

impl Source for Catalog {
    fn state(&self) -> Arc<State> {
        self.0.lock().unwrap().clone()
    }

    fn authority(&self) -> Arc<Authority> {
        Arc::new(Authority::unrestricted())
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) config: LiveConfig,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

pub(crate) fn config() -> Config {
    let domain = tribune_core::dns::Name::parse("consul").unwrap();
    Config::new(Zone::new(domain, Datacenter::new("dc1").unwrap()))
}

impl Server {
    /// Starts with ten instances of `web`.
    pub(crate) fn start(config: Config) -> Self {
        Self::start_with(config, Arc::new(NoOtherDatacenters))
    }

    pub(crate) fn start_with(config: Config, remote: Arc<dyn RemoteLookup>) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), config, remote)
    }

    pub(crate) fn start_on(ip: IpAddr, config: Config, remote: Arc<dyn RemoteLookup>) -> Self {
        let catalog = Arc::new(Catalog::default());
        for number in 1..=10 {
            catalog.register("web", number, &format!("10.1.0.{number}"));
        }
        let sockets = Sockets::bind((ip, 0).into(), 2).unwrap();
        let address = sockets.local_addr().unwrap();
        let (config, shutdown) = (LiveConfig::new(config), CancellationToken::new());
        let sources = Sources { own: Own::Held(catalog.clone()), remote };
        let task = tokio::spawn(serve(vec![sockets], sources, config.clone(), shutdown.clone()));
        Self { address, catalog, config, shutdown, task }
    }

    /// Stops; fails when anything keeps running.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, &mut self.task).await.expect("a server that stops").unwrap().unwrap();
    }

    /// Runs blocking client code beside the server.
    pub(crate) async fn client<T: Send + 'static>(
        &self,
        work: impl FnOnce(Client) -> T + Send + 'static,
    ) -> T {
        let client = Client::new(self.address);
        tokio::task::spawn_blocking(move || work(client)).await.unwrap()
    }
}

impl Drop for Server {
    /// Lets a failing test end.
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A client with a UDP socket.
pub(crate) struct Client {
    pub(crate) server: SocketAddr,
    pub(crate) socket: UdpSocket,
}

impl Client {
    pub(crate) fn new(server: SocketAddr) -> Self {
        let loopback: IpAddr =
            if server.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let socket = UdpSocket::bind((loopback, 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { server, socket }
    }

    pub(crate) fn exchange(&self, packet: &[u8]) -> Vec<u8> {
        self.socket.send(packet).unwrap();
        let mut buffer = vec![0; 65_535];
        let length = self.socket.recv(&mut buffer).expect("an answer");
        buffer.truncate(length);
        buffer
    }

    pub(crate) fn udp(&self, question: &Message) -> Message {
        let answer = self.exchange(&question.to_vec().unwrap());
        Message::from_vec(&answer).unwrap()
    }

    pub(crate) fn tcp(&self, question: &Message) -> Message {
        let mut stream = TcpStream::connect(self.server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        send_tcp(&mut stream, &question.to_vec().unwrap());
        Message::from_vec(&receive_tcp(&mut stream).unwrap()).unwrap()
    }
}

pub(crate) fn send_tcp(stream: &mut TcpStream, packet: &[u8]) {
    stream.write_all(&(packet.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(packet).unwrap();
}

pub(crate) fn receive_tcp(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

pub(crate) fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

pub(crate) fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.edns = Some(edns);
    message
}
