//! Where nodes lie in the network: places in a space made up so that the distance of two places is the round trip
//! time between their nodes. Each node moves its own place with every measurement (Vivaldi), as in Consul.
//!
//! All figures are seconds. A place is a point, a height above it (the way from the node to the network, which it
//! has to go whomever it talks to) and a correction for what no place explains.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::dice::Dice;
use crate::ids::NodeName;

/// Dimensions of the space.
pub const DIMENSIONS: usize = 8;

/// What a node that knows nothing says of its own error; no error grows beyond.
const ERROR_MAX: f64 = 1.5;
/// How much one measurement may change the error.
const ERROR_SHARE: f64 = 0.25;
/// How much one measurement may change the place.
const PLACE_SHARE: f64 = 0.25;
/// Least height.
const HEIGHT_MIN: f64 = 10.0e-6;
/// What counts as nothing.
const ZERO: f64 = 1.0e-6;
/// How many measurements the correction is an average of.
const CORRECTIONS: usize = 20;
/// Of so many measurements of one peer the middle one counts.
const FILTERED: usize = 3;
/// How strongly all places are drawn to the origin, so that they do not drift away together.
const GRAVITY: f64 = 150.0;
/// Longest round trip that is believed.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(10);
/// How many peers a node remembers measurements of.
const PEERS_MAX: usize = 1024;

/// The place of a node. Two of them are equal when they are so bit for bit.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Coordinate {
    /// The point.
    pub vec: [f64; DIMENSIONS],
    /// How much it can be trusted; lower is better.
    pub error: f64,
    /// Correction, possibly negative.
    pub adjustment: f64,
    /// Height above the point.
    pub height: f64,
}

/// A node and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The node.
    pub node: NodeName,
    /// Where it lies.
    pub coordinate: Coordinate,
}

impl Coordinate {
    /// The place of a node that has measured nothing.
    pub fn unknown() -> Self {
        Self { vec: [0.0; DIMENSIONS], error: ERROR_MAX, adjustment: 0.0, height: HEIGHT_MIN }
    }

    /// A place at this distance from every other one that lies at the origin: all that one observer can say of
    /// a node when nobody else measures it.
    pub fn at_distance(round_trip: Duration) -> Self {
        let height = (round_trip.as_secs_f64() - HEIGHT_MIN).max(HEIGHT_MIN);
        Self { height, ..Self::unknown() }
    }

    /// Whether all of it are numbers.
    pub fn is_valid(&self) -> bool {
        self.figures().all(f64::is_finite)
    }

    /// The estimated round trip time between two nodes.
    pub fn distance(&self, other: &Self) -> Duration {
        let seconds = self.seconds_to(other);
        Duration::try_from_secs_f64(seconds).unwrap_or(ROUND_TRIP_MAX)
    }

    fn seconds_to(&self, other: &Self) -> f64 {
        let plain = self.plain_seconds_to(other);
        let corrected = plain + self.adjustment + other.adjustment;
        if corrected > 0.0 { corrected } else { plain }
    }

    fn plain_seconds_to(&self, other: &Self) -> f64 {
        magnitude(&difference(&self.vec, &other.vec)) + self.height + other.height
    }

    fn figures(&self) -> impl Iterator<Item = f64> + '_ {
        self.vec.iter().copied().chain([self.error, self.adjustment, self.height])
    }

    /// Moves the place away from another, or towards it when the force is negative.
    fn push(&mut self, force: f64, from: &Self, chance: u64) {
        let away = difference(&self.vec, &from.vec);
        let length = magnitude(&away);
        let direction = match length > ZERO {
            true => away.map(|part| part / length),
            false => any_direction(chance),
        };
        for (part, along) in self.vec.iter_mut().zip(direction) {
            *part += along * force;
        }
        if length > ZERO {
            self.height = ((self.height + from.height) * force / length + self.height).max(HEIGHT_MIN);
        }
    }
}

impl PartialEq for Coordinate {
    fn eq(&self, other: &Self) -> bool {
        self.figures().map(f64::to_bits).eq(other.figures().map(f64::to_bits))
    }
}

