//! `/v1/coordinate/…`: where nodes lie in the network.

use std::collections::BTreeMap;
use std::sync::Arc;

use tribune_api::coordinate::{Coordinate, DatacenterMap, Entry, Update};
use tribune_api::{ApiError, json};
use tribune_core::coordinate::Placed;
use tribune_core::state::{NodeView, View};
use tribune_core::{Command, NodeName, Topic};

use crate::call::Call;
use crate::error::Error;
use crate::operator::{Office, at_datacenter};
use crate::question::{Question, Topics};
use crate::read::Read;
use crate::reply::Reply;
use crate::router::Router;
use crate::selection::Selection;

const UPDATE: &str = "/v1/coordinate/update";

pub(crate) fn routes(office: &Arc<Office>) -> Router {
    Router::default()
        .get("/v1/coordinate/datacenters", office, datacenters)
        .get("/v1/coordinate/nodes", office, nodes)
        .get("/v1/coordinate/node/", office, node)
        .put(UPDATE, office, update)
}

async fn datacenters(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    let mut maps: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for located in office.operator.servers_located() {
        let entries = maps.entry(located.datacenter.to_string()).or_default();
        let coord = Coordinate::from(&located.coordinate);
        entries.push(Entry { node: located.node, segment: String::new(), coord });
    }
    let maps = maps.into_iter().map(|(datacenter, mut coordinates)| {
        coordinates.sort_by(|a, b| a.node.cmp(&b.node));
        DatacenterMap { datacenter, area_id: "wan".to_owned(), coordinates }
    });
    Ok(Reply::bytes(json::list(maps, call.layout)?.into()))
}

async fn nodes(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    let (read, options) = Read::new(&office.dc, &call)?;
    let selection = Selection::new(options);
    let topics = match selection.node_meta.is_empty() {
        true => Topics::One(Topic::Coordinates),
        false => Topics::Both(Topic::Coordinates, Topic::Nodes),
    };
    let segment = call.query.text("segment").is_some();
    let mut question = Question::new("/v1/coordinate/nodes", "", call.layout, topics);
    selection.shape(&mut question);
    if segment {
        question.part("segment", "");
    }
    read.answer(question, |view| {
        let wanted = view.nodes().filter(|node| !segment && selection.wants_node(&node.node().value));
        json::list(wanted.filter_map(|node| entry(view, &node)), call.layout)
    })
    .await
}

async fn node(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    let name = call.argument("")?;
    let (read, _) = Read::new(&office.dc, &call)?;
    let state = read.state().await?;
    let authority = call.authority();
    let is_known = {
        let view = state.view(&authority);
        call.query.text("segment").is_none() && view.node(name).and_then(|node| entry(view, &node)).is_some()
    };
    if !is_known {
        return Err(ApiError::not_found("").into());
    }
    let question = Question::new("/v1/coordinate/node/", name, call.layout, Topics::One(Topic::Coordinates));
    read.answer_from(state, question, |view| {
        json::list(view.node(name).and_then(|node| entry(view, &node)), call.layout)
    })
    .await
}

fn entry(view: View<'_>, node: &NodeView<'_>) -> Option<Entry> {
    let coordinate = view.state().coordinate(node.name().folded().as_str())?;
    Some(Entry { node: node.name().to_string(), segment: String::new(), coord: coordinate.into() })
}

async fn update(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    let body = Update::from_body(&call.body)?;
    if let Some(reply) = at_datacenter(&office, &body.datacenter, UPDATE, &call).await? {
        return Ok(reply);
    }
    let node = NodeName::new(body.node).map_err(|_| ApiError::bad_request("Must specify the node"))?;
    let Some(coord) = body.coord else {
        return Err(ApiError::bad_request("Must specify the coordinate of the node").into());
    };
    let placed = Placed { node, coordinate: (&coord).try_into()? };
    office.dc.apply(&call.authority(), Command::PutCoordinates(vec![placed])).await?;
    Ok(Reply::empty())
}
