//! What a client agent is besides a node: a road to the servers of its datacenter.

use std::sync::Arc;

use tribune_core::Datacenter;
use tribune_gossip::{Member, Pool, Status};
use tribune_net::Endpoint;
use tribune_wan::{Candidate, Roster, Uplink};

use super::security::Security;
use super::translate;
use crate::membership;
use crate::settings::Settings;

/// The road of a client agent in this datacenter, whose servers the pool knows.
pub(super) fn uplink(settings: &Settings, pool: &Pool, security: &Security) -> Uplink {
    let road = Arc::new(security.dialer());
    let own = settings.datacenter.clone();
    let roster = Arc::new(LanRoster { pool: pool.clone(), own: own.clone() });
    let config = translate::exchange(settings);
    Uplink::new((own, settings.identity.name.clone()), road, roster, config)
}

/// The servers of this datacenter, as the pool knows them.
struct LanRoster {
    pool: Pool,
    own: Datacenter,
}

impl Roster for LanRoster {
    fn gateways(&self, datacenter: &Datacenter) -> Vec<Candidate> {
        if *datacenter != self.own {
            return Vec::new();
        }
        let members = self.pool.members();
        let serves = |member: &&Member| {
            membership::is_server(member) && matches!(member.status, Status::Alive | Status::Failed)
        };
        let candidate = |member: &Member| {
            let endpoint =
                Endpoint { address: membership::rpc_address(member)?, datacenter: self.own.clone() };
            Some(Candidate { name: member.name.clone(), endpoint, round_trip: member.round_trip })
        };
        members.iter().filter(serves).filter_map(candidate).collect()
    }

    fn datacenters(&self) -> Vec<Datacenter> {
        vec![self.own.clone()]
    }
}
