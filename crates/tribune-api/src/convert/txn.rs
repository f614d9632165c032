//! Transactions: from the body of a request to operations. What is wrong with one operation is told with its
//! number, as what the state refuses is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tribune_core::{
    Blob, CatalogOp, CheckId, Index, InstanceId, KvChange, KvKey, KvPut, KvRead, Node, NodeKey, NodeName,
    PutMode, Transaction, TxnOp,
};

use super::{bad_name, catalog_check, catalog_service, node_name, pairs, validate_uuid};
use crate::catalog::ServiceRegistration;
use crate::decode::{DecodeError, DecodeReason, Object, parse};
use crate::error::ApiError;
use crate::health::CheckRegistration;
use crate::kv::session;
use crate::txn::{OPERATIONS_MAX, TxnFailure};

/// A request body that was read: operations, or what is wrong with some of them.
pub type TxnRequest = Result<Transaction, Vec<TxnFailure>>;

/// One operation as it was read. Empty ones are passed over.
type Read = Option<Result<TxnOp, ApiError>>;

/// Reads the body of `/v1/txn`; no value may be longer than `value_bytes_max`.
pub fn transaction(body: &[u8], value_bytes_max: usize) -> Result<TxnRequest, ApiError> {
    let failed = |error: DecodeError| ApiError::bad_request(format!("Failed to parse body: {error}"));
    let items = match parse(body).map_err(failed)? {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        _ => return Err(ApiError::bad_request("Failed to parse body: json: a list of operations is wanted")),
    };
    if items.len() > OPERATIONS_MAX {
        let text = format!("Transaction contains too many operations ({} > {OPERATIONS_MAX})", items.len());
        return Err(ApiError::new(413, text));
    }
    let (mut operations, mut failures) = (Vec::with_capacity(items.len()), Vec::new());
    for item in items {
        match operation(item).map_err(failed)? {
            None => {}
            Some(Ok(op)) => {
                refuse_large(&op, value_bytes_max)?;
                operations.push(op);
            }
            Some(Err(error)) => {
                failures
                    .push(TxnFailure { op_index: operations.len() + failures.len(), what: error.message });
            }
        }
    }
    Ok(if failures.is_empty() { Ok(Transaction(operations)) } else { Err(failures) })
}

fn refuse_large(op: &TxnOp, bytes_max: usize) -> Result<(), ApiError> {
    if let TxnOp::Kv(KvChange::Put(put)) = op
        && put.value.as_bytes().len() > bytes_max
    {
        let (key, bytes) = (&put.key, put.value.as_bytes().len());
        let text = format!("Value for key \"{key}\" is too large ({bytes} > {bytes_max} bytes)");
        return Err(ApiError::new(413, text));
    }
    Ok(())
}

fn operation(item: Value) -> Result<Read, DecodeError> {
    let mut object = Object::new(item)?;
    let kv = object.nested(&["KV"], on_key)?;
    let node = object.nested(&["Node"], on_node)?;
    let service = object.nested(&["Service"], on_service)?;
    let check = object.nested(&["Check"], on_check)?;
    object.refuse(&["Intention"], "intentions are not part of Tribune")?;
    object.refuse(&["Session"], "sessions are created and ended outside of transactions")?;
    object.finish()?;
    Ok(kv.or(node).or(service).or(check))
}

/// The fields of a KV operation.
struct OnKey {
    verb: String,
    key: String,
    value: Blob,
    flags: u64,
    index: Index,
    session: String,
}

fn on_key(value: Value) -> Result<Result<TxnOp, ApiError>, DecodeError> {
    let mut object = Object::new(value)?;
    let read = OnKey {
        verb: object.text(&["Verb"])?,
        key: object.text(&["Key"])?,
        value: object.nested(&["Value"], base64)?.unwrap_or_default(),
        flags: object.nested(&["Flags"], number)?.unwrap_or(0),
        index: Index(object.nested(&["Index"], number)?.unwrap_or(0)),
        session: object.text(&["Session"])?,
    };
    object.refuse_enterprise()?;
    object.finish()?;
    Ok(read.into_op())
}

