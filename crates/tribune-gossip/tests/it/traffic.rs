//! How much is sent, and how fast news spreads, in pools of 50 and 200. Prints its numbers: run it with
//! `cargo test -p tribune-gossip --test it traffic -- --nocapture`.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tribune_gossip::{Timing, UserEvent};

use crate::fabric::{Fabric, Host};
use crate::support::{alive, eventually_within};

async fn measure(count: u16) -> f64 {
    let fabric = Fabric::new(u64::from(count));
    let start = Instant::now();
    let hosts: Vec<Host> = fabric.hosts(count, &Timing::lan()).await;
    let joined = start.elapsed();
    let all = usize::from(count);
    eventually_within(Duration::from_secs(60), "all know all", || {
        hosts.iter().all(|host| alive(&host.pool) == all)
    })
    .await;
    let known = start.elapsed();
    // Until the news of the joins has been passed on as often as it is.
    sleep(Duration::from_secs(30)).await;

    let before = fabric.traffic();
    let minutes = Duration::from_secs(120);
    sleep(minutes).await;
    let after = fabric.traffic();
    let per_node = |now: u64, then: u64| (now - then) as f64 / minutes.as_secs_f64() / f64::from(count);
    let packets = per_node(after.packets, before.packets);
    let packet_bytes = per_node(after.packet_bytes, before.packet_bytes);
    let exchange_bytes = per_node(after.exchange_bytes, before.exchange_bytes);

    let fired = Instant::now();
    hosts[0].pool.fire(UserEvent::new("id", "deploy", b"x".to_vec())).await.expect("it starts");
    eventually_within(Duration::from_secs(60), "all have the event", || {
        hosts.iter().all(|host| !host.pool.events().is_empty())
    })
    .await;
    let event = fired.elapsed();

    println!(
        "{count} members: joined one after the other in {:.2} s, all know all after {:.2} s; idle per node and \
         second: {packets:.2} packets, {packet_bytes:.0} B in packets, {exchange_bytes:.0} B in exchanges; an event \
         is everywhere after {:.2} s",
        joined.as_secs_f64(),
        known.as_secs_f64(),
        event.as_secs_f64(),
    );
    for mut host in hosts {
        if let Some(running) = host.running.take() {
            running.stop().await;
        }
    }
    packet_bytes + exchange_bytes
}

#[tokio::test(start_paused = true)]
async fn traffic_of_fifty() {
    let bytes = measure(50).await;
    assert!(bytes < 2_000.0, "{bytes} B per second and node");
}

#[tokio::test(start_paused = true)]
async fn traffic_of_two_hundred() {
    let bytes = measure(200).await;
    assert!(bytes < 4_000.0, "{bytes} B per second and node");
}
