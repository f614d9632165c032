//! DNS: SRV questions for services of ten instances, over UDP with EDNS.
//!
//! Throughput with a window of open questions on each of a few sockets; latency at a fixed rate, where the
//! questions go out whether or not the answers come.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Effort, Readings};
use crate::dataset::{INSTANCES_PER_SERVICE, service_of};
use crate::load::Tally;
use crate::process;
use crate::record::Measure;
use crate::server::Server;

/// Sockets of the throughput run, as `dnsperf -c 8`.
const SOCKETS: usize = 8;
/// Open questions on each socket.
const WINDOW: usize = 32;
/// Services asked for in turn.
const SERVICES: usize = 1000;
/// An answer that has not come by now is lost.
const LOST_AFTER: Duration = Duration::from_millis(500);
/// Size that the questions allow for answers: ten SRV records with their addresses fit.
const EDNS_BYTES: u16 = 4096;
/// Share of the questions that must be answered right; kernel buffers may drop a few under full load.
const RIGHT_MIN: f64 = 0.9999;
/// The type number of SRV.
const SRV: u8 = 33;

const RATE: Measure = Measure::higher("DNS SRV with 10 answers", "queries/s");
const PROCESSOR: Measure = Measure::lower("DNS SRV with 10 answers: processor time", "µs/query");
const LATENCY: Measure = Measure::lower("DNS SRV with 10 answers: p99 at fixed rate", "ms");

pub(super) async fn round(server: &Server, instances: usize, effort: &Effort) -> Result<Readings> {
    let questions = Arc::new(questions(instances));
    let (address, pid) = (server.dns(), server.pid());
    let (duration, rate) = (effort.duration, effort.dns_rate);
    tokio::task::spawn_blocking(move || {
        let before = process::processor_time(pid)?;
        let fast = flood(address, &questions, duration)?;
        let used = process::processor_time(pid)? - before;
        let paced = paced(address, &questions, duration, rate)?;
        let per_query = used.as_secs_f64() * 1e6 / fast.answers as f64;
        Ok(vec![(RATE, fast.per_second()), (PROCESSOR, per_query), (LATENCY, paced.p99_ms())])
    })
    .await?
}

/// Throughput: two threads with half of the sockets each, so that the generator can use both cores.
pub(super) fn flood(address: SocketAddr, questions: &Arc<Vec<Vec<u8>>>, duration: Duration) -> Result<Tally> {
    let threads: Vec<_> = (0..2)
        .map(|number| {
            let questions = questions.clone();
            thread::spawn(move || flood_half(address, &questions, duration, number * questions.len() / 2))
        })
        .collect();
    let mut total = Tally::new();
    for thread in threads {
        let half = thread.join().ok().context("a DNS thread panicked")??;
        total.merge(&half)?;
    }
    let right = 1.0 - total.wrong as f64 / total.answers.max(1) as f64;
    ensure!(right >= RIGHT_MIN, "{} of {} answers were wrong or lost", total.wrong, total.answers);
    total.answers -= total.wrong;
    Ok(total)
}

fn flood_half(address: SocketAddr, questions: &[Vec<u8>], duration: Duration, from: usize) -> Result<Tally> {
    let mut lanes = (0..SOCKETS / 2).map(|_| Lane::open(address)).collect::<Result<Vec<_>>>()?;
    let (mut tally, mut next, started) = (Tally::new(), from, Instant::now());
    while started.elapsed() < duration {
        for lane in &mut lanes {
            while lane.open < WINDOW {
                lane.ask(&questions[next % questions.len()])?;
                next += 1;
            }
            // Half a window is taken before the next lane's turn: the server always has work.
            for _ in 0..WINDOW / 2 {
                lane.answer(&mut tally)?;
            }
        }
    }
    tally.elapsed = started.elapsed();
    Ok(tally)
}

