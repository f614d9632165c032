//! Questions that only the leader can answer.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::Replica;
use super::read::ReadIndexed;
use crate::cluster::Role;
use crate::error::Error;
use crate::service::LeaderService;
use crate::transport::{Method, TransportError};
use crate::wire::{Answered, Ask};

impl Replica {
    /// Sets who answers the questions of other servers while this one leads. Only the first counts; whether this
    /// was it.
    pub fn set_leader_service(&self, service: Arc<dyn LeaderService>) -> bool {
        self.0.service.set(service)
    }

    /// Puts a question to the leader's service, wherever that is. Waits for a leader up to the hold timeout.
    ///
    /// `NoLeader` says that nobody got the question; after `Unknown` the leader may have acted on it, or said that
    /// it could not.
    pub async fn ask_leader(&self, question: Bytes) -> Result<Bytes, Error> {
        let hold = self.0.config.rpc_hold_timeout;
        let deadline = Instant::now() + hold;
        loop {
            let answered = match self.leader_elsewhere() {
                None => Ok(self.answer_as_leader(question.clone()).await),
                Some(leader) => {
                    let ask = Ask { question: question.clone() };
                    self.0.caller.call(&leader, Method::Ask, ask, Instant::now() + hold).await
                }
            };
            match answered {
                Ok(Answered::Answer(answer)) => return Ok(answer),
                Ok(Answered::Failed(reason)) => return Err(Error::Unknown(reason)),
                Err(TransportError::Lost(reason)) => return Err(Error::Unknown(reason)),
                Ok(Answered::NotLeader)
                | Err(TransportError::Unreachable(_) | TransportError::Refused(_)) => {
                    self.pause(deadline).await?;
                }
            }
        }
    }

    /// Answers a question, if this server leads for certain and knows all that was acknowledged before.
    pub(super) async fn answer_as_leader(&self, question: Bytes) -> Answered {
        let Some(service) = self.0.service.get() else { return Answered::NotLeader };
        let leads = matches!(self.leadership().role(), Role::Leader { .. })
            && matches!(self.read_index_here(false).await, ReadIndexed::From(_));
        if !leads {
            return Answered::NotLeader;
        }
        match service.ask(question).await {
            Ok(answer) => Answered::Answer(answer),
            Err(reason) => Answered::Failed(reason),
        }
    }
}
