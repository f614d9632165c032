//! Machines of their own: network namespaces on a bridge, with packet filters that cut, thin out or heal the way
//! from one to another. Needs root, iproute2 and nftables.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::client::skip;
use crate::host::Host;

/// Demands namespaces: a test that cannot have them fails instead of being skipped.
const DEMANDED: &str = "TRIBUNE_REQUIRE_NETNS";
/// Networks are 10.192.0.0/24 to 10.255.255.0/24.
const NETWORKS: u32 = 64 * 256;
/// Networks tried before it is taken that something else is wrong than a number in use.
const ATTEMPTS: u32 = 16;
/// Where this machine itself is in each network.
const OWN: u8 = 254;
/// Every packet.
const ALL: u8 = 100;

/// A network of machines; taken apart when dropped. End the programs on it first.
pub struct Network {
    number: u32,
    hosts: Vec<Host>,
    /// How many of a hundred packets are lost from one machine to another.
    losses: Mutex<BTreeMap<(usize, usize), u8>>,
}

impl Network {
    /// Makes a network of `count` machines. Where that is not permitted the test is skipped with a line that says
    /// so, unless `TRIBUNE_REQUIRE_NETNS` makes that a failure.
    pub fn create(count: usize) -> Option<Self> {
        match Self::try_create(count) {
            Ok(network) => Some(network),
            Err(error) => {
                let reason = format!("no network namespaces (root, iproute2, nftables): {error:#}");
                assert!(std::env::var_os(DEMANDED).is_none(), "{reason} ({DEMANDED} demands them)");
                skip(&reason);
                None
            }
        }
    }

    fn try_create(count: usize) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut refused = None;
        for _ in 0..ATTEMPTS {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = std::process::id().wrapping_mul(31).wrapping_add(next) % NETWORKS;
            let bridge = bridge(number);
            match run("ip", &["link", "add", &bridge, "type", "bridge"], "") {
                Ok(()) => return Self { number, hosts: Vec::new(), losses: Mutex::default() }.filled(count),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.context("no network number was tried")?)
    }

    /// Adds the machines; what was made is taken apart again when one cannot be.
    fn filled(mut self, count: usize) -> Result<Self> {
        let (bridge, own) = (bridge(self.number), address(self.number, OWN));
        run("ip", &["-batch", "-"], &format!("addr add {own}/24 dev {bridge}\nlink set {bridge} up\n"))?;
        for at in 0..count {
            let (name, last) = (namespace(self.number, at), u8::try_from(at + 1)?);
            let (near, address) = (format!("tv{}x{at}", self.number), address(self.number, last));
            run("ip", &["netns", "add", &name], "")?;
            let wrapper = ["ip", "netns", "exec", &name].map(str::to_owned).to_vec();
            self.hosts.push(Host { address, wrapper });
            let outside = format!(
                "link add {near} type veth peer name eth0 netns {name}\n\
                 link set {near} master {bridge} up\n"
            );
            run("ip", &["-batch", "-"], &outside)?;
            let inside = format!("addr add {address}/24 dev eth0\nlink set eth0 up\nlink set lo up\n");
            run("ip", &["-n", &name, "-batch", "-"], &inside)?;
            let filter = "add table inet cut\n\
                 add chain inet cut input { type filter hook input priority 0; }\n";
            run("ip", &["netns", "exec", &name, "nft", "-f", "-"], filter)?;
        }
        Ok(self)
    }

    /// The machines.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Nothing from `from` reaches `to` any more; the other way stays as it is.
    pub fn cut_one_way(&self, from: usize, to: usize) -> Result<()> {
        self.lose(from, to, ALL)
    }

    /// Nothing passes between two machines any more.
    pub fn cut(&self, one: usize, other: usize) -> Result<()> {
        self.cut_one_way(one, other)?;
        self.cut_one_way(other, one)
    }

