//! The road between the datacenters: a gate at each address that a server tells other datacenters, which passes on
//! to where the server listens. Cutting it needs nothing of the servers: every connection breaks, and new ones are
//! broken as soon as they come.
//!
//! Connections that come from the server's own datacenter are left alone; that is seen from their address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::plan::Plan;

/// Connections through one gate at a time: servers keep one for each pair.
const CONNECTIONS_MAX: usize = 256;
/// How long a server may take to accept.
const CONNECT_WAIT: Duration = Duration::from_secs(2);

/// All gates; dropping it closes them.
#[derive(Debug)]
pub(super) struct Link {
    is_cut: watch::Sender<bool>,
    _gates: JoinSet<()>,
}

/// The way to one server.
#[derive(Debug, Clone)]
struct Gate {
    at: SocketAddr,
    leads_to: SocketAddr,
    neighbours: Vec<IpAddr>,
}

impl Link {
    /// Opens a gate for every server of the plan.
    pub(super) async fn open(plan: &Plan) -> io::Result<Self> {
        let port = plan.ports.serf_wan;
        let gates = plan.nodes.iter().map(|node| Gate {
            at: (node.wan_address, port).into(),
            leads_to: (node.address, port).into(),
            neighbours: plan.servers(node.datacenter).map(|peer| peer.address.into()).collect(),
        });
        Self::through(gates.collect()).await
    }

    async fn through(gates: Vec<Gate>) -> io::Result<Self> {
        let (is_cut, cut) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for gate in gates {
            let listener = TcpListener::bind(gate.at).await?;
            tasks.spawn(pass(listener, gate, cut.clone()));
        }
        Ok(Self { is_cut, _gates: tasks })
    }

    pub(super) fn is_cut(&self) -> bool {
        *self.is_cut.borrow()
    }

    /// Breaks every connection between the datacenters, now and until it is healed.
    pub(super) fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Lets connections through again.
    pub(super) fn heal(&self) {
        self.is_cut.send_replace(false);
    }
}

async fn pass(listener: TcpListener, gate: Gate, cut: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, from)) => {
                    let cut = (!gate.neighbours.contains(&from.ip())).then(|| cut.clone());
                    connections.spawn(carry(stream, gate.leads_to, cut));
                }
                // The system is short of something that others give back in time.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries bytes both ways until one side ends or, if the link can be cut for it, until it is.
async fn carry(mut stream: TcpStream, to: SocketAddr, cut: Option<watch::Receiver<bool>>) {
    let broken = async {
        match cut {
            // When the link itself is gone, so is its end; that breaks connections as well.
            Some(mut cut) => drop(cut.wait_for(|is_cut| *is_cut).await),
            None => std::future::pending().await,
        }
    };
    let carried = async {
        let mut server = timeout(CONNECT_WAIT, TcpStream::connect(to)).await??;
        // Without this, small messages would wait for the answer to those before them.
        server.set_nodelay(true)?;
        stream.set_nodelay(true)?;
        copy_bidirectional(&mut stream, &mut server).await
    };
    tokio::select! {
        biased;
        () = broken => {}
        // However it ends, both sides see their connection end.
        _ = carried => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::ask;
    use crate::demo::instance::Instance;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// At an address where no connection of another test takes ports.
    async fn free() -> SocketAddr {
        TcpListener::bind("127.0.0.78:0").await.unwrap().local_addr().unwrap()
    }

    async fn link(neighbours: Vec<IpAddr>) -> (Link, Instance, SocketAddr) {
        let gate = Gate { at: free().await, leads_to: free().await, neighbours };
        let mut server = Instance::new("web-1", "dc1", gate.leads_to);
        server.start().await.unwrap();
        (Link::through(vec![gate.clone()]).await.unwrap(), server, gate.at)
    }

    #[tokio::test]
    async fn nothing_passes_while_it_is_cut() {
        let (link, _server, gate) = link(Vec::new()).await;
        assert_eq!(ask::get(gate, "/", &[], PATIENCE).await.unwrap().status, 200);
        let open = TcpStream::connect(gate).await.unwrap();
        link.cut();
        assert!(ask::get(gate, "/", &[], PATIENCE).await.is_err());
        open.readable().await.unwrap();
        assert!(!matches!(open.try_read(&mut [0]), Ok(1..)), "an open connection breaks");
        link.heal();
        assert_eq!(ask::get(gate, "/", &[], PATIENCE).await.unwrap().status, 200);
    }

    #[tokio::test]
    async fn neighbours_do_not_notice() {
        let (link, _server, gate) = link(vec![[127, 0, 0, 1].into()]).await;
        link.cut();
        assert!(link.is_cut());
        assert_eq!(ask::get(gate, "/", &[], PATIENCE).await.unwrap().status, 200);
    }
}
