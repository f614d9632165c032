//! What can be done in the demo and what comes of it: each act does one thing, waits for what can be seen of it, and
//! says how long that took. Keys run them one by one; the script runs them all.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::ask::{self, Reply};
use super::dig;
use super::guide::{health, old_is_fine};
use super::plan::{BILLING, DATACENTERS, Plan, WEB};
use super::screen::{counted, duration, listed};
use super::stage::Stage;
use super::view::{View, dns_name, on_ports};

/// How long everything may take to be ready. A small machine that is busy needs some of it.
const READY_WAIT: Duration = Duration::from_secs(60);
/// How long an act waits for what should come of it.
const ACT_WAIT: Duration = Duration::from_secs(30);
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A question that cannot be answered is to fail within this time.
const FAILURE_MAX: Duration = Duration::from_secs(2);
/// How long the link is left alone after it was cut, to see cached answers grow old.
const CUT_WAIT: Duration = Duration::from_secs(3);
/// Pause between two questions whether the link is back.
const PAUSE: Duration = Duration::from_millis(50);

const FIRST: &str = DATACENTERS[0];
const SECOND: &str = DATACENTERS[1];

/// Something that has to be there before the demo is ready: its name, and what is seen of it once it is.
type Milestone = (&'static str, fn(&Plan, &View) -> Option<String>);

const MILESTONES: [Milestone; 4] = [
    (FIRST, |plan, view| assembled(plan, view, FIRST)),
    (SECOND, |plan, view| assembled(plan, view, SECOND)),
    ("services", |plan, view| {
        let seen = |datacenter| {
            let ports = plan.service_ports(WEB, datacenter);
            (view.ports(datacenter, &dns_name(WEB, None)) == ports)
                .then(|| format!("web in {datacenter} on {}", listed(&ports)))
        };
        Some(format!("{}; {}", seen(FIRST)?, seen(SECOND)?))
    }),
    ("federation", |plan, view| {
        let ports = plan.service_ports(BILLING, SECOND);
        let is_found = view.ports(FIRST, &dns_name(BILLING, Some(SECOND))) == ports;
        (view.is_joined() && is_found)
            .then(|| format!("{FIRST} and {SECOND} have joined; billing of {SECOND} is found from {FIRST}"))
    }),
];

fn assembled(plan: &Plan, view: &View, datacenter: &'static str) -> Option<String> {
    let leader = view.leaders.get(datacenter)?;
    let count = plan.servers(datacenter).count();
    let all = match count {
        1 => String::new(),
        _ => format!("; all {count} servers are there"),
    };
    (view.alive(plan, datacenter) == count).then(|| format!("{leader} leads{all}"))
}

/// Waits until everything is ready, and tells each part as it is.
pub(super) async fn be_ready(stage: &mut Stage) -> anyhow::Result<()> {
    let mut missing = MILESTONES.to_vec();
    while !missing.is_empty() {
        let left = READY_WAIT.saturating_sub(stage.began.elapsed());
        let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
        let some = missing.clone();
        let any = move |plan: &Plan, view: &View| some.iter().any(|(_, seen)| seen(plan, view).is_some());
        let waited = stage.wait(&format!("waiting for {}", listed(&names)), left, any).await?;
        if waited.is_none() {
            stage.show_logs();
            bail!("not ready after {}: {} still missing", duration(stage.began.elapsed()), listed(&names));
        }
        missing.retain(|(name, seen)| {
            let text = seen(&stage.plan, &stage.view);
            if let Some(text) = &text {
                stage.screen.done(name, text, Some(stage.began.elapsed()));
            }
            text.is_none()
        });
    }
    stage.tells_news = true;
    Ok(())
}

/// All acts one after the other. What is not as it should be is among the stage's troubles afterwards.
pub(super) async fn script(stage: &mut Stage) -> anyhow::Result<()> {
    stage.screen.heading("Questions");
    look_up(stage).await;
    instance(stage).await?;
    instance(stage).await?;
    link(stage).await?;
    link(stage).await?;
    leader(stage).await
}

/// Asks for a service of each datacenter, by DNS and by HTTP.
async fn look_up(stage: &mut Stage) {
    local_dns(stage).await;
    let http = stage.home().http;
    let reply = ask::get(http, &health(WEB, ""), &[], PATIENCE).await;
    told(stage, "HTTP", &format!("web of {FIRST}"), &reply, plan_count(stage, WEB, FIRST));
    remote_dns(stage).await;
    let expected = plan_count(stage, BILLING, SECOND);
    let reply = ask::get(http, &health(BILLING, &format!("&dc={SECOND}")), &[], PATIENCE).await;
    told(stage, "HTTP", &format!("billing of {SECOND}"), &reply, expected);
    let there = stage.plan.servers(SECOND).next().map(|node| node.http);
    if let Some(there) = there {
        let reply = ask::get(there, &health(WEB, &format!("&dc={FIRST}")), &[], PATIENCE).await;
        let what = format!("web of {FIRST}, asked in {SECOND}");
        told(stage, "HTTP", &what, &reply, plan_count(stage, WEB, FIRST));
    }
    let target = health(BILLING, &format!("&dc={SECOND}&cached"));
    // The first one fills the cache, if nobody has asked before.
    let _ = ask::get(http, &target, &[], PATIENCE).await;
    let reply = ask::get(http, &target, &[], PATIENCE).await;
    told(stage, "HTTP cached", &format!("billing of {SECOND}"), &reply, expected);
}

fn plan_count(stage: &Stage, service: &str, datacenter: &str) -> usize {
    stage.plan.service_ports(service, datacenter).len()
}

fn told(stage: &mut Stage, subject: &str, what: &str, reply: &io::Result<Reply>, expected: usize) {
    match reply {
        Ok(reply) if reply.status == 200 => {
            let text = format!("{what}: {}{}", counted(reply.count(), "instance"), freshness(reply));
            stage.tell(reply.count() == expected, subject, &text, Some(reply.took));
        }
        Ok(reply) => {
            stage.tell(false, subject, &format!("{what}: {} {}", reply.status, reply.body.trim()), None)
        }
        Err(error) => stage.tell(false, subject, &format!("{what}: {error}"), None),
    }
}

/// What an answer says about the cache.
fn freshness(reply: &Reply) -> String {
    match (reply.header("X-Cache"), reply.header("Age")) {
        (Some("HIT"), Some(age)) => format!(", from the cache, {age} s old"),
        (Some("HIT"), None) => ", from the cache".to_owned(),
        _ => String::new(),
    }
}

async fn local_dns(stage: &mut Stage) {
    let expected = stage.plan.service_ports(WEB, FIRST);
    by_dns(stage, &dns_name(WEB, None), &expected).await;
}

async fn remote_dns(stage: &mut Stage) {
    let expected = stage.plan.service_ports(BILLING, SECOND);
    by_dns(stage, &dns_name(BILLING, Some(SECOND)), &expected).await;
}

async fn by_dns(stage: &mut Stage, name: &str, expected: &[u16]) {
    match dig::srv(stage.home().dns, name, PATIENCE).await {
        Ok(found) if found.code == 0 => {
            let text = format!("{name} {}", on_ports(&found.ports));
            // Some of the instances may be down because somebody pressed a key.
            stage.tell(
                found.ports.iter().all(|port| expected.contains(port)),
                "DNS",
                &text,
                Some(found.took),
            );
        }
        Ok(found) => stage.tell(false, "DNS", &format!("{name}: code {}", found.code), None),
        Err(error) => stage.tell(false, "DNS", &format!("{name}: {error}"), None),
    }
}

/// Stops the first instance of web, or starts it again, and waits for DNS and for a waiting program to hear of it.
pub(super) async fn instance(stage: &mut Stage) -> anyhow::Result<()> {
    let http = stage.home().http;
    let before = ask::get(http, &health(WEB, ""), &[], PATIENCE).await;
    let Some(web) = stage.instances.first_mut() else { return Ok(()) };
    let (id, address, stops) = (web.id.clone(), web.address, web.is_running());
    let (verb, seen) = if stops {
        web.stop().await;
        ("stopped", "gone from")
    } else {
        web.start().await?;
        ("started", "back in")
    };
    stage.screen.heading(&format!("{id} at {address} is {verb}"));
    let name = dns_name(WEB, None);
    let is_so = |_: &Plan, view: &View| view.ports(FIRST, &name).contains(&address.port()) != stops;
    let what = format!("waiting for {id} to be {seen} DNS");
    let (woken, waited) = tokio::join!(next_change(http, before), stage.wait(&what, ACT_WAIT, is_so));
    match waited? {
        Some(waited) => stage.tell(true, "DNS", &format!("{id} is {seen} {name}"), Some(waited)),
        None => {
            stage.tell(false, "DNS", &format!("{id} is not {seen} {name} after {}", duration(ACT_WAIT)), None)
        }
    }
    match woken {
        Ok(reply) => {
            let text = format!(
                "a program that waited for a change was told: {}",
                counted(reply.count(), "instance")
            );
            stage.tell(true, "HTTP", &text, Some(reply.took));
        }
        Err(error) => stage.tell(
            false,
            "HTTP",
            &format!("a program that waited for a change was not told: {error}"),
            None,
        ),
    }
    Ok(())
}

/// The first answer that lists more or fewer instances of web than `before`.
async fn next_change(http: SocketAddr, before: io::Result<Reply>) -> io::Result<Reply> {
    let began = Instant::now();
    let before = before?;
    let mut index = before.header("X-Consul-Index").unwrap_or("1").to_owned();
    loop {
        let target = health(WEB, &format!("&wait={}s&index={index}", ACT_WAIT.as_secs()));
        let mut reply = ask::get(http, &target, &[], ACT_WAIT + PATIENCE).await?;
        if reply.count() != before.count() {
            reply.took = began.elapsed();
            return Ok(reply);
        }
        if began.elapsed() > ACT_WAIT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        index = reply.header("X-Consul-Index").unwrap_or("1").to_owned();
    }
}

/// Cuts the link between the datacenters, or heals it.
pub(super) async fn link(stage: &mut Stage) -> anyhow::Result<()> {
    if stage.link.is_cut() { heal(stage).await } else { cut(stage).await }
}

async fn cut(stage: &mut Stage) -> anyhow::Result<()> {
    stage.link.cut();
    stage.screen.heading(&format!("The link between {FIRST} and {SECOND} is cut"));
    let http = stage.home().http;
    match ask::get(http, &health(BILLING, &format!("&dc={SECOND}")), &[], PATIENCE).await {
        Ok(reply) => {
            let text = format!("?dc={SECOND} fails: {} {}", reply.status, reply.body.trim());
            stage.tell(reply.status >= 500 && reply.took <= FAILURE_MAX, "HTTP", &text, Some(reply.took));
        }
        Err(error) => stage.tell(false, "HTTP", &format!("?dc={SECOND}: {error}"), None),
    }
    let (name, value) = old_is_fine();
    let target = health(BILLING, &format!("&dc={SECOND}&cached"));
    let expected = plan_count(stage, BILLING, SECOND);
    remote_dns(stage).await;
    local_dns(stage).await;
    stage.wait("waiting for the cached answer to grow older", CUT_WAIT, |_, _| false).await?;
    let reply = ask::get(http, &target, &[(name, &value)], PATIENCE).await;
    told(stage, "HTTP cached", &format!("billing of {SECOND}"), &reply, expected);
    Ok(())
}

async fn heal(stage: &mut Stage) -> anyhow::Result<()> {
    stage.link.heal();
    stage.screen.heading(&format!("The link between {FIRST} and {SECOND} is healed"));
    let began = Instant::now();
    let http = stage.home().http;
    loop {
        let reply = ask::get(http, &health(BILLING, &format!("&dc={SECOND}")), &[], PATIENCE).await;
        if reply.is_ok_and(|reply| reply.status == 200) {
            let text = format!("?dc={SECOND} answers again");
            stage.tell(true, "HTTP", &text, Some(began.elapsed()));
            break;
        }
        if began.elapsed() > ACT_WAIT {
            stage.tell(
                false,
                "HTTP",
                &format!("?dc={SECOND} does not answer after {}", duration(ACT_WAIT)),
                None,
            );
            break;
        }
        stage.screen.waiting(&format!("waiting for {SECOND}"), began.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    match stage
        .wait("waiting for the datacenters to see each other", ACT_WAIT, |_, view| view.is_joined())
        .await?
    {
        Some(_) => stage.tell(true, "federation", "both see each other again", Some(began.elapsed())),
        None => stage.tell(false, "federation", "they do not see each other", None),
    }
    Ok(())
}

/// Kills the leader of the first datacenter, waits for another one, and starts it again.
pub(super) async fn leader(stage: &mut Stage) -> anyhow::Result<()> {
    let Some(killed) = stage.view.leaders.get(FIRST).cloned() else {
        stage.tell(false, FIRST, "has no leader that could be killed; try again", None);
        return Ok(());
    };
    stage.process(&killed)?.kill().await?;
    stage.screen.heading(&format!("{killed}, which leads {FIRST}, is killed"));
    if stage.plan.servers(FIRST).count() > 1 {
        succession(stage, &killed).await?;
    } else {
        stage.screen.trouble(FIRST, "has no other server that could lead");
    }
    stage.process(&killed)?.start()?;
    let (name, expected) = (dns_name(WEB, None), running_webs(stage));
    let is_so = |plan: &Plan, view: &View| {
        let is_offered = view.ports(FIRST, &name) == expected;
        assembled(plan, view, FIRST).is_some() && view.informed.contains(&killed) && is_offered
    };
    match stage.wait(&format!("waiting for {killed} to be back"), ACT_WAIT, is_so).await? {
        Some(took) => {
            let text = format!("{killed} was started again and is back, with its instance");
            stage.tell(true, FIRST, &text, Some(took));
        }
        None => stage.tell(false, FIRST, &format!("{killed} is not back after {}", duration(ACT_WAIT)), None),
    }
    Ok(())
}

/// The ports of the instances of web in the first datacenter that have not been stopped.
fn running_webs(stage: &Stage) -> Vec<u16> {
    let mut ports = stage.plan.service_ports(WEB, FIRST);
    ports.retain(|port| {
        stage.instances.iter().any(|instance| instance.address.port() == *port && instance.is_running())
    });
    ports
}

/// The ports of all instances on the machine of a server.
fn ports_on(stage: &Stage, server: &str) -> Vec<u16> {
    let node = stage.plan.nodes.iter().find(|node| node.name == server);
    let instances = node.into_iter().flat_map(|node| &node.instances);
    instances.map(|instance| instance.address.port()).collect()
}

/// Waits for another leader, counting what DNS does meanwhile, and until the killed one is given up.
async fn succession(stage: &mut Stage, killed: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let (looks, answers) = (Cell::new(0), Cell::new(0));
    let name = dns_name(WEB, None);
    let is_so = |_: &Plan, view: &View| {
        looks.set(looks.get() + 1);
        answers.set(answers.get() + u32::from(!view.ports(FIRST, &name).is_empty()));
        view.leaders.get(FIRST).is_some_and(|leader| leader != killed)
    };
    let waited =
        stage.wait(&format!("waiting for {FIRST} to choose another leader"), ACT_WAIT, is_so).await?;
    match (waited, stage.view.leaders.get(FIRST).cloned()) {
        (Some(waited), Some(new)) => stage.tell(true, FIRST, &format!("{new} leads now"), Some(waited)),
        _ => stage.tell(false, FIRST, &format!("no other leader after {}", duration(ACT_WAIT)), None),
    }
    let (looks, answers) = (looks.get(), answers.get());
    let text = format!("{name} was answered {answers} of {looks} times meanwhile");
    stage.tell(answers == looks, "DNS", &text, None);
    let lost: Vec<u16> = ports_on(stage, killed);
    let is_so = |_: &Plan, view: &View| !view.ports(FIRST, &name).iter().any(|port| lost.contains(port));
    match stage.wait(&format!("waiting for {killed} to be given up"), ACT_WAIT, is_so).await? {
        Some(_) => {
            let text = format!("{killed} is given up: its instance is gone from {name}");
            stage.tell(true, "DNS", &text, Some(began.elapsed()));
        }
        None => stage.tell(false, "DNS", &format!("the instance of {killed} is still in {name}"), None),
    }
    Ok(())
}
