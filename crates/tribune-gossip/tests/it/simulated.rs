//! Many pools on a network that loses, delays and is cut; hours of it in seconds, on paused time.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tribune_gossip::{Brake, Status, Timing, UserEvent};

use crate::fabric::{Fabric, Host};
use crate::support::{alive, eventually_within, status};

fn all_know(hosts: &[Host], count: usize) -> bool {
    hosts.iter().filter(|host| host.running.is_some()).all(|host| alive(&host.pool) == count)
}

async fn settled(hosts: &[Host], seconds: u64) {
    let count = hosts.iter().filter(|host| host.running.is_some()).count();
    eventually_within(Duration::from_secs(seconds), "all know all", || all_know(hosts, count)).await;
}

async fn stop(hosts: Vec<Host>) {
    for mut host in hosts {
        if let Some(running) = host.running.take() {
            running.stop().await;
        }
    }
}

/// How often any host took any other for failed, looked at ten times a second.
async fn false_failures(hosts: &[Host], time: Duration) -> BTreeSet<(String, String)> {
    let mut seen = BTreeSet::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(Duration::from_millis(100)).await;
        for host in hosts.iter().filter(|host| host.running.is_some()) {
            for member in host.pool.members().iter().filter(|member| member.status == Status::Failed) {
                seen.insert((host.name.clone(), member.name.clone()));
            }
        }
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn fifty_members_know_each_other_and_a_death_within_nine_seconds() {
    let fabric = Fabric::new(1);
    let mut hosts = fabric.hosts(50, &Timing::lan()).await;
    settled(&hosts, 10).await;
    let mut times = Vec::new();
    for victim in [7, 23, 41] {
        sleep(Duration::from_secs(20)).await;
        let name = hosts[victim].name.clone();
        fabric.kill(&mut hosts[victim]);
        let died = Instant::now();
        eventually_within(Duration::from_secs(15), "its death is known", || {
            let living = hosts.iter().filter(|host| host.running.is_some());
            living.into_iter().all(|host| status(&host.pool, &name) == Some(Status::Failed))
        })
        .await;
        times.push(died.elapsed().as_secs_f64());
    }
    println!("deaths of 50 known everywhere after {times:.1?} s");
    assert!(times.iter().all(|time| (3.0..=9.5).contains(time)), "{times:?}");
    stop(hosts).await;
}

#[tokio::test(start_paused = true)]
async fn a_wave_of_joins_is_a_few_lists() {
    let fabric = Fabric::new(13);
    let mut hosts = Vec::new();
    for number in 0..50 {
        hosts.push(fabric.host(number, Timing::lan()).await);
    }
    let first = hosts[0].pool.clone();
    let (start, before) = (Instant::now(), *first.changes().borrow());
    let mut joins = tokio::task::JoinSet::new();
    for host in &hosts[1..] {
        let (pool, to) = (host.pool.clone(), hosts[0].address);
        joins.spawn(async move { pool.join(&[to]).await.joined });
    }
    eventually_within(Duration::from_secs(1), "the first knows all", || alive(&first) == 50).await;
    let lists = u128::from(*first.changes().borrow() - before);
    let pauses = start.elapsed().as_millis() / 10;
    assert!(lists <= pauses + 1, "{lists} lists in {pauses} pauses");
    assert!(joins.join_all().await.into_iter().all(|joined| joined == 1));
    stop(hosts).await;
}

#[tokio::test(start_paused = true)]
async fn two_hundred_members_know_each_other_and_a_death() {
    let fabric = Fabric::new(2);
    let mut hosts = fabric.hosts(200, &Timing::lan()).await;
    settled(&hosts, 20).await;
    sleep(Duration::from_secs(10)).await;
    let name = hosts[100].name.clone();
    fabric.kill(&mut hosts[100]);
    let died = Instant::now();
    eventually_within(Duration::from_secs(20), "its death is known", || {
        let living = hosts.iter().filter(|host| host.running.is_some());
        living.into_iter().all(|host| status(&host.pool, &name) == Some(Status::Failed))
    })
    .await;
    println!("death of one of 200 known everywhere after {:.1} s", died.elapsed().as_secs_f64());
    stop(hosts).await;
}

#[tokio::test(start_paused = true)]
async fn one_packet_in_ten_lost_takes_nobody_for_dead() {
    let fabric = Fabric::new(3);
    let hosts = fabric.hosts(50, &Timing::lan()).await;
    settled(&hosts, 10).await;
    fabric.set_loss(0.1);
    let seen = false_failures(&hosts, Duration::from_secs(240)).await;
    assert_eq!(seen, BTreeSet::new());
    assert!(hosts.iter().all(|host| host.pool.brake() == Brake::Off));
    stop(hosts).await;
}

#[tokio::test(start_paused = true)]
async fn a_death_is_seen_through_loss_and_events_arrive() {
    let fabric = Fabric::new(4);
    let mut hosts = fabric.hosts(20, &Timing::lan()).await;
    fabric.set_loss(0.2);
    settled(&hosts, 60).await;
    for (number, host) in hosts.iter().take(5).enumerate() {
        let event = UserEvent::new(format!("id-{number}"), "deploy", b"x".to_vec());
        host.pool.fire(event).await.unwrap();
    }
    let name = hosts[3].name.clone();
    sleep(Duration::from_secs(5)).await;
    fabric.kill(&mut hosts[3]);
    eventually_within(Duration::from_secs(60), "death and events are known", || {
        let mut living = hosts.iter().filter(|host| host.running.is_some());
        living.all(|host| status(&host.pool, &name) == Some(Status::Failed) && host.pool.events().len() == 5)
    })
    .await;
    stop(hosts).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_hears_nothing_takes_nobody_with_it() {
    let fabric = Fabric::new(5);
    let hosts = fabric.hosts(20, &Timing::lan()).await;
    settled(&hosts, 10).await;
    let deaf = hosts[0].address;
    for host in &hosts[1..] {
        fabric.cut(host.address, deaf);
    }
    let seen = false_failures(&hosts[1..], Duration::from_secs(60)).await;
    let victims: BTreeSet<&str> = seen.iter().map(|(_, victim)| victim.as_str()).collect();
    assert_eq!(victims, BTreeSet::from([hosts[0].name.as_str()]), "only the deaf one is given up");
    fabric.heal();
    settled(&hosts, 60).await;
    stop(hosts).await;
}

#[tokio::test(start_paused = true)]
async fn a_link_cut_between_two_of_many_harms_nobody() {
    let fabric = Fabric::new(6);
    let hosts = fabric.hosts(10, &Timing::lan()).await;
    settled(&hosts, 10).await;
    fabric.cut(hosts[1].address, hosts[2].address);
    let seen = false_failures(&hosts, Duration::from_secs(120)).await;
    assert_eq!(seen, BTreeSet::new(), "others can reach both");
    stop(hosts).await;
}

#[tokio::test(start_paused = true)]
async fn a_split_puts_on_the_brake_and_heals() {
    let fabric = Fabric::new(7);
    let hosts = fabric.hosts(20, &Timing::lan()).await;
    settled(&hosts, 10).await;
    for one in &hosts[..8] {
        for two in &hosts[8..] {
            fabric.cut(one.address, two.address);
            fabric.cut(two.address, one.address);
        }
    }
    eventually_within(Duration::from_secs(60), "both sides put on the brake", || {
        hosts.iter().all(|host| matches!(host.pool.brake(), Brake::On { .. }))
    })
    .await;
    sleep(Duration::from_secs(30)).await;
    fabric.heal();
    settled(&hosts, 60).await;
    eventually_within(Duration::from_secs(5), "the brake is released", || {
        hosts.iter().all(|host| host.pool.brake() == Brake::Off)
    })
    .await;
    stop(hosts).await;
}

#[tokio::test(start_paused = true)]
async fn a_wan_link_that_heals_is_back_within_five_seconds() {
    let fabric = Fabric::new(8);
    let hosts = fabric.hosts(6, &Timing::wan()).await;
    settled(&hosts, 20).await;
    for host in &hosts[1..] {
        fabric.cut(host.address, hosts[0].address);
        fabric.cut(hosts[0].address, host.address);
    }
    eventually_within(Duration::from_secs(60), "it is given up", || {
        hosts[1..].iter().all(|host| status(&host.pool, &hosts[0].name) == Some(Status::Failed))
    })
    .await;
    eventually_within(Duration::from_secs(240), "it gives up the others, later", || {
        alive(&hosts[0].pool) == 1
    })
    .await;
    fabric.heal();
    settled(&hosts, 5).await;
    stop(hosts).await;
}

#[tokio::test(start_paused = true)]
async fn failed_members_are_forgotten_in_time_and_left_ones_earlier() {
    let fabric = Fabric::new(9);
    let mut hosts = Vec::new();
    for number in 0..5 {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        let change = |config: &mut tribune_gossip::Config| {
            (config.reconnect_timeout, config.left_timeout) = (minutes(72), minutes(24));
        };
        hosts.push(fabric.host_with(number, Timing::wan(), change).await);
        hosts[usize::from(number)].pool.join(&[hosts[0].address]).await;
    }
    settled(&hosts, 20).await;
    let (failed, left) = (hosts[3].name.clone(), hosts[4].name.clone());
    hosts[4].pool.leave().await;
    fabric.kill(&mut hosts[4]);
    fabric.kill(&mut hosts[3]);
    let seen = |name: &str| hosts[..3].iter().map(|host| status(&host.pool, name)).collect::<BTreeSet<_>>();
    let minutes = |count: u64| sleep(Duration::from_secs(count * 60));
    minutes(4).await;
    assert_eq!(seen(&failed), BTreeSet::from([Some(Status::Failed)]));
    assert_eq!(seen(&left), BTreeSet::from([Some(Status::Left)]));
    minutes(22).await;
    assert_eq!(seen(&failed), BTreeSet::from([Some(Status::Failed)]));
    assert_eq!(seen(&left), BTreeSet::from([None]));
    minutes(50).await;
    assert_eq!(seen(&failed), BTreeSet::from([None]));
    assert!(all_know(&hosts, 3));
    stop(hosts).await;
}

/// What the members of a pool are, as one host sees it.
fn view(host: &Host) -> Vec<(String, Status)> {
    host.pool.members().iter().map(|member| (member.name.clone(), member.status)).collect()
}

#[tokio::test(start_paused = true)]
async fn replayed_packets_change_nothing() {
    let fabric = Fabric::new(11);
    fabric.record();
    let mut hosts = fabric.hosts(6, &Timing::lan()).await;
    settled(&hosts, 10).await;
    hosts[0].pool.fire(UserEvent::new("id", "deploy", b"x".to_vec())).await.unwrap();
    hosts[5].pool.leave().await;
    fabric.kill(&mut hosts[5]);
    fabric.kill(&mut hosts[4]);
    sleep(Duration::from_secs(20)).await;
    let before: Vec<_> = hosts[..4].iter().map(view).collect();
    let recorded = fabric.recorded();
    assert!(recorded.len() > 200, "{}", recorded.len());
    for (number, packet) in recorded.iter().enumerate() {
        for host in &hosts[..4] {
            host.pool.receive_packet(packet);
        }
        if number % 20 == 0 {
            sleep(Duration::from_millis(10)).await;
            let now: Vec<_> = hosts[..4].iter().map(view).collect();
            assert_eq!(now, before, "after packet {number}");
        }
    }
    assert!(hosts[..4].iter().all(|host| host.pool.events().len() == 1));
    stop(hosts).await;
}

#[tokio::test(start_paused = true)]
async fn damaged_packets_and_requests_stop_nobody() {
    let fabric = Fabric::new(12);
    fabric.record();
    let hosts = fabric.hosts(4, &Timing::lan()).await;
    settled(&hosts, 10).await;
    sleep(Duration::from_secs(10)).await;
    let mut chance = 1_u64;
    for packet in fabric.recorded() {
        let mut damaged = packet.to_vec();
        for _ in 0..3 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (chance >> 33) as usize % damaged.len();
            damaged[at] = (chance >> 20) as u8;
        }
        hosts[0].pool.receive_packet(&damaged);
        let request = [&[1, 0, 0, 3][..], b"wan", &damaged].concat();
        assert!(!hosts[0].pool.receive_exchange(request.into()).await.is_empty());
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(hosts[0].pool.join(&[hosts[1].address]).await.joined, 1, "it still runs");
    stop(hosts).await;
}

#[tokio::test(start_paused = true)]
async fn members_restart_one_after_the_other_with_a_clock_that_was_set_back() {
    let fabric = Fabric::new(10);
    let mut hosts = fabric.hosts(8, &Timing::lan()).await;
    settled(&hosts, 10).await;
    for number in 1..8 {
        fabric.kill(&mut hosts[usize::from(number)]);
        // Its clock was set back: its generation is not later than before, and it comes back all the same.
        let again = fabric.host(number, Timing::lan()).await;
        assert_eq!(again.pool.join(&[hosts[0].address]).await.joined, 1);
        hosts[usize::from(number)] = again;
    }
    settled(&hosts, 30).await;
    stop(hosts).await;
}
