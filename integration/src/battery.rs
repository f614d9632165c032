//! What every agent must be able to do for every datacenter, written once and asked through any door: a server, a
//! follower, a client agent, or an agent of another datacenter with `?dc=`.

mod registry;
mod store;
mod waiting;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::http::{Answer, Request};
use crate::wait::eventually;

/// How long something may take to show that takes milliseconds on an idle machine.
const SHOW_LIMIT: Duration = Duration::from_secs(20);

/// Who is asked about which datacenter.
#[derive(Debug, Clone)]
pub struct Door {
    /// A word for messages and names: what is written through one door is not met through another.
    pub name: String,
    /// The agent that is asked.
    pub ask: SocketAddr,
    /// The datacenter that is meant, when it is not the asked agent's own.
    pub datacenter: Option<String>,
    /// DNS of the asked agent.
    pub dns: SocketAddr,
    /// An agent in the datacenter that is meant, on which services are registered.
    pub home: SocketAddr,
    /// Its node name.
    pub home_node: String,
}

/// One thing that must work.
type Check = fn(&Door) -> Result<()>;

/// All of them, by name.
const CHECKS: [(&str, Check); 18] = [
    ("a service on an agent is found and gone again", registry::service_comes_and_goes),
    ("a check that fails takes its instance out", registry::health_follows_the_check),
    ("an outside node is registered and deregistered", registry::outside_node),
    ("a registration may name its datacenter itself", registry::datacenter_in_the_body),
    ("lists can be filtered", registry::filters),
    ("DNS knows a service and where it is", registry::dns),
    ("lists of nodes, services and datacenters", registry::lists),
    ("answers say how fresh they are", registry::headers),
    ("cached answers say so", registry::cached),
    ("an unknown datacenter is refused", registry::unknown_datacenter),
    ("keys are written, read and deleted", store::keys),
    ("keys are compared and swapped", store::swap),
    ("a tree of keys is listed and deleted", store::tree),
    ("sessions hold locks and let them go", store::sessions),
    ("transactions are done as one or not at all", store::transactions),
    ("a blocked question wakes with the change", waiting::wakes),
    ("a blocked question waits no longer than asked", waiting::times_out),
    ("indexes rise with changes and never fall", waiting::indexes_rise),
];

impl Door {
    /// Does everything; the error lists all that did not work.
    pub fn battery(&self) -> Result<()> {
        let failures: Vec<_> = CHECKS
            .iter()
            .filter_map(|(name, check)| Some(format!("{name}: {:#}", check(self).err()?)))
            .collect();
        ensure!(
            failures.is_empty(),
            "through {}, {} of {} checks failed:\n{}",
            self.name,
            failures.len(),
            CHECKS.len(),
            failures.join("\n")
        );
        Ok(())
    }

    /// A name that only this door uses.
    fn own(&self, name: &str) -> String {
        format!("{name}-{}", self.name)
    }

    /// A path with the datacenter, when one is to be named.
    fn target(&self, path: &str) -> String {
        match &self.datacenter {
            None => path.to_owned(),
            Some(datacenter) => {
                let joint = if path.contains('?') { '&' } else { '?' };
                format!("{path}{joint}dc={datacenter}")
            }
        }
    }

    /// Any request through the door.
    fn send(&self, method: &str, path: &str, body: &str) -> Result<Answer> {
        Request::new(method, &self.target(path)).body(body).send(self.ask)
    }

    /// A GET of JSON that must be answered 200.
    fn json(&self, path: &str) -> Result<Value> {
        good("GET", path, self.send("GET", path, "")?)?.json()
    }

    /// A PUT that must be answered 200.
    fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        good("PUT", path, self.send("PUT", path, &body.to_string())?)
    }

    /// A PUT to the catalog. Consul takes the datacenter of these from the body alone.
    fn catalog(&self, verb: &str, mut body: Value) -> Result<Answer> {
        if let Some(datacenter) = &self.datacenter {
            body["Datacenter"] = datacenter.as_str().into();
        }
        self.put(&format!("/v1/catalog/{verb}"), &body)
    }

    /// A PUT to the agent at home.
    fn put_at_home(&self, path: &str, body: &str) -> Result<()> {
        good("PUT", path, Request::new("PUT", path).body(body).send(self.home)?).map(drop)
    }

    /// Waits until a list has so many elements.
    fn wait_for_count(&self, path: &str, count: usize) -> Result<()> {
        let mut last = Value::Null;
        let found = eventually(&format!("{count} elements of {path}"), SHOW_LIMIT, || {
            last = self.json(path)?;
            Ok(last.as_array().is_some_and(|list| list.len() == count))
        });
        found.with_context(|| format!("last seen: {last}"))
    }
}

fn good(method: &str, path: &str, answer: Answer) -> Result<Answer> {
    if answer.status != 200 {
        bail!("{method} {path} was answered {}: {}", answer.status, answer.text());
    }
    Ok(answer)
}

/// The index that an answer carries.
fn index(answer: &Answer) -> Result<u64> {
    let index = answer.header("x-consul-index").context("an answer without X-Consul-Index")?;
    Ok(index.parse()?)
}
