//! Bringing the catalog in line.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tribune_core::reconcile::register;
use tribune_core::{CheckDefinition, CheckId, ServiceInstance, Status};
use tribune_local::Config;

use crate::datacenter::{Datacenter, node};
use crate::{check, eventually, instance, memory, service, start, ttl};

fn id(check: &str) -> CheckId {
    CheckId::new(check).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_registration_without_a_leader_succeeds_and_is_told_later() {
    let catalog = Datacenter::new();
    catalog.leaderless.store(true, Ordering::Relaxed);
    let (agent, running) = start(memory(), &catalog).await;
    agent.register_service(service("web"), vec![ttl("c", 600)], false).await.unwrap();
    assert!(!catalog.has_service("web"));
    catalog.leaderless.store(false, Ordering::Relaxed);
    catalog.eventually("web is known", |catalog| catalog.has_service("web")).await;
    assert!(agent.stats().syncs_failed > 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_others_did_to_this_node_is_undone() {
    let catalog = Datacenter::new();
    let (agent, running) = start(memory(), &catalog).await;
    let open = ServiceInstance { enable_tag_override: true, ..service("open") };
    agent.register_service(service("web"), vec![ttl("c", 600)], false).await.unwrap();
    agent.register_service(open.clone(), vec![], false).await.unwrap();
    catalog.apply(&register(&node(), true, Some(service("stranger")), vec![]));
    catalog.apply(&register(&node(), true, Some(service("consul")), vec![]));
    let tagged = |instance: ServiceInstance| ServiceInstance { tags: ["x".into()].into(), ..instance };
    catalog.apply(&register(&node(), true, Some(tagged(service("web"))), vec![]));
    catalog.apply(&register(&node(), true, Some(tagged(open)), vec![]));
    // The comparison comes by itself.
    catalog.eventually("the stranger is gone", |catalog| !catalog.has_service("stranger")).await;
    agent.sync_now().await.unwrap();
    assert!(catalog.has_service("consul"));
    let state = tribune_local::Catalog::state(&*catalog).await.unwrap();
    let authority = tribune_core::Authority::unrestricted();
    let remote = state.view(&authority).node("n1").unwrap();
    assert!(remote.instance("web").unwrap().service.value.tags.is_empty());
    assert_eq!(remote.instance("open").unwrap().service.value.tags[0], "x");
    assert_eq!(agent.services().service("open").unwrap().instance.tags[0], "x");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_status_goes_at_once_and_an_output_waits() {
    let catalog = Datacenter::new();
    let (agent, running) = start(memory(), &catalog).await;
    agent.register_check(ttl("c", 3600)).await.unwrap();
    agent.update_ttl(&id("c"), Status::Passing, "one").await.unwrap();
    catalog.eventually("c passes", |catalog| catalog.status("c") == Some(Status::Passing)).await;
    let output = || {
        let catalog = catalog.clone();
        async move {
            let state = tribune_local::Catalog::state(&*catalog).await.unwrap();
            let authority = tribune_core::Authority::unrestricted();
            state.view(&authority).node("n1").unwrap().check("c").unwrap().check.value.output.to_string()
        }
    };
    agent.update_ttl(&id("c"), Status::Passing, "two").await.unwrap();
    assert_eq!(agent.checks().check("c").unwrap().output.as_ref(), "two");
    tokio::time::sleep(Duration::from_secs(140)).await;
    assert_eq!(output().await, "one", "a new output is held back for at least half the interval");
    tokio::time::sleep(Duration::from_secs(320)).await;
    assert_eq!(output().await, "two");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_renewals_write_nothing() {
    let catalog = Datacenter::new();
    let (agent, running) = start(memory(), &catalog).await;
    for n in 0..1000 {
        agent.register_check(ttl(&format!("c{n}"), 3600)).await.unwrap();
        agent.update_ttl(&id(&format!("c{n}")), Status::Passing, "ok").await.unwrap();
    }
    catalog.eventually("all pass", |catalog| catalog.status("c999") == Some(Status::Passing)).await;
    agent.sync_now().await.unwrap();
    let writes = catalog.writes.load(Ordering::Relaxed);
    let before = agent.checks();
    for n in 0..10_000 {
        agent.update_ttl(&id(&format!("c{}", n % 1000)), Status::Passing, "ok").await.unwrap();
    }
    assert_eq!(catalog.writes.load(Ordering::Relaxed), writes);
    assert!(std::sync::Arc::ptr_eq(&before, &agent.checks()), "nothing was published");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_ttl_runs_out_in_time_and_its_service_goes_when_it_stays_critical() {
    let catalog = Datacenter::new();
    let (agent, running) = start(memory(), &catalog).await;
    let mut check = ttl("c", 10);
    check.definition.deregister_critical_service_after = Some(Duration::from_secs(60));
    check.status = Status::Passing;
    agent.register_service(service("web"), vec![check], false).await.unwrap();
    let start = tokio::time::Instant::now();
    let output = eventually(&agent, "c", |status, _| status == Status::Critical).await;
    assert_eq!(output, "TTL expired");
    assert!(start.elapsed() >= Duration::from_secs(9), "{:?}", start.elapsed());
    catalog.eventually("web is removed", |catalog| !catalog.has_service("web")).await;
    assert!(agent.services().service("web").is_none());
    assert!(start.elapsed() >= Duration::from_secs(69), "{:?}", start.elapsed());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn aliases_follow_services_here_and_on_other_nodes() {
    let catalog = Datacenter::new();
    let (agent, running) = start(memory(), &catalog).await;
    agent.register_service(service("web"), vec![ttl("c", 3600)], false).await.unwrap();
    let alias = |node: &str| CheckDefinition {
        alias_node: node.into(),
        alias_service: "web".into(),
        ..CheckDefinition::default()
    };
    agent.register_check(check("remote", alias("n2"))).await.unwrap();
    agent.register_service(service("front"), vec![check("local", alias(""))], false).await.unwrap();
    assert_eq!(agent.checks().check("local").unwrap().status, Status::Critical);
    agent.update_ttl(&id("c"), Status::Passing, "").await.unwrap();
    // The watch of the other node is a check of this node, which counts for each of its services.
    eventually(&agent, "local", |_, output| output.contains("\"remote\" failing")).await;

    let other =
        tribune_core::Node { name: tribune_core::NodeName::new("n2").unwrap(), id: "".into(), ..node() };
    catalog.apply(&register(&other, false, Some(service("web")), vec![]));
    eventually(&agent, "remote", |status, _| status == Status::Passing).await;
    eventually(&agent, "local", |status, output| {
        status == Status::Passing && output == "All checks passing."
    })
    .await;
    agent.deregister_service(&instance("web")).await.unwrap();
    eventually(&agent, "local", |status, _| status == Status::Critical).await;
    running.stop().await;
}

#[tokio::test]
async fn a_paused_sync_goes_on_where_it_stopped() {
    let catalog = Datacenter::new();
    let (agent, running) =
        start(Config { ae_interval: Duration::from_secs(3600), ..memory() }, &catalog).await;
    let pause = agent.pause();
    agent.register_service(service("web"), vec![], false).await.unwrap();
    assert!(!catalog.has_service("web"));
    drop(pause);
    catalog.eventually("web is known", |catalog| catalog.has_service("web")).await;
    running.stop().await;
}
