//! Servers that come, stay, fail and go, round by round.

use super::*;

const SECOND: u64 = 1000;

/// A datacenter in the hands of its autopilot: steps are carried out as a leader would.
struct Dc {
    autopilot: Autopilot,
    members: Vec<Member>,
    cluster: Cluster,
    config: Config,
    expected: usize,
    now: Timestamp,
}

impl Dc {
    /// `voters` servers `s1`, `s2`, … of which the first leads.
    fn of(voters: usize) -> Self {
        let cluster = Cluster { term: 3, leader: "s1".into(), last_index: Index(1000), peers: Vec::new() };
        let mut dc = Self {
            autopilot: Autopilot::new(),
            members: Vec::new(),
            cluster,
            config: Config::default(),
            expected: voters,
            now: Timestamp(100 * SECOND),
        };
        for number in 1..=voters {
            let id = format!("s{number}");
            dc.join(&id);
            dc.cluster.peers.push(peer(&id, true));
        }
        dc.look();
        dc
    }

    fn join(&mut self, id: &str) {
        self.members.push(Member {
            id: id.into(),
            name: format!("node-{id}").into(),
            address: format!("10.0.0.{id}:8300").into(),
            version: "1.8.7".into(),
            life: Life::Alive,
            read_replica: false,
        });
    }

    fn live(&mut self, id: &str, life: Life) {
        let member = self.members.iter_mut().find(|member| member.id == id).unwrap();
        member.life = life;
    }

    fn forget(&mut self, id: &str) {
        self.members.retain(|member| member.id != id);
    }

    fn look(&mut self) -> Round {
        let sight = Sight {
            members: &self.members,
            cluster: &self.cluster,
            config: &self.config,
            expected: self.expected,
        };
        self.autopilot.round(self.now, sight)
    }

    /// One round after so many seconds, its step carried out.
    fn after(&mut self, seconds: u64) -> Option<Step> {
        self.now.0 += seconds * SECOND;
        let step = self.look().step;
        match &step {
            Some(Step::AddLearner(id)) => self.cluster.peers.push(peer(id, false)),
            Some(Step::Promote(id)) => self.peer(id).voter = true,
            Some(Step::Demote(id)) => self.peer(id).voter = false,
            Some(Step::Remove(id, _)) => self.cluster.peers.retain(|peer| peer.id != *id),
            None => {}
        }
        step
    }

    fn peer(&mut self, id: &str) -> &mut Peer {
        self.cluster.peers.iter_mut().find(|peer| peer.id == id).unwrap()
    }
}

fn peer(id: &str, voter: bool) -> Peer {
    let last_contact = Some(Duration::from_millis(20));
    Peer {
        id: id.into(),
        address: "10.9.9.9:8300".into(),
        voter,
        matched: Index(1000),
        last_contact,
        forgetful: false,
    }
}

fn removed(id: &str, why: Departure) -> Option<Step> {
    Some(Step::Remove(id.into(), why))
}

#[test]
fn a_new_server_learns_first_and_votes_when_it_has_been_stable() {
    let mut dc = Dc::of(3);
    dc.join("s4");
    assert_eq!(dc.after(2), Some(Step::AddLearner("s4".into())));
    assert_eq!(dc.after(2), None);
    assert_eq!(dc.after(9), None);
    assert_eq!(dc.after(1), Some(Step::Promote("s4".into())));
    assert_eq!(dc.after(2), None);
}

#[test]
fn a_server_that_came_back_without_its_log_is_taken_in_anew() {
    let mut dc = Dc::of(3);
    dc.config.cleanup_dead_servers = false;
    dc.after(2);
    dc.peer("s3").forgetful = true;
    assert_eq!(dc.after(1), removed("s3", Departure::Forgetful));
    assert_eq!(dc.after(1), Some(Step::AddLearner("s3".into())));
    assert_eq!(dc.after(1), Some(Step::Promote("s3".into())), "three are wanted");
}

#[test]
fn a_server_without_its_log_stays_while_the_others_are_too_few() {
    let mut dc = Dc::of(2);
    dc.after(2);
    dc.peer("s2").forgetful = true;
    assert_eq!(dc.after(1), None, "one of two decides nothing");
}

