//! What goes wrong, at random.

use std::rc::Rc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

use crate::world::{SERVERS, World, id, info};

/// Does one bad thing after the other until `end`.
pub(crate) async fn rage(world: &Rc<World>, dice: &mut StdRng, end: Instant) {
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(dice.random_range(10..900))).await;
        match dice.random_range(0..20) {
            0..3 => cut_links(world, dice),
            3 => isolate_one(world, dice),
            4..7 => {
                world.note("links are mended");
                world.fabric.heal();
                trouble(world, dice);
            }
            7..9 => trouble(world, dice),
            9..11 => world.crash(any(dice)).await,
            11 => cut_all_power(world).await,
            12 => world.stop(any(dice)).await,
            13..16 => restart_some(world, dice).await,
            16..19 => change_members(world, dice).await,
            _ => hand_over(world, dice).await,
        }
    }
}

fn any(dice: &mut StdRng) -> usize {
    dice.random_range(1..=SERVERS)
}

fn cut_links(world: &World, dice: &mut StdRng) {
    for _ in 0..dice.random_range(1..4) {
        let (from, to) = (id(any(dice)), id(any(dice)));
        if dice.random() {
            world.note(&format!("cut {from} -> {to}"));
            world.fabric.cut_one_way(&from, &to);
        } else {
            world.note(&format!("cut {from} - {to}"));
            world.fabric.cut(&from, &to);
        }
    }
}

fn isolate_one(world: &World, dice: &mut StdRng) {
    let alone = any(dice);
    world.note(&format!("server {alone} is isolated"));
    for other in (1..=SERVERS).filter(|other| *other != alone) {
        world.fabric.cut(&id(alone), &id(other));
    }
}

fn trouble(world: &World, dice: &mut StdRng) {
    let most = [0, 2, 10, 60][dice.random_range(0..4)];
    let lost = [0, 0, 20, 150][dice.random_range(0..4)];
    world.note(&format!("delay up to {most} ms, {lost} of a thousand lost"));
    world.fabric.delay(Duration::ZERO..Duration::from_millis(most));
    world.fabric.lose(lost);
}

async fn cut_all_power(world: &World) {
    world.note("the power fails everywhere");
    world.crash_all().await;
    for number in 1..=SERVERS {
        world.start(number).await;
    }
}

async fn restart_some(world: &World, dice: &mut StdRng) {
    for number in 1..=SERVERS {
        if world.server(number).is_none() && dice.random_range(0..4) > 0 {
            world.start(number).await;
        }
    }
}

/// Asks any server for a change; it may be refused, which is fine.
async fn change_members(world: &Rc<World>, dice: &mut StdRng) {
    let (asked, whom, step) = (any(dice), any(dice), dice.random_range(0..6));
    let Some(replica) = world.server(asked) else { return };
    let admin = replica.admin();
    let target = id(whom);
    let patience = Duration::from_secs(4);
    let change = async {
        match step {
            0..2 => admin.add_learner(info(whom)).await,
            2..4 => admin.promote(&target).await,
            4 => admin.demote(&target).await,
            _ => admin.remove(&target).await,
        }
    };
    let outcome = tokio::time::timeout(patience, change).await;
    world.note(&format!("step {step} for {target} asked of {asked}: {outcome:?}"));
}

async fn hand_over(world: &World, dice: &mut StdRng) {
    let Some(replica) = world.server(any(dice)) else { return };
    let admin = replica.admin();
    let outcome = tokio::time::timeout(Duration::from_secs(4), admin.transfer_leader(None)).await;
    world.note(&format!("leading is handed over: {outcome:?}"));
}

/// Makes everything good again.
pub(crate) async fn mend(world: &World) {
    world.fabric.heal();
    for number in 1..=SERVERS {
        if world.server(number).is_none() {
            world.start(number).await;
        }
    }
}
