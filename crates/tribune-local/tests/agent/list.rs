//! The agent's own list: what changes it, what it survives.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use tribune_core::{CheckDefinition, CheckId, Status};
use tribune_local::{Config, Definitions, Error, LocalAgent, ScriptPolicy, StoreAt};

use crate::datacenter::{Datacenter, node};
use crate::{check, instance, memory, service, start, ttl};

fn on_disk(directory: &tempfile::TempDir) -> Config {
    Config::new(node(), StoreAt::Directory(directory.path().to_owned()))
}

#[tokio::test]
async fn the_same_registration_again_writes_nothing_and_keeps_the_status() {
    let catalog = Datacenter::new();
    let (agent, running) = start(memory(), &catalog).await;
    agent.register_service(service("web"), vec![ttl("c", 60)], false).await.unwrap();
    agent.update_ttl(&CheckId::new("c").unwrap(), Status::Passing, "fine").await.unwrap();
    catalog.eventually("c passes", |catalog| catalog.status("c") == Some(Status::Passing)).await;

    let (writes, before) = (catalog.writes.load(Ordering::Relaxed), agent.services());
    agent.register_service(service("web"), vec![ttl("c", 60)], false).await.unwrap();
    assert_eq!(catalog.writes.load(Ordering::Relaxed), writes);
    assert_eq!(agent.checks().check("C").unwrap(), before.check("c").unwrap());

    // Another definition of the check keeps its status too; a check that is not named stays or goes as asked.
    agent.register_service(service("web"), vec![ttl("c", 90), ttl("d", 60)], false).await.unwrap();
    assert_eq!(agent.checks().check("c").unwrap().status, Status::Passing);
    agent.register_service(service("web"), vec![ttl("d", 60)], false).await.unwrap();
    assert_eq!(agent.checks().checks_of("web").count(), 2);
    agent.register_service(service("web"), vec![ttl("d", 60)], true).await.unwrap();
    assert!(agent.checks().check("c").is_none());
    catalog.eventually("c is gone", |catalog| catalog.status("c").is_none()).await;
    running.stop().await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Datacenter::new();
    let (agent, running) = start(on_disk(&directory), &catalog).await;
    let many = (0..64)
        .map(|n| agent.register_service(service(&format!("s{n}")), vec![ttl(&format!("c{n}"), 600)], false));
    join_all(many).await.into_iter().for_each(|done| done.unwrap());
    agent.update_ttl(&CheckId::new("c1").unwrap(), Status::Warning, "so so").await.unwrap();
    agent.deregister_service(&instance("s2")).await.unwrap();
    agent.node_maintenance(true, "disk swap").await.unwrap();
    let before = agent.services();
    // The file as a power cut would leave it: never closed.
    let cut = tempfile::tempdir().unwrap();
    std::fs::copy(directory.path().join("local.redb"), cut.path().join("local.redb")).unwrap();
    running.stop().await;

    let (agent, running) = start(on_disk(&cut), &catalog).await;
    let after = agent.services();
    assert_eq!(after.services().len(), 63);
    assert!(after.services().eq(before.services()));
    assert!(after.checks().map(|check| &check.spec).eq(before.checks().map(|check| &check.spec)));
    let restored = after.check("c1").unwrap();
    assert_eq!((restored.status, &*restored.output), (Status::Warning, "so so"));
    assert_eq!(after.check("_node_maintenance").unwrap().kind.as_str(), "maintenance");
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_list_stops_the_start_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Datacenter::new();
    let (agent, running) = start(on_disk(&directory), &catalog).await;
    agent.register_service(service("web"), vec![ttl("c", 60)], false).await.unwrap();
    running.stop().await;
    let path = directory.path().join("local.redb");
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    let names = whole.windows(3).enumerate().filter(|(_, bytes)| bytes == b"web");
    names.for_each(|(at, _)| flipped[at] ^= 1);
    let damages = [Vec::new(), b"not a database at all".to_vec(), whole[..5000].to_vec(), flipped];
    for damage in damages {
        std::fs::write(&path, &damage).unwrap();
        let started = LocalAgent::start(on_disk(&directory), catalog.clone(), Definitions::default()).await;
        let error = started.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::DamagedStore { .. }), "{error}");
        assert!(error.to_string().contains("local.redb"), "{error}");
        assert!(!std::fs::read(&path).unwrap().is_empty() || damage.is_empty());
    }
    std::fs::write(&path, &whole).unwrap();
    let (agent, running) = start(on_disk(&directory), &catalog).await;
    assert!(agent.services().service("web").is_some());
    running.stop().await;
}