#[test]
fn a_learner_that_lags_or_is_silent_begins_to_wait_anew() {
    let mut dc = Dc::of(3);
    dc.join("s4");
    dc.after(2);
    dc.peer("s4").matched = Index(700);
    assert_eq!(dc.after(20), None);
    dc.peer("s4").matched = Index(751);
    assert_eq!(dc.after(2), None);
    assert_eq!(dc.after(8), None);
    dc.peer("s4").last_contact = Some(Duration::from_millis(201));
    assert_eq!(dc.after(1), None);
    dc.peer("s4").last_contact = Some(Duration::from_millis(200));
    assert_eq!(dc.after(2), None);
    assert_eq!(dc.after(10), Some(Step::Promote("s4".into())));
}

#[test]
fn while_voters_are_wanted_nobody_waits() {
    let mut dc = Dc::of(1);
    dc.expected = 3;
    dc.join("s2");
    dc.join("s3");
    dc.join("s4");
    let steps: Vec<Step> = (0..20).filter_map(|_| dc.after(1)).collect();
    let all: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
    assert_eq!(
        &all[..5],
        [
            "AddLearner(\"s2\")",
            "AddLearner(\"s3\")",
            "AddLearner(\"s4\")",
            "Promote(\"s2\")",
            "Promote(\"s3\")"
        ]
    );
    // The fourth waits until it has been seen for the stabilisation time.
    assert_eq!(all.len(), 6);
    assert_eq!(all[5], "Promote(\"s4\")");
}

#[test]
fn a_read_replica_never_votes() {
    let mut dc = Dc::of(3);
    dc.join("s4");
    dc.members[3].read_replica = true;
    assert_eq!(dc.after(2), Some(Step::AddLearner("s4".into())));
    assert_eq!(dc.after(60), None);
    dc.members[2].read_replica = true;
    assert_eq!(dc.after(2), Some(Step::Demote("s3".into())));
    assert_eq!(dc.after(60), None);
    // The leader keeps its vote while it leads.
    dc.members[0].read_replica = true;
    assert_eq!(dc.after(2), None);
}

#[test]
fn who_says_good_bye_goes_at_once() {
    let mut dc = Dc::of(3);
    dc.config.cleanup_dead_servers = false;
    dc.live("s3", Life::Left);
    assert_eq!(dc.after(1), removed("s3", Departure::Left));
    dc.live("s2", Life::Left);
    // Two voters of which one is gone decide nothing: it is too late to put it out.
    assert_eq!(dc.after(1), None);
    assert_eq!(dc.after(60), None);
}

#[test]
fn of_three_the_failed_one_keeps_its_vote_until_a_fourth_has_come() {
    let mut dc = Dc::of(3);
    dc.live("s3", Life::Failed);
    assert_eq!(dc.after(1), None);
    assert_eq!(dc.after(60), None);
    dc.join("s4");
    assert_eq!(dc.after(1), Some(Step::AddLearner("s4".into())));
    assert_eq!(dc.after(1), None);
    assert_eq!(dc.after(10), Some(Step::Promote("s4".into())));
    assert_eq!(dc.after(1), removed("s3", Departure::Failed));
    assert_eq!(dc.after(60), None);
}

#[test]
fn of_five_a_failed_one_goes_after_a_while_and_two_never() {
    let mut dc = Dc::of(5);
    dc.live("s5", Life::Failed);
    assert_eq!(dc.after(1), None);
    assert_eq!(dc.after(9), None);
    assert_eq!(dc.after(1), removed("s5", Departure::Failed));
    let mut dc = Dc::of(5);
    dc.live("s4", Life::Failed);
    dc.live("s5", Life::Failed);
    dc.after(1);
    assert_eq!(dc.after(60), None);
    dc.live("s4", Life::Alive);
    assert_eq!(dc.after(1), removed("s5", Departure::Failed));
}

