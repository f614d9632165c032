//! Unmodified programs that find services through us, with three real HTTP servers behind.

mod dig;
mod haproxy;
mod prometheus;
mod python;

use std::net::Ipv4Addr;

use serde_json::json;
use tribune_integration::{Backend, TestNode};

/// Three HTTP servers, registered as instances of `web` with an HTTP check each.
struct Web {
    node: TestNode,
    backends: Vec<Backend>,
}

impl Web {
    /// Starts the node and the servers, and returns when all three pass.
    fn start() -> Self {
        let node = TestNode::start().unwrap();
        // Each on an address of its own, as on three machines.
        let backends: Vec<_> = (1..)
            .zip(["one", "two", "three"])
            .map(|(last, name)| Backend::start(name, Ipv4Addr::new(127, 0, 1, last)).unwrap())
            .collect();
        for backend in &backends {
            let (name, address) = (backend.name(), backend.address());
            let registration = json!({
                "ID": format!("web-{name}"), "Name": "web", "Address": address.ip(), "Port": address.port(),
                "Tags": ["http", name], "Meta": {"colour": name},
                "Check": {"HTTP": format!("http://{address}/"), "Interval": "200ms", "Timeout": "2s"},
            });
            node.put("/v1/agent/service/register", &registration).unwrap();
        }
        let web = Self { node, backends };
        web.wait_for_passing(3);
        web
    }

    /// Waits until exactly so many instances pass.
    fn wait_for_passing(&self, count: usize) {
        tribune_integration::eventually("the checks agree", super::LIMIT, || {
            let passing = self.node.get("/v1/health/service/web?passing")?.json()?;
            Ok(passing.as_array().is_some_and(|instances| instances.len() == count))
        })
        .unwrap();
    }
}
