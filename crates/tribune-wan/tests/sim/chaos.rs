//! What goes wrong, at random.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep};

use crate::world::World;

/// Does one bad thing after the other until `end`, or until a promise is broken.
pub(crate) async fn rage(world: &Arc<World>, dice: &mut StdRng, end: Instant) {
    while Instant::now() < end && world.oracle.broken().is_none() {
        sleep(Duration::from_millis(dice.random_range(100..2_500))).await;
        match dice.random_range(0..24) {
            0..4 => cut_datacenters(world, dice),
            4..6 => cut_gateways(world, dice),
            6..9 => isolate(world, dice),
            9..11 => mend_some(world, dice),
            11 => kill(world, dice),
            // Some runs never see all links mended, so that the dead are taken for dead.
            12 => {
                if world.seed.is_multiple_of(2) {
                    mend_all(world)
                }
            }
            13..15 => break_lines(world, dice),
            15..17 => kill(world, dice),
            17..20 => restart_some(world, dice).await,
            20 => trouble(world, dice),
            21..23 => be_slow(world, dice),
            _ => lose_leader(world, dice),
        }
    }
}

fn any(world: &World, dice: &mut StdRng) -> usize {
    dice.random_range(0..world.sites.len())
}

/// Cuts everything from one datacenter to another, or both ways.
fn cut_datacenters(world: &World, dice: &mut StdRng) {
    let (one, other, is_one_way) = (any(world, dice), any(world, dice), dice.random());
    world.oracle.note(&format!("cut dc{one} {} dc{other}", if is_one_way { "->" } else { "-" }));
    let (ones, others) = (world.addresses(one), world.addresses(other));
    cut_all(world, &ones, &others, is_one_way);
}

fn cut_all(world: &World, ones: &[SocketAddr], others: &[SocketAddr], is_one_way: bool) {
    world.network.cut(|cuts| {
        for one in ones {
            for other in others.iter().filter(|other| *other != one) {
                cuts.insert((*one, *other));
                if !is_one_way {
                    cuts.insert((*other, *one));
                }
            }
        }
    });
}

fn cut_gateways(world: &World, dice: &mut StdRng) {
    let plans = &world.plans;
    let (one, other) = (dice.random_range(0..plans.len()), dice.random_range(0..plans.len()));
    let is_one_way = dice.random();
    world.oracle.note(&format!("cut gateway {one} from {other}, one way: {is_one_way}"));
    cut_all(world, &[plans[one].address], &[plans[other].address], is_one_way);
}

/// Cuts a datacenter off from all others.
fn isolate(world: &World, dice: &mut StdRng) {
    let alone = any(world, dice);
    world.oracle.note(&format!("dc{alone} is alone"));
    let others = (0..world.sites.len()).filter(|other| *other != alone);
    let others: Vec<SocketAddr> = others.flat_map(|other| world.addresses(other)).collect();
    cut_all(world, &world.addresses(alone), &others, false);
}

fn mend_some(world: &World, dice: &mut StdRng) {
    let healed = any(world, dice);
    world.oracle.note(&format!("the links of dc{healed} are mended"));
    let inside: BTreeSet<SocketAddr> = world.addresses(healed).into_iter().collect();
    world.network.cut(|cuts| cuts.retain(|(from, to)| !inside.contains(from) && !inside.contains(to)));
}

fn mend_all(world: &World) {
    world.oracle.note("all links are mended");
    world.network.cut(BTreeSet::clear);
}

fn break_lines(world: &World, dice: &mut StdRng) {
    let (one, other) = (any(world, dice), any(world, dice));
    world.oracle.note(&format!("connections between dc{one} and dc{other} break"));
    for one in world.addresses(one) {
        for other in world.addresses(other) {
            world.network.break_lines(one, other);
        }
    }
}

fn kill(world: &World, dice: &mut StdRng) {
    world.kill(dice.random_range(0..world.plans.len()), dice.random());
}

async fn restart_some(world: &World, dice: &mut StdRng) {
    for number in 0..world.plans.len() {
        if !world.is_alive(number) && dice.random_range(0..4) > 0 {
            world.start(number).await;
        }
    }
}

fn trouble(world: &World, dice: &mut StdRng) {
    let lost = [0, 20, 150][dice.random_range(0..3)];
    let in_pieces = [0, 100, 400][dice.random_range(0..3)];
    world.oracle.note(&format!("of a thousand packets {lost} get lost, {in_pieces} answers come in pieces"));
    world.network.trouble(lost, in_pieces);
}

fn be_slow(world: &World, dice: &mut StdRng) {
    let (number, is_slow) = (any(world, dice), dice.random());
    world.oracle.note(&format!("dc{number} is slow: {is_slow}"));
    world.sites[number].set_slow(is_slow);
}

fn lose_leader(world: &World, dice: &mut StdRng) {
    let (number, is_leaderless) = (any(world, dice), dice.random());
    world.oracle.note(&format!("dc{number} has no leader: {is_leaderless}"));
    world.sites[number].set_leaderless(is_leaderless);
}

/// Makes everything good again.
pub(crate) async fn mend(world: &World) {
    mend_all(world);
    world.network.trouble(0, 0);
    for site in &world.sites {
        site.set_slow(false);
        site.set_leaderless(false);
    }
    for number in 0..world.plans.len() {
        if !world.is_alive(number) {
            world.start(number).await;
        }
    }
}