    /// Cuts each machine of one side off from each of the other.
    pub fn part(&self, one: &[usize], other: &[usize]) -> Result<()> {
        one.iter().try_for_each(|a| other.iter().try_for_each(|b| self.cut(*a, *b)))
    }

    /// So many of a hundred packets from one machine to another are lost.
    pub fn lose(&self, from: usize, to: usize, percent: u8) -> Result<()> {
        let mut losses = self.losses.lock().map_err(|_| anyhow::anyhow!("a test thread panicked"))?;
        losses.insert((from, to), percent);
        self.apply(to, &losses)
    }

    /// Every packet passes again everywhere.
    pub fn heal(&self) -> Result<()> {
        let mut losses = self.losses.lock().map_err(|_| anyhow::anyhow!("a test thread panicked"))?;
        losses.clear();
        (0..self.hosts.len()).try_for_each(|host| self.apply(host, &losses))
    }

    /// Sets the filter of one machine, all at once.
    fn apply(&self, to: usize, losses: &BTreeMap<(usize, usize), u8>) -> Result<()> {
        let mut filter = "flush chain inet cut input\n".to_owned();
        for ((from, _), percent) in losses.iter().filter(|((_, at), _)| *at == to) {
            let source = self.hosts[*from].address;
            let share =
                if *percent >= ALL { String::new() } else { format!("numgen random mod 100 < {percent} ") };
            filter.push_str(&format!("add rule inet cut input ip saddr {source} {share}drop\n"));
        }
        run("ip", &["netns", "exec", &namespace(self.number, to), "nft", "-f", "-"], &filter)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What cannot be removed now is removed with the machine; there is nobody to tell.
        for at in 0..self.hosts.len() {
            let _ = run("ip", &["netns", "del", &namespace(self.number, at)], "");
        }
        let _ = run("ip", &["link", "del", &bridge(self.number)], "");
    }
}

fn bridge(number: u32) -> String {
    format!("tb{number}")
}

fn namespace(number: u32, host: usize) -> String {
    format!("tribune-{number}-{host}")
}

fn address(number: u32, last: u8) -> Ipv4Addr {
    Ipv4Addr::from(0x0ac0_0000 + number * 256 + u32::from(last))
}

/// Runs a command with this as its input.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<()> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.with_context(|| format!("cannot run {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let said = child.wait_with_output()?;
    if !said.status.success() {
        bail!("`{program} {}`: {}", arguments.join(" "), String::from_utf8_lossy(&said.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a connection from one machine is refused by another, on which nothing listens: both ways pass.
    fn reaches(network: &Network, from: usize, to: usize) -> bool {
        let connect = format!("echo > /dev/tcp/{}/9", network.hosts()[to].address);
        let wrapper = &network.hosts()[from].wrapper;
        let said = Command::new(&wrapper[0])
            .args(&wrapper[1..])
            .args(["timeout", "2", "bash", "-c", &connect])
            .output()
            .unwrap();
        String::from_utf8_lossy(&said.stderr).contains("refused")
    }

    #[test]
    fn machines_reach_each_other_except_where_they_are_cut() {
        let Some(network) = Network::create(3) else { return };
        assert!(reaches(&network, 0, 1) && reaches(&network, 2, 0));
        network.cut_one_way(0, 1).unwrap();
        assert!(!reaches(&network, 0, 1) && reaches(&network, 0, 2));
        network.heal().unwrap();
        network.part(&[0], &[1, 2]).unwrap();
        assert!(!reaches(&network, 0, 1) && !reaches(&network, 2, 0) && reaches(&network, 1, 2));
        network.heal().unwrap();
        network.lose(0, 1, 30).unwrap();
        assert!(reaches(&network, 1, 0) || reaches(&network, 1, 0), "too much is lost");
    }

    #[test]
    fn two_networks_are_two() {
        let (Some(one), Some(other)) = (Network::create(1), Network::create(1)) else { return };
        assert_ne!(one.hosts()[0].address, other.hosts()[0].address);
    }
}
