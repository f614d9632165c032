//! Asks another member something over a stream and waits for the answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::carrier::{Address, Carrier};
use crate::seal::Seal;
use crate::wire::{Answer, Request, decode, encode};

/// Seals requests, sends them and opens the answers.
#[derive(Clone)]
pub(crate) struct Speaker {
    pub(crate) carrier: Arc<dyn Carrier>,
    pub(crate) seal: Arc<Seal>,
    /// What the metrics call this pool.
    pub(crate) network: &'static str,
}

impl Speaker {
    /// One question, one answer; the error is a text for people.
    pub(crate) async fn ask(
        &self,
        to: &Address,
        request: &Request,
        wait: Duration,
    ) -> Result<Answer, String> {
        let (frame, nonce) = self.seal.request(&encode(request));
        metrics::counter!("memberlist.tcp.sent", "network" => self.network).increment(frame.len() as u64);
        let answer = match timeout(wait, self.carrier.exchange(to, frame)).await {
            Ok(answer) => answer.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("no answer from {} within {wait:?}", to.socket)),
        };
        metrics::counter!("memberlist.tcp.received", "network" => self.network)
            .increment(answer.len() as u64);
        let body = self.seal.open_answer(nonce, &answer).map_err(|refusal| refusal.to_string())?;
        match decode(&body) {
            Some(Answer::Refused(reason)) => Err(reason),
            Some(answer) => Ok(answer),
            None => Err("the answer cannot be read: the other agent speaks another version".into()),
        }
    }
}
