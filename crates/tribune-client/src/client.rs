//! The client: asks one agent after the other, repeats what may be repeated, and remembers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tracing::debug;

use crate::answer::{Answer, Source};
use crate::config::Config;
use crate::endpoint::{Endpoint, Reply, Trouble};
use crate::error::{Error, Failure};
use crate::last_known::LastKnown;
use crate::question::Question;
use crate::request::Request;
use crate::retry::Budget;
use crate::watch::Watch;

/// A client of one or several agents. Clones share connections, circuit breakers and remembered answers.
///
/// ```no_run
/// # async fn run() -> Result<(), tribune_client::Error> {
/// use tribune_client::{Client, Config, health};
///
/// let client = Client::new(Config::default())?;
/// for entry in client.ask(&health::service("web").passing()).await?.value {
///     println!("{} port {}", entry.node.address, entry.service.port);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    endpoints: Vec<Endpoint>,
    /// Who answered last.
    preferred: AtomicUsize,
    budget: Mutex<Budget>,
    last_known: Mutex<LastKnown>,
}

impl Client {
    /// Makes a client. Connections are made when they are needed; nothing is running in the background.
    pub fn new(config: Config) -> Result<Self, Error> {
        if config.addresses.is_empty() {
            return Err(Error::Settings("no agent address is given; at least one is needed".into()));
        }
        let endpoints = config.addresses.iter().map(|address| Endpoint::new(address.clone(), &config));
        let endpoints = endpoints.collect::<Result<_, _>>()?;
        let last_known = Mutex::new(LastKnown::new(config.answers_kept_max));
        let (preferred, budget) = (AtomicUsize::new(0), Mutex::new(Budget::new()));
        Ok(Self { shared: Arc::new(Shared { config, endpoints, preferred, budget, last_known }) })
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Asks a question. When no agent can answer it, the last known answer is given, marked as such in
    /// [`Answer::source`]; [`Answer::fresh`] refuses it.
    pub async fn ask<T: DeserializeOwned>(&self, question: &Question<T>) -> Result<Answer<T>, Error> {
        let request = &question.request;
        match self.send(request).await {
            Ok(reply) => {
                let answer = decode(&reply, Source::Agent)?;
                self.shared.last_known.lock().remember(request.question(), &reply, now());
                Ok(answer)
            }
            Err(error @ Error::Unavailable { .. }) => {
                let known = self.shared.last_known.lock().recall(&request.question(), now());
                let Some((reply, age)) = known else { return Err(error) };
                debug!(%error, age_s = age.as_secs(), "giving the last known answer");
                decode(&reply, Source::LastKnown { age })
            }
            Err(error) => Err(error),
        }
    }

    /// Follows a question: the present answer first, then every change, for as long as the stream is polled.
    pub fn watch<T: DeserializeOwned + Send + 'static>(&self, question: Question<T>) -> Watch<T> {
        Watch::new(self.clone(), question.request)
    }

    /// Makes a change and drops the empty answer.
    pub(crate) async fn change(&self, request: &Request) -> Result<(), Error> {
        self.send(request).await.map(drop)
    }

    /// Makes a change and gives the answer.
    pub(crate) async fn change_with_answer<T: DeserializeOwned>(
        &self,
        request: &Request,
    ) -> Result<T, Error> {
        let reply = self.send(request).await?;
        decode(&reply, Source::Agent).map(|answer| answer.value)
    }

    /// Opens an answer that has no end.
    pub(crate) async fn stream(
        &self,
        request: &Request,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
        let open = async |endpoint: &Endpoint| match endpoint.admit() {
            Ok(admission) => admission.stream(request).await,
            Err(retry_in) => Err(Trouble::NotDone(Failure::Resting { retry_in })),
        };
        let mut last = None;
        for endpoint in &self.shared.endpoints {
            match open(endpoint).await {
                Ok(response) => {
                    let address = endpoint.address.to_string();
                    return Ok(response.bytes_stream().map(move |chunk| {
                        chunk.map_err(|error| Error::Unavailable {
                            attempts: 1,
                            last: Failure::Broken { address: address.clone(), reason: error.to_string() },
                        })
                    }));
                }
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::NotDone(failure) | Trouble::Unsure(failure)) => last = Some(failure),
            }
        }
        let last = last.unwrap_or(Failure::Resting { retry_in: Duration::ZERO });
        Err(Error::Unavailable { attempts: 1, last })
    }

    /// Sends a request to one agent after the other, again and again as far as the policy allows.
    pub(crate) async fn send(&self, request: &Request) -> Result<Reply, Error> {
        let policy = &self.shared.config.retry;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let last = match self.round(request).await {
                Ok(reply) => {
                    self.shared.budget.lock().earn();
                    return Ok(reply);
                }
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Unsure(failure)) if !request.is_read() => return Err(Error::Unknown(failure)),
                Err(Trouble::NotDone(failure) | Trouble::Unsure(failure)) => failure,
            };
            let resting = matches!(last, Failure::Resting { .. });
            if resting || attempts >= policy.attempts_max || !self.shared.budget.lock().spend() {
                return Err(Error::Unavailable { attempts, last });
            }
            let pause = policy.delay(attempts, rand::random());
            debug!(error = %last, attempt = attempts, pause_ms = pause.as_millis(), "trying again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks each agent that is not resting once, whoever answered last first, until one answers.
    pub(crate) async fn round(&self, request: &Request) -> Result<Reply, Trouble> {
        let endpoints = &self.shared.endpoints;
        let first = self.shared.preferred.load(Ordering::Relaxed);
        let (mut last, mut rest_min) = (None, Duration::MAX);
        for number in (first..endpoints.len()).chain(0..first) {
            let admission = match endpoints[number].admit() {
                Ok(admission) => admission,
                Err(rest) => {
                    rest_min = rest_min.min(rest);
                    continue;
                }
            };
            match admission.exchange(request).await {
                Ok(reply) => {
                    self.shared.preferred.store(number, Ordering::Relaxed);
                    return Ok(reply);
                }
                Err(Trouble::Unsure(failure)) if !request.is_read() => return Err(Trouble::Unsure(failure)),
                Err(Trouble::Final(error)) => return Err(Trouble::Final(error)),
                Err(trouble) => last = Some(trouble),
            }
        }
        Err(last.unwrap_or(Trouble::NotDone(Failure::Resting { retry_in: rest_min })))
    }
}

/// Makes a value of an answer's JSON.
pub(crate) fn decode<T: DeserializeOwned>(reply: &Reply, source: Source) -> Result<Answer<T>, Error> {
    let value = serde_json::from_slice(&reply.body).map_err(|error| Error::Malformed {
        address: reply.address.clone(),
        reason: format!(
            "it is not the JSON that was expected ({error}); is this the HTTP address of an agent?"
        ),
    })?;
    Ok(Answer::new(value, &reply.headers, source))
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
