//! `/v1/kv/…`: keys and values.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method};
use tribune_api::kv::{self, KvJson};
use tribune_api::{ApiError, json};
use tribune_core::{Command, KvChange, KvKey, KvRefusal, Outcome, Refusal, Topic};

use crate::call::Call;
use crate::datacenter::Datacenter;
use crate::error::Error;
use crate::limits::BodyLimit;
use crate::question::{Question, Topics};
use crate::read::Read;
use crate::reply::Reply;
use crate::router::Router;

const PATH: &str = "/v1/kv/";
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");

/// Stands before the bytes of a raw value, so that an empty value is not taken for none.
const IS_THERE: u8 = 1;

pub(crate) fn routes(dc: &Arc<Datacenter>) -> Router {
    let (bytes_max, setting) = (dc.config.value_bytes_max, "limits.kv_max_value_size");
    Router::default()
        .get(PATH, dc, get)
        .put(PATH, dc, put)
        .on(Method::DELETE, PATH, dc, delete)
        .bounded(PATH, BodyLimit::Set { bytes_max, setting })
}

async fn get(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    if call.query.flag("keys") {
        return names(&dc, &call).await;
    }
    if call.query.flag("recurse") {
        return tree(&dc, &call).await;
    }
    let key = kv::key(&call.argument)?;
    if call.query.flag("raw") {
        return raw(&dc, &call, &key).await;
    }
    let (read, _) = Read::new(&dc, &call)?;
    let topic = Topics::One(Topic::Key(key.clone()));
    let question = Question::new(PATH, key.as_str(), call.layout, topic);
    let reply = read
        .answer_plainly(question, |view| match view.key(&key) {
            Some(entry) => json::to_vec(&[KvJson(entry)], call.layout),
            None => Ok(Vec::new()),
        })
        .await?;
    Ok(reply.or_not_found())
}

/// The value as it is, under headers that keep a browser from running it.
async fn raw(dc: &Datacenter, call: &Call, key: &KvKey) -> Result<Reply, Error> {
    let (read, _) = Read::new(dc, call)?;
    let topic = Topics::One(Topic::Key(key.clone()));
    let question = Question::new("/v1/kv/?raw", key.as_str(), call.layout, topic);
    let value = |view: tribune_core::state::View<'_>| {
        let entry = view.key(key).map(|entry| entry.value.value.as_bytes());
        Ok(entry.map_or_else(Vec::new, |value| [&[IS_THERE], value].concat()))
    };
    read.answer_as(question, value, |found: Bytes| {
        if found.is_empty() {
            return Reply::bytes(found).or_not_found();
        }
        Reply::of_type(TEXT, found.slice(1..))
            .with_header(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
            .with_header(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"))
    })
    .await
}

/// All entries under a prefix.
async fn tree(dc: &Datacenter, call: &Call) -> Result<Reply, Error> {
    let (read, _) = Read::new(dc, call)?;
    let prefix = call.argument.as_str();
    let topic = Topics::One(Topic::Prefix(prefix.into()));
    let question = Question::new("/v1/kv/?recurse", prefix, call.layout, topic);
    let reply = read
        .answer_plainly(question, |view| {
            let mut entries = view.keys_under(prefix).map(KvJson).peekable();
            if entries.peek().is_none() {
                return Ok(Vec::new());
            }
            json::list(entries, call.layout)
        })
        .await?;
    Ok(reply.or_not_found())
}

/// The names of all keys under a prefix.
async fn names(dc: &Datacenter, call: &Call) -> Result<Reply, Error> {
    let (read, _) = Read::new(dc, call)?;
    let prefix = call.argument.as_str();
    let separator = call.query.get("separator").or_else(|| call.query.get("seperator")).unwrap_or_default();
    let topic = Topics::One(Topic::Prefix(prefix.into()));
    let mut question = Question::new("/v1/kv/?keys", prefix, call.layout, topic);
    question.part("separator", separator);
    let reply = read
        .answer_plainly(question, |view| {
            let keys = view.keys_under(prefix).map(|entry| entry.value.key.as_str());
            let mut names = kv::names(keys, prefix, separator).peekable();
            if names.peek().is_none() && !prefix.is_empty() {
                return Ok(Vec::new());
            }
            json::list(names, call.layout)
        })
        .await?;
    Ok(reply.or_not_found())
}

async fn put(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    call.query.refuse_foreign()?;
    let put = kv::put(&call.argument, &call.query, &call.body)?;
    change(&dc, &call, KvChange::Put(put)).await
}

async fn delete(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    call.query.refuse_foreign()?;
    let delete = kv::delete(&call.argument, &call.query)?;
    change(&dc, &call, delete).await
}

/// Answers whether the change was made. A session that is not there is an error, since trying again cannot help.
async fn change(dc: &Datacenter, call: &Call, change: KvChange) -> Result<Reply, Error> {
    let command = Command::Kv(Box::new(change));
    let done = match dc.replica.propose(&call.authority(), command).await? {
        Outcome::Applied | Outcome::Unchanged | Outcome::Transacted { .. } => true,
        Outcome::Refused(refusal) => match refusal {
            Refusal::Kv {
                why: KvRefusal::StaleIndex | KvRefusal::Held | KvRefusal::Delayed | KvRefusal::NotHeld,
                ..
            } => false,
            other => return Err(ApiError::from(other).into()),
        },
    };
    Ok(Reply::json(&done, call.layout)?)
}
