//! Between datacenters, and between a client agent and its servers: which requests leave, how they travel, how
//! they arrive, and what of the answers is kept.
//!
//! [`DcLayer`] is wrapped around the HTTP service of a node and is the only place that looks at `?dc`; handlers
//! behind it know one datacenter, their own. What leaves goes through a [`Forwarder`]. Roads and members come in as
//! traits ([`Road`], [`Roster`]), so that nothing here opens a socket.
//!
//! ```text
//!  DcLayer ─▶ Forwarder ─▶ exchange ─ kept? shared? ─▶ route ─ straight, else around ─▶ courier ─▶ Road
//!                             │                                                          │
//!                           cache, flights, refresh                                    peers: who is asked first
//! ```
//!
//! What is counted: `tribune.wan.attempts_failed` and `tribune.wan.answered` (by datacenter), `tribune.wan.hedged`,
//! `tribune.wan.failed_fast`, `tribune.wan.relayed`, `tribune.wan.refused`, `tribune.wan.cache_hits`,
//! `tribune.wan.cache_misses`, `tribune.wan.stale_answers` and `tribune.wan.stale_slices` (given because no newer ones
//! could be had).

mod road;
mod roster;
mod two_way;

mod body;
mod failure;
mod parcel;

mod peers;

mod courier;

mod flights;

mod cache;

mod refresh;

mod exchange;

mod forward;

mod rpc;

mod summary;

mod layer;

mod gateway;

mod slices;

mod seeker;

mod uplink;

pub use body::{BodyError, DcBody, FarBody, far_body};
pub use exchange::{ExchangeConfig, TRANSLATES};
pub use failure::Failure;
pub use forward::Forwarder;
pub use gateway::Gateway;
pub use layer::{DcLayer, DcService};
pub use peers::LinkHealth;
pub use road::{Road, RoadError};
pub use roster::{Candidate, Roster};
pub use rpc::{Desk, DeskError, RpcService};
pub use seeker::{Finding, Seeker};
pub use slices::{Slice, SliceError, Slices, SlicesConfig};
pub use summary::{Presence, Summaries};
pub use two_way::TwoWayRoad;
pub use uplink::Uplink;
