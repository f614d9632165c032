//! `/v1/catalog/…`: nodes and services as they are registered, healthy or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tribune_api::catalog::{Deregistration, Registration};
use tribune_api::render::{
    self, CatalogServiceJson, NodeJson, NodeServiceListJson, NodeServicesJson, ServiceJson,
};
use tribune_api::{Addresses, ApiError, Layout, json};
use tribune_core::state::{NodeView, View};
use tribune_core::{Command, Folded, State, Topic};

use crate::call::Call;
use crate::datacenter::Datacenter;
use crate::error::Error;
use crate::operator::{Office, at_datacenter};
use crate::question::{Question, Topics};
use crate::read::Read;
use crate::reply::Reply;
use crate::router::Router;
use crate::selection::{Selection, Sieve};

/// Shortest prefix of a node's id that stands for the node.
const ID_PREFIX_MIN: usize = 2;

const REGISTER: &str = "/v1/catalog/register";
const DEREGISTER: &str = "/v1/catalog/deregister";

pub(crate) fn routes(dc: &Arc<Datacenter>, office: &Arc<Office>) -> Router {
    Router::default()
        .put(REGISTER, office, register)
        .put(DEREGISTER, office, deregister)
        .get("/v1/catalog/datacenters", office, datacenters)
        .get("/v1/catalog/nodes", dc, nodes)
        .get("/v1/catalog/services", dc, services)
        .get("/v1/catalog/service/", dc, service)
        .get("/v1/catalog/node/", dc, node)
        .get("/v1/catalog/node-services/", dc, node_services)
}

async fn register(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    let body = Registration::from_body(&call.body)?;
    if let Some(reply) = at_datacenter(&office, &body.datacenter, REGISTER, &call).await? {
        return Ok(reply);
    }
    office.dc.write(&call.authority(), Command::try_from(body)?, call.layout).await
}

async fn deregister(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    let body = Deregistration::from_body(&call.body)?;
    if let Some(reply) = at_datacenter(&office, &body.datacenter, DEREGISTER, &call).await? {
        return Ok(reply);
    }
    office.dc.write(&call.authority(), Command::try_from(body)?, call.layout).await
}

/// The nearest first.
async fn datacenters(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    let known = office.operator.datacenters();
    let names: Vec<&str> = known.iter().map(|it| it.datacenter.as_str()).collect();
    Ok(Reply::json(&names, call.layout)?)
}

async fn nodes(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    let (read, options) = Read::new(&dc, &call)?;
    let selection = Selection::new(options).with_near(&call, dc.config.node.as_ref());
    let addresses = call.addresses();
    let question = Question::new("/v1/catalog/nodes", "", call.layout, Topics::One(Topic::Nodes));
    let mut question = question.under(addresses);
    selection.shape(&mut question);
    read.answer(question, |view| {
        let sieve = selection.sieve::<NodeJson<'_>>()?;
        let nodes = view.nodes().filter(|node| selection.wants_node(&node.node().value));
        let nodes = selection.sorted(view, nodes, |node| node.name().folded()).into_iter();
        let nodes = nodes.map(|node| NodeJson::new(&node, dc.name()).under(addresses));
        json::list(nodes.filter(|node| sieve.keeps(node)), call.layout)
    })
    .await
}

async fn services(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    let (read, options) = Read::new(&dc, &call)?;
    let selection = Selection::new(options);
    let topics = match selection.selects_instances() {
        true => Topics::Both(Topic::Services, Topic::Nodes),
        false => Topics::One(Topic::Services),
    };
    let mut question = Question::new("/v1/catalog/services", "", call.layout, topics);
    selection.shape(&mut question);
    read.answer(question, |view| {
        if selection.selects_instances() {
            return selected_services(view, &selection, dc.name(), call.layout);
        }
        render::services(view.services(), call.layout)
    })
    .await
}

