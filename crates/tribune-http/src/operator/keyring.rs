//! `/v1/operator/keyring`: the keys that gossip is encrypted with.

use std::sync::Arc;

use http::Method;
use tribune_api::ApiError;
use tribune_api::operator::{KeyRequest, KeyringPool};
use tribune_api::params::parse_bool;

use super::{KeyringOperation, KeyringOptions, Office, PoolKeys};
use crate::call::Call;
use crate::error::Error;
use crate::reply::Reply;
use crate::router::Router;

const KEYRING: &str = "/v1/operator/keyring";

pub(super) fn routes(office: &Arc<Office>) -> Router {
    Router::default()
        .get(KEYRING, office, list)
        .on(Method::POST, KEYRING, office, install)
        .put(KEYRING, office, make_primary)
        .on(Method::DELETE, KEYRING, office, remove)
}

async fn list(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    let options = options(&call)?;
    let pools = office.operator.keyring(&KeyringOperation::List, options).await?;
    let pools: Vec<KeyringPool> = pools.into_iter().map(shown).collect();
    Ok(Reply::json(&pools, call.layout)?)
}

async fn install(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    change(&office, &call, KeyringOperation::Install).await
}

async fn make_primary(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    change(&office, &call, KeyringOperation::Use).await
}

async fn remove(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    change(&office, &call, KeyringOperation::Remove).await
}

async fn change(
    office: &Office,
    call: &Call,
    operation: fn(String) -> KeyringOperation,
) -> Result<Reply, Error> {
    let key = KeyRequest::from_body(&call.body)?.key;
    let options = options(call)?;
    if options.local_only {
        let text = "Bad request: Invalid use of local-only: local-only can only be set for list requests";
        return Err(ApiError::bad_request(text).into());
    }
    office.operator.keyring(&operation(key), options).await?;
    Ok(Reply::empty())
}

fn options(call: &Call) -> Result<KeyringOptions, ApiError> {
    let relay_factor = match call.query.text("relay-factor") {
        None => 0,
        Some(text) => relay_factor(text)?,
    };
    let local_only = match call.query.text("local-only") {
        None => false,
        Some(text) => parse_bool(text).ok_or_else(|| {
            ApiError::bad_request(format!(
                "Bad request: Error parsing local-only: strconv.ParseBool: parsing \"{text}\": invalid syntax"
            ))
        })?,
    };
    Ok(KeyringOptions { relay_factor, local_only })
}

fn relay_factor(text: &str) -> Result<u8, ApiError> {
    let number: i64 = text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "Bad request: Error parsing relay factor: strconv.Atoi: parsing \"{text}\": invalid syntax"
        ))
    })?;
    u8::try_from(number).ok().filter(|&number| number <= 5).ok_or_else(|| {
        ApiError::bad_request("Bad request: Invalid relay-factor: Relay factor must be in range: [0, 5]")
    })
}

fn shown(pool: PoolKeys) -> KeyringPool {
    KeyringPool {
        wan: pool.wan,
        datacenter: pool.datacenter,
        segment: String::new(),
        messages: pool.messages,
        keys: pool.keys,
        primary_keys: pool.primary_keys,
        num_nodes: pool.nodes,
    }
}