#[tokio::test]
async fn files_override_what_was_registered_and_are_forgotten_when_they_go() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Datacenter::new();
    let (agent, running) = start(on_disk(&directory), &catalog).await;
    agent.register_service(service("web"), vec![], false).await.unwrap();
    agent.register_service(service("kept"), vec![], false).await.unwrap();
    let web = tribune_core::ServiceInstance { port: 8080, ..service("web") };
    let file = Definitions { services: vec![(web, vec![ttl("c", 600)])], checks: vec![ttl("mem", 600)] };
    agent.reload(file.clone()).await.unwrap();
    agent.update_ttl(&CheckId::new("c").unwrap(), Status::Passing, "").await.unwrap();
    agent.reload(file).await.unwrap();
    let snapshot = agent.services();
    assert_eq!(snapshot.service("web").unwrap().instance.port, 8080);
    assert_eq!(snapshot.check("c").unwrap().status, Status::Passing);
    catalog.eventually("mem is known", |catalog| catalog.status("mem").is_some()).await;

    agent.reload(Definitions::default()).await.unwrap();
    let names: Vec<_> = agent.services().services().map(|service| service.instance.id.to_string()).collect();
    assert_eq!(names, ["kept"]);
    catalog.eventually("web is gone", |catalog| !catalog.has_service("web")).await;
    catalog.eventually("mem is gone", |catalog| catalog.status("mem").is_none()).await;
    running.stop().await;
    let (agent, running) = start(on_disk(&directory), &catalog).await;
    assert_eq!(agent.services().services().len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_a_reason() {
    let catalog = Datacenter::new();
    let (agent, running) = start(memory(), &catalog).await;
    let script = CheckDefinition {
        script_args: ["true".into()].into(),
        interval: Some(Duration::from_secs(1)),
        ..CheckDefinition::default()
    };
    let docker = CheckDefinition { docker_container_id: "c".into(), ..script.clone() };
    let refused = agent.register_check(check("s", script.clone())).await;
    assert!(matches!(refused, Err(Error::RemoteScriptsDisabled)));
    assert!(matches!(agent.register_check(check("d", docker)).await, Err(Error::DockerUnsupported(_))));
    let file = Definitions { services: vec![], checks: vec![check("s", script.clone())] };
    assert!(matches!(agent.reload(file.clone()).await, Err(Error::ScriptsDisabled)));
    let refused = agent.register_check(check("x", CheckDefinition::default())).await;
    assert!(matches!(refused, Err(Error::InvalidCheck { .. })));
    let mut orphan = ttl("o", 10);
    orphan.service_id = Some(instance("none"));
    assert!(matches!(agent.register_check(orphan).await, Err(Error::UnknownService(_))));
    assert!(matches!(agent.deregister_service(&instance("none")).await, Err(Error::UnknownService(_))));
    let id = CheckId::new("none").unwrap();
    assert!(matches!(agent.deregister_check(&id).await, Err(Error::UnknownCheck(_))));
    assert!(matches!(agent.update_ttl(&id, Status::Passing, "").await, Err(Error::UnknownCheck(_))));
    assert_eq!(agent.checks().checks().len(), 0);
    running.stop().await;

    let (agent, running) = start(Config { scripts: ScriptPolicy::Files, ..memory() }, &catalog).await;
    agent.reload(file).await.unwrap();
    assert!(matches!(agent.register_check(check("t", script)).await, Err(Error::RemoteScriptsDisabled)));
    let not_ttl = agent.update_ttl(&CheckId::new("s").unwrap(), Status::Passing, "").await;
    assert!(matches!(not_ttl, Err(Error::NotTtl(_))));
    running.stop().await;
}

#[tokio::test]
async fn a_waiter_sees_its_service_change_and_nothing_else() {
    let catalog = Datacenter::new();
    let (agent, running) = start(memory(), &catalog).await;
    agent.register_service(service("web"), vec![ttl("c", 60)], false).await.unwrap();
    let seen = agent.services().service("web").unwrap().clone();
    let waiter = {
        let (agent, seen) = (agent.clone(), seen.clone());
        let until = Instant::now() + Duration::from_secs(30);
        tokio::spawn(async move { agent.service_changed(&instance("web"), Some(&seen), until).await })
    };
    agent.update_ttl(&CheckId::new("c").unwrap(), Status::Passing, "").await.unwrap();
    agent.register_service(service("api"), vec![], false).await.unwrap();
    assert!(!waiter.is_finished());
    let web = tribune_core::ServiceInstance { port: 81, ..service("web") };
    agent.register_service(web, vec![], false).await.unwrap();
    assert_eq!(waiter.await.unwrap().unwrap().instance.port, 81);
    let soon = Instant::now() + Duration::from_millis(1);
    let current = agent.services().service("web").unwrap().clone();
    assert_eq!(agent.service_changed(&instance("web"), Some(&current), soon).await, Some(current));
    running.stop().await;
}