impl OnKey {
    fn into_op(self) -> Result<TxnOp, ApiError> {
        Ok(match self.verb.as_str() {
            "set" => self.put(PutMode::Always)?,
            "cas" => {
                let index = self.index;
                self.put(PutMode::OnlyAt(index))?
            }
            "lock" => {
                let session = session(&self.session)?;
                self.put(PutMode::Acquire(session))?
            }
            "unlock" => {
                let session = session(&self.session)?;
                self.put(PutMode::Release(session))?
            }
            "delete" => TxnOp::Kv(KvChange::Delete { key: self.key()?, only_at: None }),
            "delete-cas" => TxnOp::Kv(KvChange::Delete { key: self.key()?, only_at: Some(self.index) }),
            "delete-tree" => TxnOp::Kv(KvChange::DeleteTree(self.key.into())),
            "get" => TxnOp::KvRead(KvRead::Get(self.key()?)),
            "get-or-empty" => TxnOp::KvRead(KvRead::GetOrEmpty(self.key()?)),
            "get-tree" => TxnOp::KvRead(KvRead::GetTree(self.key.into())),
            "check-index" => TxnOp::KvRead(KvRead::CheckIndex(self.key()?, self.index)),
            "check-session" => {
                let session = if self.session.is_empty() { None } else { Some(session(&self.session)?) };
                TxnOp::KvRead(KvRead::CheckSession(self.key()?, session))
            }
            "check-not-exists" => TxnOp::KvRead(KvRead::CheckNotExists(self.key()?)),
            other => return Err(ApiError::server(format!("unknown KV verb \"{other}\""))),
        })
    }

    fn put(self, mode: PutMode) -> Result<TxnOp, ApiError> {
        let key = self.key()?;
        Ok(TxnOp::Kv(KvChange::Put(KvPut { key, value: self.value, flags: self.flags, mode })))
    }

    fn key(&self) -> Result<KvKey, ApiError> {
        if self.key.is_empty() {
            return Err(ApiError::server("Must provide key"));
        }
        KvKey::new(self.key.as_str()).map_err(|why| ApiError::server(format!("Invalid key: {why}")))
    }
}

fn on_node(value: Value) -> Result<Result<TxnOp, ApiError>, DecodeError> {
    let mut object = Object::new(value)?;
    let verb = object.text(&["Verb"])?;
    let read = object.nested(&["Node"], |value| {
        let mut node = Object::new(value)?;
        let read = (node.text(&["ID"])?, node.text(&["Node"])?, node.text(&["Address"])?);
        let maps = (node.pairs(&["TaggedAddresses"])?, node.pairs(&["Meta"])?);
        let index = node.nested(&["ModifyIndex"], number)?.unwrap_or(0);
        for read_only in ["Datacenter", "CreateIndex", "Locality"] {
            node.take(&[read_only])?;
        }
        node.refuse(&["PeerName"], "cluster peering is not part of Tribune; leave it out")?;
        node.refuse_enterprise()?;
        node.finish()?;
        Ok((read, maps, Index(index)))
    })?;
    object.finish()?;
    let ((id, name, address), (tagged_addresses, meta), index) = read.unwrap_or_default();
    let named = NodeKey { name: name.as_str().into(), id: id.to_ascii_lowercase().into() };
    let node = || {
        validate_uuid(&id).map_err(|why| ApiError::server(format!("Bad node ID: {why}")))?;
        Ok(Node {
            name: node_name(&name)?,
            id: named.id.clone(),
            address: address.into(),
            tagged_addresses: pairs(tagged_addresses),
            meta: pairs(meta),
        })
    };
    let by_name = || node_name(&name).map(|_| named.clone());
    let either = || if id.is_empty() { by_name() } else { Ok(named.clone()) };
    Ok(match verb.as_str() {
        "get" => either().map(CatalogOp::Get),
        "set" => node().map(|node| CatalogOp::Set(Box::new(node))),
        "cas" => node().map(|node| CatalogOp::SetAt(Box::new(node), index)),
        "delete" => by_name().map(CatalogOp::Delete),
        "delete-cas" => by_name().map(|key| CatalogOp::DeleteAt(key, index)),
        other => Err(unknown_verb("Node", other)),
    }
    .map(TxnOp::Node))
}

