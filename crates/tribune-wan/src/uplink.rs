//! A client agent's road to the servers of its datacenter.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response};
use http_body::Body;
use tokio::time::Instant;
use tribune_core::{Command, Datacenter, Index, NodeName, Outcome, Topic};

use crate::body::{self, FarBody};
use crate::courier::{Courier, FIRST_ANSWER_MAX, Undelivered};
use crate::exchange::{self, Carrier, Exchange, ExchangeConfig};
use crate::failure::Failure;
use crate::parcel::{self, Kind, Parcel};
use crate::road::Road;
use crate::roster::Roster;
use crate::rpc::{self, DeskError, PROPOSE_PATH};
use crate::slices::{self, Slice, Slices, SlicesConfig};

/// The road of a client agent. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Uplink {
    node: NodeName,
    line: Arc<Line>,
    exchange: Arc<Exchange>,
}

impl Uplink {
    /// The road of the agent `node` in datacenter `own`, whose servers `roster` names as gateways of `own`. Answers
    /// about the catalog and health are kept for when no server can be reached.
    pub fn new(
        (own, node): (Datacenter, NodeName),
        road: Arc<dyn Road>,
        roster: Arc<dyn Roster>,
        config: ExchangeConfig,
    ) -> Self {
        let line = Arc::new(Line { courier: Courier::new(own.clone(), road, config.seed), own, roster });
        let config = ExchangeConfig { keeps_discovery: true, ..config };
        let exchange = Arc::new(Exchange::new(line.clone(), config));
        Self { node, line, exchange }
    }

    /// Answers a request of the API as a server does.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<FarBody>
    where
        B: Body<Data = bytes::Bytes>,
        B::Error: std::fmt::Display,
    {
        let parcel = match parcel::collect(request).await {
            Ok(parcel) => parcel.near(Some(self.node.as_str())),
            Err(failure) => return failure.to_response(),
        };
        let named = parcel::named_datacenter(&parcel.query);
        match named.map(|name| Datacenter::new(name.to_lowercase())) {
            None => self.exchange.answer(&self.line.own, parcel).await,
            Some(Ok(datacenter)) if datacenter == self.line.own => {
                self.exchange.answer(&datacenter, parcel).await
            }
            Some(Ok(datacenter)) => self.exchange.answer_from_afar(&datacenter, parcel).await,
            Some(Err(_)) => Failure::Unknown.to_response(),
        }
    }

    /// Has a command written. Sent once; an error tells whether it may have been done.
    pub async fn propose(&self, command: &Command) -> Result<Outcome, DeskError> {
        let parcel = Parcel::internal(PROPOSE_PATH, rpc::pack(command)?, Kind::Write);
        let response = self.line.carry(&self.line.own, parcel).await?;
        let lost = |reason: String| DeskError::Unknown(reason);
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        let body = body::collect(response.into_body(), rpc::ANSWER_BYTES_MAX, rpc::COLLECT_MAX).await;
        let body = body.map_err(|error| lost(format!("the answer broke off: {error:?}")))?;
        rpc::unpack::<Result<Outcome, DeskError>>(&body).map_err(|error| lost(error.to_string()))?
    }

    /// The slice of the state that answers `topic`, as new as every acknowledged write.
    pub async fn read(&self, topic: &Topic) -> Result<Slice, DeskError> {
        slices::ask(&*self.line, &self.line.own, topic, Index(0), Duration::ZERO, true).await
    }

    /// The slice once `topic` has an index above `after`, or whatever there is after `wait`.
    pub async fn changed(&self, topic: &Topic, after: Index, wait: Duration) -> Result<Slice, DeskError> {
        slices::ask(&*self.line, &self.line.own, topic, after, wait, false).await
    }

    /// Kept slices of this and all other datacenters, for DNS.
    pub fn slices(&self, config: SlicesConfig) -> Slices {
        Slices::new(self.line.clone(), config)
    }

    /// When anything last came from a server; `None` when nothing ever did.
    pub fn heard(&self) -> Option<Instant> {
        self.line.courier.heard(&self.line.own)
    }
}

/// Whether another datacenter has given this answer now, and not a server of the own one in its place.
fn comes_from_there<B>(response: &Response<B>) -> bool {
    response.status().is_success() && exchange::age(response.headers()).is_zero()
}

/// What a server said that did not take a command.
async fn refused(response: Response<FarBody>) -> DeskError {
    let status = response.status();
    let text = body::collect(response.into_body(), 4096, rpc::COLLECT_MAX).await.unwrap_or_default();
    DeskError::Unavailable(format!("a server answered {status}: {}", String::from_utf8_lossy(&text)))
}

/// The way to any server of the own datacenter, which knows the ways to others.
struct Line {
    own: Datacenter,
    courier: Courier,
    roster: Arc<dyn Roster>,
}

#[async_trait]
impl Carrier for Line {
    async fn carry(&self, datacenter: &Datacenter, parcel: Parcel) -> Result<Response<FarBody>, Failure> {
        let parcel = if *datacenter == self.own { parcel } else { parcel.addressed_to(datacenter) };
        let servers = self.roster.gateways(&self.own);
        let mut patience = FIRST_ANSWER_MAX + self.courier.distance(&servers);
        if *datacenter != self.own {
            // The server has its own patience with the way there, and says when that is over.
            patience += FIRST_ANSWER_MAX;
        }
        match self.courier.deliver(&servers, &parcel, patience).await {
            Ok(response) => match Failure::in_response(&response) {
                Some(failure) => Err(failure),
                None => {
                    if *datacenter == self.own || comes_from_there(&response) {
                        self.courier.hear(datacenter);
                    }
                    Ok(response)
                }
            },
            Err(Undelivered::NotSent | Undelivered::Strange) => Err(Failure::NoServers),
            Err(Undelivered::Unsure(reason)) => Err(Failure::Unsure(reason)),
            Err(Undelivered::Over(failure)) => Err(failure),
        }
    }

    fn heard(&self, datacenter: &Datacenter) -> Option<Instant> {
        self.courier.heard(datacenter)
    }
}