/// The names and tags of the instances that are wanted.
fn selected_services(
    view: View<'_>,
    selection: &Selection,
    datacenter: &str,
    layout: Layout,
) -> Result<Vec<u8>, ApiError> {
    let sieve = selection.sieve::<CatalogServiceJson<'_>>()?;
    let mut services: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for service in view.services() {
        let instances = view.instances(service.name().as_str()).filter(|one| selection.wants(one));
        let addresses = Addresses::Own;
        let instances = instances
            .filter(|&instance| sieve.keeps(&CatalogServiceJson { instance, datacenter, addresses }));
        for instance in instances {
            let tags = services.entry(service.name().as_str()).or_default();
            tags.extend(instance.service.value.tags.iter().map(|tag| tag.as_str()));
        }
    }
    json::object(services, layout)
}

async fn service(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    let name = call.argument("Missing service name")?;
    let (read, options) = Read::new(&dc, &call)?;
    let selection = Selection::new(options).with_tags(&call).with_near(&call, dc.config.node.as_ref());
    let key = Folded::new(name);
    let addresses = call.addresses();
    let mut question = Question::about_service("/v1/catalog/service/", key, call.layout).under(addresses);
    selection.shape(&mut question);
    read.answer(question, |view| {
        let sieve = selection.sieve::<CatalogServiceJson<'_>>()?;
        let instances = view.instances(name).filter(|instance| selection.wants(instance));
        let instances = selection.sorted(view, instances, |it| it.node.value.name.folded()).into_iter();
        let entry = |instance| CatalogServiceJson { instance, datacenter: dc.name(), addresses };
        let entries = instances.map(entry);
        json::list(entries.filter(|entry| sieve.keeps(entry)), call.layout)
    })
    .await
}

async fn node(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    node_with_services(&dc, &call, "/v1/catalog/node/", |found| json::to_vec(&found, call.layout)).await
}

async fn node_services(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    let list = |found: Option<NodeServicesJson<'_>>| json::to_vec(&NodeServiceListJson(found), call.layout);
    node_with_services(&dc, &call, "/v1/catalog/node-services/", list).await
}

async fn node_with_services(
    dc: &Datacenter,
    call: &Call,
    route: &str,
    write: impl Fn(Option<NodeServicesJson<'_>>) -> Result<Vec<u8>, ApiError>,
) -> Result<Reply, Error> {
    let asked = call.argument("Missing node name")?;
    let (read, options) = Read::new(dc, call)?;
    let selection = Selection::new(options);
    let state = read.state().await?;
    let name = resolve(&state, call, asked);
    let addresses = call.addresses();
    let topics = Topics::One(Topic::Node(name.clone()));
    let mut question = Question::new(route, name.as_str(), call.layout, topics).under(addresses);
    selection.shape(&mut question);
    read.answer_from(state, question, |view| {
        let sieve = selection.sieve::<ServiceJson<'_>>()?;
        match view.node(name.as_str()) {
            Some(node) => {
                let services = services_on(&node, &sieve, addresses);
                let node = NodeJson::new(&node, dc.name()).under(addresses);
                write(Some(NodeServicesJson { node, services: &services }))
            }
            None => write(None),
        }
    })
    .await
}

fn services_on<'a>(node: &NodeView<'a>, sieve: &Sieve, addresses: Addresses) -> Vec<ServiceJson<'a>> {
    let services = node.instances().map(|instance| ServiceJson(instance.service, addresses));
    services.filter(|service| sieve.keeps(service)).collect()
}

/// The node that is asked for: by name, else by a prefix of its id.
fn resolve(state: &State, call: &Call, asked: &str) -> Folded {
    let authority = call.authority();
    let view = state.view(&authority);
    let by_id = || view.node_by_id_prefix(asked).filter(|_| asked.len() >= ID_PREFIX_MIN);
    let found = view.node(asked).or_else(by_id);
    found.map_or_else(|| Folded::new(asked), |node| node.name().folded())
}