/// Latency: one thread sends by the clock, one receives.
fn paced(address: SocketAddr, questions: &[Vec<u8>], duration: Duration, rate: u32) -> Result<Tally> {
    let socket = connect(address)?;
    let departures = Departures::new();
    let step = Duration::from_secs(1) / rate;
    thread::scope(|scope| {
        let receiver = scope.spawn(|| departures.receive(&socket));
        let mut sent = 0u32;
        while departures.started.elapsed() < duration {
            let due = departures.started + step * sent;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let id = sent as u16;
            let question = with_id(&questions[sent as usize % questions.len()], id);
            departures.note(id);
            socket.send(&question)?;
            sent += 1;
        }
        thread::sleep(LOST_AFTER);
        departures.ended.store(true, Ordering::Relaxed);
        let mut tally = receiver.join().ok().context("the DNS receiver panicked")??;
        ensure!(tally.wrong == 0, "{} of {} paced answers were wrong", tally.wrong, tally.answers);
        // A client would have waited that long for a lost answer before it asked again.
        for _ in tally.answers..u64::from(sent) {
            tally.count(LOST_AFTER, false);
        }
        Ok(tally)
    })
}

/// When each question left, by its id, in nanoseconds since the start.
struct Departures {
    started: Instant,
    nanos: Vec<AtomicU64>,
    ended: AtomicBool,
}

impl Departures {
    fn new() -> Self {
        let nanos = (0..=u16::MAX).map(|_| AtomicU64::new(0)).collect();
        Self { started: Instant::now(), nanos, ended: AtomicBool::new(false) }
    }

    fn note(&self, id: u16) {
        self.nanos[usize::from(id)].store(self.started.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    fn receive(&self, socket: &UdpSocket) -> Result<Tally> {
        let (mut tally, mut buffer) = (Tally::new(), [0; 4096]);
        while !self.ended.load(Ordering::Relaxed) {
            let Ok(length) = socket.recv(&mut buffer) else { continue };
            let now = self.started.elapsed();
            let id = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
            let left = Duration::from_nanos(self.nanos[id].load(Ordering::Relaxed));
            tally.count(now.saturating_sub(left), is_right(&buffer[..length]));
        }
        tally.elapsed = self.started.elapsed();
        Ok(tally)
    }
}

/// One socket with its open questions.
struct Lane {
    socket: UdpSocket,
    open: usize,
    next_id: u16,
}

impl Lane {
    fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self { socket: connect(address)?, open: 0, next_id: 0 })
    }

    fn ask(&mut self, question: &[u8]) -> Result<()> {
        self.socket.send(&with_id(question, self.next_id))?;
        self.next_id = self.next_id.wrapping_add(1);
        self.open += 1;
        Ok(())
    }

    /// Takes one answer; when none comes in time, everything open counts as lost.
    fn answer(&mut self, tally: &mut Tally) -> Result<()> {
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                self.open = self.open.saturating_sub(1);
                tally.count(Duration::ZERO, is_right(&buffer[..length]));
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                tally.answers += self.open as u64;
                tally.wrong += self.open as u64;
                self.open = 0;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn connect(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(LOST_AFTER))?;
    Ok(socket)
}

/// An answer to our question: no error, not truncated, ten records.
fn is_right(message: &[u8]) -> bool {
    let truncated = message.get(2).is_none_or(|flags| flags & 0x02 != 0);
    let code = message.get(3).map(|flags| flags & 0x0f);
    let count = message.get(6..8).map(|count| usize::from(u16::from_be_bytes([count[0], count[1]])));
    !truncated && code == Some(0) && count == Some(INSTANCES_PER_SERVICE)
}

fn with_id(question: &[u8], id: u16) -> Vec<u8> {
    let mut question = question.to_vec();
    question[..2].copy_from_slice(&id.to_be_bytes());
    question
}

fn questions(instances: usize) -> Vec<Vec<u8>> {
    let services = (instances / INSTANCES_PER_SERVICE).min(SERVICES);
    (0..services).map(|service| question(&service_of(service * INSTANCES_PER_SERVICE), None)).collect()
}

/// A question without id: one SRV query and an EDNS record that allows long answers.
pub(super) fn question(service: &str, datacenter: Option<&str>) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in [Some(service), Some("service"), datacenter, Some("consul")].into_iter().flatten() {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, SRV, 0, 1]);
    message.extend_from_slice(&[0, 0, 41]);
    message.extend_from_slice(&EDNS_BYTES.to_be_bytes());
    message.extend_from_slice(&[0; 6]);
    message
}