impl Eq for Coordinate {}

/// Orders by distance from a place; what has no place of its own comes last.
pub fn by_distance(from: &Coordinate, a: Option<&Coordinate>, b: Option<&Coordinate>) -> Ordering {
    let seconds = |place: Option<&Coordinate>| place.map_or(f64::INFINITY, |place| from.seconds_to(place));
    seconds(a).total_cmp(&seconds(b))
}

/// A node that finds its own place.
#[derive(Debug, Clone)]
pub struct Locator {
    place: Coordinate,
    corrections: [f64; CORRECTIONS],
    next_correction: usize,
    latest: BTreeMap<SmolStr, Vec<f64>>,
}

impl Default for Locator {
    fn default() -> Self {
        Self::at(Coordinate::unknown())
    }
}

impl Locator {
    /// A node that takes up where it was.
    pub fn at(place: Coordinate) -> Self {
        Self { place, corrections: [0.0; CORRECTIONS], next_correction: 0, latest: BTreeMap::new() }
    }

    /// Where the node is.
    pub fn place(&self) -> Coordinate {
        self.place
    }

    /// Takes a measurement into account: the round trip to a peer, and where that says it is. `chance` is any
    /// number; it chooses the direction for two nodes that are in one place. Gives the new place.
    pub fn measured(
        &mut self,
        peer: &str,
        peer_place: &Coordinate,
        round_trip: Duration,
        chance: u64,
    ) -> Coordinate {
        if peer_place.is_valid() && round_trip <= ROUND_TRIP_MAX {
            let seconds = self.filtered(peer, round_trip.as_secs_f64());
            self.attract(peer_place, seconds, chance);
            self.correct(peer_place, seconds);
            self.fall_back(chance);
            if !self.place.is_valid() {
                *self = Self::default();
            }
        }
        self.place
    }

    /// Forgets the measurements of peers that are gone.
    pub fn keep_peers(&mut self, keeps: impl Fn(&str) -> bool) {
        self.latest.retain(|peer, _| keeps(peer));
    }

