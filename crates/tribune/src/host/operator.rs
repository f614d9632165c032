//! This server as its operators see it.

use std::time::Duration;

use async_trait::async_trait;
use http::Request;
use http_body_util::{BodyExt as _, Full, Limited};
use tokio::time::Instant;
use tribune_api::error::{NO_CLUSTER_LEADER, NO_PATH_TO_DATACENTER};
use tribune_core::autopilot::Report;
use tribune_core::coordinate::Coordinate;
use tribune_core::{Datacenter, Index};
use tribune_gossip::{KeyringError, KeyringReport, Pool};
use tribune_http::{
    Answered, Distance, Errand, HostError, KeyringOperation, KeyringOptions, Operator, PoolKeys,
    RaftConfiguration, RaftServer, ServerLocated,
};

use super::Node;
use crate::daemon::{Federation, Part, Server};

/// How long the leader, or another datacenter, may take to answer an errand.
const ERRAND_TIME: Duration = Duration::from_secs(10);
/// Longest answer of an errand, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

impl Node {
    pub(super) fn server(&self) -> Result<&Server, HostError> {
        match &self.standing.part {
            Part::Server(server, _) => Ok(server),
            Part::Client(_) => Err(failed("this is a client agent: ask a server")),
        }
    }

    fn federation(&self) -> Option<&Federation> {
        match &self.standing.part {
            Part::Server(_, federation) => federation.as_ref(),
            Part::Client(_) => None,
        }
    }
}

fn failed(why: impl ToString) -> HostError {
    HostError::Failed(why.to_string())
}

#[async_trait]
impl Operator for Node {
    fn leads(&self) -> bool {
        self.server().is_ok_and(|server| server.replica.cluster().is_leader)
    }

    async fn ask_leader(&self, errand: Errand) -> Result<Answered, HostError> {
        let server = self.server()?;
        let leader = server.replica.cluster().leader.ok_or_else(|| failed(NO_CLUSTER_LEADER))?;
        let request = request(errand)?;
        let answer =
            server.caller.request(server.address(&leader), request, Instant::now() + ERRAND_TIME).await;
        let (status, headers, body) = answer.map_err(failed)?;
        Ok(Answered { status, headers, body })
    }

    async fn ask_datacenter(&self, datacenter: &Datacenter, errand: Errand) -> Result<Answered, HostError> {
        let federation = self.federation().ok_or_else(|| failed(NO_PATH_TO_DATACENTER))?;
        let request = request(errand)?.map(Full::new);
        let asking = async {
            let (head, body) = federation.forwarder.answer(datacenter, request).await.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(failed)?.to_bytes();
            Ok(Answered { status: head.status, headers: head.headers, body })
        };
        let answered = tokio::time::timeout(ERRAND_TIME, asking).await;
        answered.map_err(|_| failed("the other datacenter did not answer in time"))?
    }

    fn datacenters(&self) -> Vec<Distance> {
        let own = self.settings.load().datacenter.clone();
        let Some(federation) = self.federation() else {
            return vec![Distance { datacenter: own, round_trip: Some(Duration::ZERO) }];
        };
        let distances = federation.forwarder.distances().into_iter();
        distances.map(|(datacenter, round_trip)| Distance { datacenter, round_trip }).collect()
    }

    fn lacks(&self, datacenter: &Datacenter, service: &str) -> bool {
        self.federation().is_some_and(|federation| federation.summaries.lacks(datacenter, service))
    }

    fn raft(&self) -> RaftConfiguration {
        let Ok(server) = self.server() else { return RaftConfiguration::default() };
        let cluster = server.replica.cluster();
        let members = self.standing.lan.members();
        let servers = cluster.servers.iter().map(|it| RaftServer {
            id: it.server.id.clone(),
            node: members.iter().find(|member| member.id == it.server.id).map(|member| member.name.clone()),
            address: server.address(&it.server).to_string(),
            leader: cluster.leader.as_ref().is_some_and(|leader| leader.id == it.server.id),
            voter: it.voter,
            last_index: (it.server.id == self.id()).then_some(cluster.last_log),
        });
        RaftConfiguration { servers: servers.collect(), index: Index(0) }
    }

    async fn remove_peer(&self, id: &str) -> Result<(), HostError> {
        self.server()?.replica.admin().remove(id).await.map_err(failed)
    }

    async fn transfer_leader(&self, to: Option<&str>) -> Result<(), HostError> {
        self.server()?.replica.admin().transfer_leader(to).await.map_err(failed)
    }

    fn health(&self) -> Option<Report> {
        let report = self.server().ok()?.health.load_full()?;
        Some(Report::clone(&report))
    }

    async fn keyring(
        &self,
        operation: &KeyringOperation,
        // The pool of all servers lies inside mutual TLS and has no keys of its own.
        _: KeyringOptions,
    ) -> Result<Vec<PoolKeys>, HostError> {
        let datacenter = self.settings.load().datacenter.to_string();
        match rotate(&self.standing.lan, operation).await {
            Ok(report) | Err(KeyringError::Partial { report, .. }) => Ok(vec![keys(datacenter, report)]),
            Err(KeyringError::NotEncrypted) => {
                let (node, why) = (&self.record.name, "Keyring is empty (encryption not enabled)");
                Err(failed(format!(
                    "2 errors occurred:\n\t* {datacenter} (LAN) error: 1/1 nodes reported failure\n\t* {node}: {why}\n\n"
                )))
            }
            Err(error) => {
                Err(failed(format!("1 error occurred:\n\t* {datacenter} (LAN) error: {error}\n\n")))
            }
        }
    }

    fn servers_located(&self) -> Vec<ServerLocated> {
        let own = self.settings.load().datacenter.clone();
        let Some(federation) = self.federation() else {
            let node = self.record.name.to_string();
            return vec![ServerLocated { datacenter: own, node, coordinate: Coordinate::unknown() }];
        };
        let located = |member: &tribune_gossip::Member| {
            let suffix = format!(".{}", member.datacenter);
            ServerLocated {
                datacenter: member.datacenter.clone(),
                node: member.name.strip_suffix(&suffix).unwrap_or(&member.name).to_owned(),
                coordinate: member.round_trip.map_or_else(Coordinate::unknown, Coordinate::at_distance),
            }
        };
        federation.pool.members().iter().map(located).collect()
    }
}

fn request(errand: Errand) -> Result<Request<bytes::Bytes>, HostError> {
    let mut request = Request::new(errand.body);
    *request.method_mut() = errand.method;
    *request.uri_mut() = errand.path_and_query.parse().map_err(failed)?;
    *request.headers_mut() = errand.headers;
    Ok(request)
}

async fn rotate(pool: &Pool, operation: &KeyringOperation) -> Result<KeyringReport, KeyringError> {
    match operation {
        KeyringOperation::List => pool.keyring_list().await,
        KeyringOperation::Install(key) => pool.keyring_install(key).await,
        KeyringOperation::Use(key) => pool.keyring_use(key).await,
        KeyringOperation::Remove(key) => pool.keyring_remove(key).await,
    }
}

fn keys(datacenter: String, report: KeyringReport) -> PoolKeys {
    let KeyringReport { nodes, keys, primary_keys, messages, .. } = report;
    PoolKeys { wan: false, datacenter, messages, keys, primary_keys, nodes }
}
