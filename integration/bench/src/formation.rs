//! The part of a run that needs more than one server: three of them, and two datacenters.

use anyhow::Result;
use tribune_integration::{ClusterSettings, TestCluster};

use crate::Bench;
use crate::figure::{self, Distance, Figure, Readings, WAN_INSTANCES};
use crate::server::Program;

impl Bench {
    /// Takes the figures of three servers: one datacenter of each program, which take turns.
    pub(crate) async fn clustered(&mut self, programs: &[Program]) -> Result<()> {
        let wanted: Vec<_> =
            Figure::CLUSTERED.into_iter().filter(|figure| self.arguments.only.contains(figure)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut clusters = Vec::new();
        for program in programs {
            self.progress.set_message(format!("{}: three servers start", program.label));
            let settings = ClusterSettings { program: program.under_test(), ..ClusterSettings::default() };
            clusters.push(tokio::task::block_in_place(|| TestCluster::start_with(settings))?);
        }
        for figure in wanted {
            let failover = figure == Figure::Failover;
            let rounds = if failover { self.arguments.kills } else { self.arguments.rounds };
            for turn in 0..rounds * programs.len() {
                let (round, which) = (turn / programs.len(), (turn + turn / programs.len()) % programs.len());
                let label = &programs[which].label;
                self.progress.set_message(format!("{label}: {figure:?}, round {} of {rounds}", round + 1));
                let readings = figure.clustered(&mut clusters[which], &self.effort).await;
                self.note(&format!("{figure:?}"), 0, label, readings);
            }
        }
        Ok(())
    }

    /// Takes the figures of two datacenters, near and far.
    pub(crate) async fn federated(&mut self, programs: &[Program]) -> Result<()> {
        if !self.arguments.only.contains(&Figure::Wan) {
            return Ok(());
        }
        for distance in Distance::ALL {
            let mut federations = Vec::new();
            for program in programs {
                self.progress.set_message(format!("{}: two datacenters start, {distance:?}", program.label));
                federations.push(distance.start(program).await?);
            }
            let rounds = self.arguments.rounds;
            for turn in 0..rounds * programs.len() {
                let (round, which) = (turn / programs.len(), (turn + turn / programs.len()) % programs.len());
                let label = &programs[which].label;
                self.progress
                    .set_message(format!("{label}: wan, {distance:?}, round {} of {rounds}", round + 1));
                let readings = figure::wan(&federations[which], distance, &self.effort).await;
                self.note(&format!("wan, {distance:?}"), WAN_INSTANCES, label, readings);
            }
        }
        Ok(())
    }

    fn note(&mut self, what: &str, instances: usize, label: &str, readings: Result<Readings>) {
        match readings {
            Ok(readings) => {
                for (measure, value) in readings {
                    self.records.add(measure, instances, label, value);
                }
            }
            Err(error) => self.failures.push(format!("{what} of {label}: {error:#}")),
        }
    }
}