#[test]
fn a_server_that_comes_back_in_time_is_not_put_out() {
    let mut dc = Dc::of(5);
    dc.live("s5", Life::Failed);
    dc.after(1);
    dc.after(8);
    dc.live("s5", Life::Alive);
    assert_eq!(dc.after(1), None);
    dc.live("s5", Life::Failed);
    assert_eq!(dc.after(1), None);
    assert_eq!(dc.after(9), None);
    assert_eq!(dc.after(1), removed("s5", Departure::Failed));
}

#[test]
fn operators_may_forbid_it_or_ask_for_a_least_number() {
    let mut dc = Dc::of(5);
    dc.config.cleanup_dead_servers = false;
    dc.live("s5", Life::Failed);
    dc.after(1);
    assert_eq!(dc.after(60), None);
    dc.config.cleanup_dead_servers = true;
    dc.config.min_quorum = 5;
    assert_eq!(dc.after(60), None);
    dc.config.min_quorum = 4;
    assert_eq!(dc.after(1), removed("s5", Departure::Failed));
}

#[test]
fn without_a_majority_nothing_is_done() {
    let mut dc = Dc::of(5);
    for id in ["s3", "s4", "s5"] {
        dc.live(id, Life::Failed);
    }
    dc.join("s6");
    dc.after(1);
    assert_eq!(dc.after(60), None);
}

#[test]
fn a_disk_that_was_lost_leaves_its_old_id_behind() {
    let mut dc = Dc::of(3);
    dc.forget("s3");
    dc.join("s3b");
    assert_eq!(dc.after(1), Some(Step::AddLearner("s3b".into())));
    dc.after(1);
    assert_eq!(dc.after(10), Some(Step::Promote("s3b".into())));
    assert_eq!(dc.after(1), removed("s3", Departure::Unknown));
}

#[test]
fn a_leader_whose_own_members_are_not_there_yet_puts_nobody_out() {
    let mut dc = Dc::of(3);
    dc.members.truncate(1);
    dc.after(1);
    assert_eq!(dc.after(60), None);
}

#[test]
fn dead_learners_go_too() {
    let mut dc = Dc::of(3);
    dc.join("s4");
    dc.after(1);
    dc.live("s4", Life::Failed);
    assert_eq!(dc.after(1), None);
    assert_eq!(dc.after(10), removed("s4", Departure::Failed));
}

#[test]
fn the_report_says_how_many_may_fail() {
    let mut dc = Dc::of(5);
    let report = dc.look().report;
    assert_eq!((report.healthy, report.failure_tolerance), (true, 2));
    assert_eq!(report.servers[0].name, "node-s1");
    assert!(report.servers[0].leader && !report.servers[1].leader);
    assert_eq!(report.servers[1].stable_since, Timestamp(100 * SECOND));
    dc.now.0 += 5 * SECOND;
    dc.live("s4", Life::Failed);
    dc.forget("s5");
    let report = dc.look().report;
    assert_eq!((report.healthy, report.failure_tolerance), (false, 0));
    assert_eq!(report.servers[3].stable_since, Timestamp(105 * SECOND));
    let unknown = &report.servers[4];
    assert_eq!((unknown.life, unknown.name.as_str(), unknown.address.as_str()), (None, "", "10.9.9.9:8300"));
    dc.live("s3", Life::Failed);
    assert_eq!(dc.look().report.failure_tolerance, 0);
}

#[test]
fn the_dead_never_take_the_majority_with_them() {
    // Every mixture of lives among five voters, left alone for ten minutes.
    for pattern in 0..3_usize.pow(4) {
        let mut dc = Dc::of(5);
        let lives = [Life::Alive, Life::Failed, Life::Left];
        for number in 0..4_u32 {
            dc.live(&format!("s{}", number + 2), lives[pattern / 3_usize.pow(number) % 3]);
        }
        for _ in 0..120 {
            let before = dc.look().report;
            let step = dc.after(5);
            let after = dc.look().report;
            let votes = |report: &Report| {
                let voters: Vec<&ServerHealth> = report.servers.iter().filter(|it| it.voter).collect();
                (voters.iter().filter(|it| it.healthy).count(), voters.len())
            };
            if step.is_some() {
                for (healthy, all) in [votes(&before), votes(&after)] {
                    assert!(healthy > all / 2, "{pattern}: {step:?} with {healthy} of {all}");
                }
            }
        }
    }
}