    /// The middle one of the last measurements of this peer.
    fn filtered(&mut self, peer: &str, seconds: f64) -> f64 {
        if !self.latest.contains_key(peer) && self.latest.len() >= PEERS_MAX {
            return seconds;
        }
        let latest = self.latest.entry(peer.into()).or_default();
        latest.push(seconds);
        if latest.len() > FILTERED {
            latest.remove(0);
        }
        let mut sorted = latest.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    fn attract(&mut self, peer: &Coordinate, seconds: f64, chance: u64) {
        let distance = self.place.seconds_to(peer);
        let seconds = seconds.max(ZERO);
        let wrongness = (distance - seconds).abs() / seconds;
        let weight = self.place.error / (self.place.error + peer.error).max(ZERO);
        let share = ERROR_SHARE * weight;
        self.place.error = (share * wrongness + self.place.error * (1.0 - share)).min(ERROR_MAX);
        self.place.push(PLACE_SHARE * weight * (seconds - distance), peer, chance);
    }

    fn correct(&mut self, peer: &Coordinate, seconds: f64) {
        self.corrections[self.next_correction] = seconds - self.place.plain_seconds_to(peer);
        self.next_correction = (self.next_correction + 1) % CORRECTIONS;
        self.place.adjustment = self.corrections.iter().sum::<f64>() / (2.0 * CORRECTIONS as f64);
    }

    fn fall_back(&mut self, chance: u64) {
        let origin = Coordinate::unknown();
        let distance = origin.seconds_to(&self.place);
        self.place.push(-(distance / GRAVITY).powi(2), &origin, chance);
    }
}

fn difference(a: &[f64; DIMENSIONS], b: &[f64; DIMENSIONS]) -> [f64; DIMENSIONS] {
    std::array::from_fn(|at| a[at] - b[at])
}

fn magnitude(vec: &[f64; DIMENSIONS]) -> f64 {
    vec.iter().map(|part| part * part).sum::<f64>().sqrt()
}

/// A direction drawn from a number, one draw per dimension.
fn any_direction(chance: u64) -> [f64; DIMENSIONS] {
    let mut dice = Dice(chance);
    let drawn: [f64; DIMENSIONS] =
        std::array::from_fn(|_| f64::from((dice.next() >> 32) as u32) / f64::from(u32::MAX) - 0.5);
    let length = magnitude(&drawn);
    if length > ZERO {
        drawn.map(|part| part / length)
    } else {
        std::array::from_fn(|at| f64::from(u8::from(at == 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(first: f64, height: f64, adjustment: f64) -> Coordinate {
        let mut place = Coordinate { height, adjustment, ..Coordinate::unknown() };
        place.vec[0] = first;
        place
    }

    #[test]
    fn a_distance_is_points_heights_and_corrections() {
        let (a, b) = (place(0.010, 0.001, 0.0), place(-0.020, 0.002, 0.0));
        assert_eq!(a.distance(&b).as_micros(), 33_000);
        let (a, b) = (place(0.010, 0.001, 0.002), place(-0.020, 0.002, -0.005));
        assert_eq!(a.distance(&b).as_micros(), 30_000);
        // A correction that would turn the time back is left out.
        let a = place(0.010, 0.001, -1.0);
        assert_eq!(a.distance(&b).as_micros(), 33_000);
        let node = Coordinate::unknown();
        assert_eq!(node.distance(&node).as_micros(), 20);
        let far = Coordinate::at_distance(Duration::from_millis(40));
        assert_eq!(far.distance(&node).as_micros(), 40_000);
    }

    /// Nodes on a line, in two towns; each measures all others again and again.
    #[test]
    fn places_come_to_explain_what_is_measured() {
        let true_place = [0.0, 0.001, 0.002, 0.050, 0.051];
        let round_trip =
            |a: usize, b: usize| Duration::from_secs_f64(f64::abs(true_place[a] - true_place[b]) + 0.000_5);
        let mut nodes: Vec<Locator> = true_place.iter().map(|_| Locator::default()).collect();
        for round in 0..400 {
            for a in 0..nodes.len() {
                for b in (0..nodes.len()).filter(|&b| b != a) {
                    let peer = nodes[b].place();
                    let chance = (round * 31 + a * 7 + b) as u64;
                    nodes[a].measured(&b.to_string(), &peer, round_trip(a, b), chance);
                }
            }
        }
        for a in 0..nodes.len() {
            for b in (0..nodes.len()).filter(|&b| b != a) {
                let estimated = nodes[a].place().distance(&nodes[b].place()).as_secs_f64();
                let real = round_trip(a, b).as_secs_f64();
                assert!((estimated - real).abs() < 0.2 * real + 0.001, "{a}-{b}: {estimated} for {real}");
            }
        }
        let from = nodes[0].place();
        let (near, far) = (nodes[1].place(), nodes[3].place());
        assert_eq!(by_distance(&from, Some(&near), Some(&far)), Ordering::Less);
        assert_eq!(by_distance(&from, Some(&far), None), Ordering::Less);
    }

    #[test]
    fn nonsense_moves_nobody() {
        let mut node = Locator::default();
        let broken = place(f64::NAN, 0.0, 0.0);
        assert_eq!(node.measured("p", &broken, Duration::from_millis(5), 1), Coordinate::unknown());
        let peer = Coordinate::unknown();
        assert_eq!(node.measured("p", &peer, Duration::from_secs(11), 1), Coordinate::unknown());
        assert_eq!(broken, broken);
        // Two nodes in one place are moved apart.
        let moved = node.measured("p", &peer, Duration::from_millis(5), 1);
        assert!(moved.is_valid() && moved != Coordinate::unknown());
        for _ in 0..1000 {
            let far = place(1e300, 1e300, 0.0);
            assert!(node.measured("q", &far, Duration::from_millis(5), 3).is_valid());
        }
    }
}