fn on_service(value: Value) -> Result<Result<TxnOp, ApiError>, DecodeError> {
    let mut object = Object::new(value)?;
    let (verb, node) = (object.text(&["Verb"])?, object.text(&["Node"])?);
    let value = object.take(&["Service"])?.unwrap_or_default();
    object.refuse_enterprise()?;
    object.finish()?;
    let index = modify_index(&value)?;
    let service = ServiceRegistration::decode(value)?;
    Ok(service_op(&verb, &node, service, index))
}

fn service_op(verb: &str, node: &str, service: ServiceRegistration, index: Index) -> Result<TxnOp, ApiError> {
    let node = node_name(node)?;
    let id = if service.id.is_empty() { service.service.clone() } else { service.id.clone() };
    let id = || InstanceId::new(id.as_str()).map_err(|why| bad_name("service ID", &id, why));
    let op = match verb {
        "get" => CatalogOp::Get(id()?),
        "set" => CatalogOp::Set(Box::new(catalog_service(service, &node)?)),
        "cas" => CatalogOp::SetAt(Box::new(catalog_service(service, &node)?), index),
        "delete" => CatalogOp::Delete(id()?),
        "delete-cas" => CatalogOp::DeleteAt(id()?, index),
        other => return Err(unknown_verb("Service", other)),
    };
    Ok(TxnOp::Service(node, op))
}

fn on_check(value: Value) -> Result<Result<TxnOp, ApiError>, DecodeError> {
    let mut object = Object::new(value)?;
    let verb = object.text(&["Verb"])?;
    let value = object.take(&["Check"])?.unwrap_or_default();
    object.refuse_enterprise()?;
    object.finish()?;
    let index = modify_index(&value)?;
    let check = CheckRegistration::decode(value)?;
    Ok(check_op(&verb, check, index))
}

fn check_op(verb: &str, check: CheckRegistration, index: Index) -> Result<TxnOp, ApiError> {
    let node: NodeName = node_name(&check.node)?;
    let id = if check.check_id.is_empty() { check.name.clone() } else { check.check_id.clone() };
    let id = || CheckId::new(id.as_str()).map_err(|why| bad_name("check ID", &id, why));
    let op = match verb {
        "get" => CatalogOp::Get(id()?),
        "set" => CatalogOp::Set(Box::new(catalog_check(check, &node)?)),
        "cas" => CatalogOp::SetAt(Box::new(catalog_check(check, &node)?), index),
        "delete" => CatalogOp::Delete(id()?),
        "delete-cas" => CatalogOp::DeleteAt(id()?, index),
        other => return Err(unknown_verb("Check", other)),
    };
    Ok(TxnOp::Check(node, op))
}

fn unknown_verb(what: &str, verb: &str) -> ApiError {
    ApiError::server(format!("unknown {what} verb \"{verb}\""))
}

/// The index that a service or check is given with, which registrations pass over.
fn modify_index(value: &Value) -> Result<Index, DecodeError> {
    let fields = value.as_object().into_iter().flatten();
    let mut found = fields.filter(|(key, _)| key.eq_ignore_ascii_case("ModifyIndex"));
    found.next().map_or(Ok(Index(0)), |(_, value)| number(value.clone()).map(Index))
}

fn number(value: Value) -> Result<u64, DecodeError> {
    let refused = || DecodeError::here(DecodeReason::Refused(format!("json: {value} is no whole number")));
    value.as_u64().ok_or_else(refused)
}

fn base64(value: Value) -> Result<Blob, DecodeError> {
    let refused = |why: String| DecodeError::here(DecodeReason::Refused(why));
    let Value::String(text) = value else { return Err(refused("json: a value must be a string".to_owned())) };
    let bytes = STANDARD.decode(text).map_err(|why| refused(format!("illegal base64 data: {why}")))?;
    Ok(bytes.into())
}
