//! `/v1/health/…`: checks, and instances together with theirs.

use std::sync::Arc;

use tribune_api::json;
use tribune_api::render::{CheckJson, HealthEntryJson, status_text};
use tribune_core::state::CheckView;
use tribune_core::{Folded, Topic};

use crate::call::Call;
use crate::datacenter::Datacenter;
use crate::error::Error;
use crate::question::{Question, Topics};
use crate::read::Read;
use crate::reply::Reply;
use crate::router::Router;
use crate::selection::Selection;

pub(crate) fn routes(dc: &Arc<Datacenter>) -> Router {
    Router::default()
        .get("/v1/health/service/", dc, service)
        .get("/v1/health/checks/", dc, checks)
        .get("/v1/health/node/", dc, node)
        .get("/v1/health/state/", dc, state)
}

async fn service(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    let name = call.argument("Missing service name")?;
    let (read, options) = Read::new(&dc, &call)?;
    let selection = Selection::new(options).with_tags(&call).with_passing(&call)?;
    let selection = selection.with_near(&call, dc.config.node.as_ref());
    let addresses = call.addresses();
    let question = Question::about_service("/v1/health/service/", Folded::new(name), call.layout);
    let mut question = question.under(addresses);
    selection.shape(&mut question);
    read.answer(question, |view| {
        let sieve = selection.sieve::<HealthEntryJson<'_>>()?;
        let instances = view.instances(name).filter(|instance| selection.wants(instance));
        let instances = selection.sorted(view, instances, |it| it.node.value.name.folded()).into_iter();
        let entries =
            instances.map(|instance| HealthEntryJson { instance, datacenter: dc.name(), addresses });
        json::list(entries.filter(|entry| sieve.keeps(entry)), call.layout)
    })
    .await
}

async fn checks(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    let name = call.argument("Missing service name")?;
    let (read, options) = Read::new(&dc, &call)?;
    let selection = Selection::new(options).with_near(&call, dc.config.node.as_ref());
    let mut question = Question::about_service("/v1/health/checks/", Folded::new(name), call.layout);
    selection.shape(&mut question);
    read.answer(question, |view| {
        let sieve = selection.sieve::<CheckJson<'_>>()?;
        let instances = view.instances(name).filter(|instance| selection.wants(instance));
        let instances = selection.sorted(view, instances, |it| it.node.value.name.folded()).into_iter();
        let checks = instances.flat_map(|instance| {
            let own = instance.own_checks();
            own.map(move |check| CheckView {
                node: instance.node,
                check,
                service: Some(&instance.service.value),
            })
        });
        json::list(checks.map(CheckJson::from).filter(|check| sieve.keeps(check)), call.layout)
    })
    .await
}

async fn node(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    let name = call.argument("Missing node name")?;
    let (read, options) = Read::new(&dc, &call)?;
    let selection = Selection::new(options);
    let key = Folded::new(name);
    let mut question =
        Question::new("/v1/health/node/", key.as_str(), call.layout, Topics::One(Topic::Node(key.clone())));
    selection.shape(&mut question);
    read.answer(question, |view| {
        let sieve = selection.sieve::<CheckJson<'_>>()?;
        let checks = view.node(name).into_iter().flat_map(|node| node.checks());
        json::list(checks.map(CheckJson::from).filter(|check| sieve.keeps(check)), call.layout)
    })
    .await
}

async fn state(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    let status = call.argument("Missing check state")?;
    let (read, options) = Read::new(&dc, &call)?;
    let selection = Selection::new(options).with_near(&call, dc.config.node.as_ref());
    let topics = match selection.node_meta.is_empty() {
        true => Topics::One(Topic::Checks),
        false => Topics::Both(Topic::Checks, Topic::Nodes),
    };
    let mut question = Question::new("/v1/health/state/", status, call.layout, topics);
    selection.shape(&mut question);
    read.answer(question, |view| {
        let sieve = selection.sieve::<CheckJson<'_>>()?;
        let wanted = |check: &CheckView<'_>| {
            let named = status == "any" || status_text(check.check.value.status) == status;
            named && selection.wants_node(&check.node.value)
        };
        let checks = selection.sorted(view, view.checks().filter(wanted), |it| it.node.value.name.folded());
        let checks = checks.into_iter().map(CheckJson::from);
        json::list(checks.filter(|check| sieve.keeps(check)), call.layout)
    })
    .await
}
