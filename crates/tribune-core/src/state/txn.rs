//! Transactions: every operation is tried on a state of its own, in order, each seeing what those before it did.
//! Only when none is refused does that state become the state.

use super::catalog::Change;
use super::{Effect, State};
use crate::command::{Outcome, Refusal, Registration, Target};
use crate::ids::{CheckId, Folded, Index, InstanceId, NodeName};
use crate::kv::{Blob, KvChange, KvEntry, KvKey, KvRefusal};
use crate::model::{Check, Node, ServiceInstance, Stored};
use crate::txn::{
    CatalogItem, CatalogOp, KvRead, NodeKey, Transaction, TxnError, TxnOp, TxnRefusal, TxnResult,
};

type Done = Result<Vec<TxnResult>, TxnRefusal>;

impl State {
    /// Does all operations or none. Every one is tried even when an earlier one was refused, so that the caller
    /// learns of all that stands against it.
    pub(super) fn transact(&mut self, index: Index, transaction: &Transaction) -> Effect {
        let before = self.clone();
        let mut change = Change::new(self, index);
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for (at, op) in transaction.0.iter().enumerate() {
            match change.operate(op) {
                Ok(gave) => results.extend(gave),
                Err(why) => errors.push(TxnError { op: at, why }),
            }
        }
        if !errors.is_empty() {
            *self = before;
            return Effect { outcome: Outcome::Refused(Refusal::Transaction(errors)), touched: Vec::new() };
        }
        let touched = change.finish();
        Effect { outcome: Outcome::Transacted { changed: !touched.is_empty(), results }, touched }
    }

    /// What a transaction that changes nothing gives now.
    pub fn look(&self, transaction: &Transaction) -> Outcome {
        self.clone().transact(self.index, transaction).outcome
    }
}

impl Change<'_> {
    fn operate(&mut self, op: &TxnOp) -> Done {
        match op {
            TxnOp::Kv(change) => self.operate_on_keys(change),
            TxnOp::KvRead(read) => self.read_keys(read),
            TxnOp::Node(op) => self.operate_on_node(op),
            TxnOp::Service(node, op) => self.operate_on_service(node, op),
            TxnOp::Check(node, op) => self.operate_on_check(node, op),
        }
    }

    fn operate_on_keys(&mut self, change: &KvChange) -> Done {
        self.kv(change).map_err(|refusal| match (refusal, change) {
            (Refusal::Kv { key, why: KvRefusal::StaleIndex }, KvChange::Delete { .. }) => {
                TxnRefusal::StaleDelete(key)
            }
            (refusal, _) => refused(refusal),
        })?;
        Ok(match change {
            KvChange::Put(put) => {
                self.entry(&put.key).map(|entry| without_value(&entry)).into_iter().collect()
            }
            KvChange::Delete { .. } | KvChange::DeleteTree(_) => Vec::new(),
        })
    }

    fn read_keys(&self, read: &KvRead) -> Done {
        match read {
            KvRead::Get(key) => match self.entry(key) {
                Some(entry) => Ok(vec![TxnResult::Kv(entry)]),
                None => Err(TxnRefusal::NoKey(key.clone())),
            },
            KvRead::GetOrEmpty(key) => {
                Ok(vec![TxnResult::Kv(self.entry(key).unwrap_or_else(|| nothing(key)))])
            }
            KvRead::GetTree(prefix) => {
                Ok(self.state.keys.under(prefix).map(|entry| TxnResult::Kv((**entry).clone())).collect())
            }
            KvRead::CheckIndex(key, wanted) => match self.entry(key) {
                None => Err(TxnRefusal::NoKeyToCheckIndex(key.clone())),
                Some(entry) if entry.modified == *wanted => Ok(vec![without_value(&entry)]),
                Some(entry) => {
                    let (key, current, wanted) = (key.clone(), entry.modified, *wanted);
                    Err(TxnRefusal::OtherIndex { key, current, wanted })
                }
            },
            KvRead::CheckSession(key, wanted) => match self.entry(key) {
                None => Err(TxnRefusal::NoKeyToCheckSession(key.clone())),
                Some(entry) if entry.value.session == *wanted => Ok(vec![without_value(&entry)]),
                Some(entry) => {
                    let (key, current, wanted) = (key.clone(), entry.value.session, wanted.clone());
                    Err(TxnRefusal::OtherSession { key, current, wanted })
                }
            },
            KvRead::CheckNotExists(key) => match self.entry(key) {
                None => Ok(Vec::new()),
                Some(_) => Err(TxnRefusal::KeyExists(key.clone())),
            },
        }
    }

    fn entry(&self, key: &KvKey) -> Option<Stored<KvEntry>> {
        self.state.keys.entries.get(key).map(|entry| (**entry).clone())
    }

    fn operate_on_node(&mut self, op: &CatalogOp<NodeKey, Node>) -> Done {
        let item = |name: &str| CatalogItem::Node(name.into());
        match op {
            CatalogOp::Get(named) => match self.node_named(named) {
                Some(node) => Ok(vec![TxnResult::Node(node)]),
                None => Err(TxnRefusal::Missing(item(&named.name))),
            },
            CatalogOp::Set(node) => self.set_node(node),
            CatalogOp::SetAt(node, index) => {
                let current = self.node(&node.name.folded()).map(|node| node.modified);
                admit_set(current, *index, item(node.name.as_str()))?;
                self.set_node(node)
            }
            CatalogOp::Delete(named) => self.remove(&Folded::new(&named.name), &Target::Node),
            CatalogOp::DeleteAt(named, index) => {
                let key = Folded::new(&named.name);
                admit_delete(self.node(&key).map(|node| node.modified), *index, item(&named.name))?;
                self.remove(&key, &Target::Node)
            }
        }
    }

    fn set_node(&mut self, node: &Node) -> Done {
        self.put(Registration {
            node: node.clone(),
            skip_node_update: false,
            service: None,
            checks: vec![],
        })?;
        Ok(self.node(&node.name.folded()).map(TxnResult::Node).into_iter().collect())
    }

    fn operate_on_service(&mut self, node: &NodeName, op: &CatalogOp<InstanceId, ServiceInstance>) -> Done {
        let item = |id: &InstanceId| CatalogItem::Service(node.clone(), id.clone());
        match op {
            CatalogOp::Get(id) => match self.instance(node, id) {
                Some(service) => Ok(vec![TxnResult::Service(service)]),
                None => Err(TxnRefusal::Missing(item(id))),
            },
            CatalogOp::Set(service) => self.set_service(node, service),
            CatalogOp::SetAt(service, index) => {
                let current = self.instance(node, &service.id).map(|service| service.modified);
                admit_set(current, *index, item(&service.id))?;
                self.set_service(node, service)
            }
            CatalogOp::Delete(id) => self.remove(&node.folded(), &Target::Instance(id.clone())),
            CatalogOp::DeleteAt(id, index) => {
                admit_delete(self.instance(node, id).map(|service| service.modified), *index, item(id))?;
                self.remove(&node.folded(), &Target::Instance(id.clone()))
            }
        }
    }

    fn set_service(&mut self, node: &NodeName, service: &ServiceInstance) -> Done {
        let on = self.known_node(node)?;
        let service_of = Some(service.clone());
        self.put(Registration { node: on, skip_node_update: true, service: service_of, checks: vec![] })?;
        Ok(self.instance(node, &service.id).map(TxnResult::Service).into_iter().collect())
    }

    fn operate_on_check(&mut self, node: &NodeName, op: &CatalogOp<CheckId, Check>) -> Done {
        let item = |id: &CheckId| CatalogItem::Check(node.clone(), id.clone());
        match op {
            CatalogOp::Get(id) => match self.check_result(node, id) {
                Some(check) => Ok(vec![check]),
                None => Err(TxnRefusal::Missing(item(id))),
            },
            CatalogOp::Set(check) => self.set_check(node, check),
            CatalogOp::SetAt(check, index) => {
                let current = self.check(node, &check.id).map(|check| check.modified);
                admit_set(current, *index, item(&check.id))?;
                self.set_check(node, check)
            }
            CatalogOp::Delete(id) => self.remove(&node.folded(), &Target::Check(id.clone())),
            CatalogOp::DeleteAt(id, index) => {
                admit_delete(self.check(node, id).map(|check| check.modified), *index, item(id))?;
                self.remove(&node.folded(), &Target::Check(id.clone()))
            }
        }
    }

    fn set_check(&mut self, node: &NodeName, check: &Check) -> Done {
        let on = self.known_node(node)?;
        let checks = vec![check.clone()];
        self.put(Registration { node: on, skip_node_update: true, service: None, checks })?;
        Ok(self.check_result(node, &check.id).into_iter().collect())
    }

    /// Sessions end with what they depend on at once: a later operation may put it back.
    fn put(&mut self, registration: Registration) -> Result<(), TxnRefusal> {
        self.register(&registration).map_err(refused)?;
        self.end_unfounded_sessions();
        Ok(())
    }

    fn remove(&mut self, node: &Folded, target: &Target) -> Done {
        self.deregister(node, target);
        self.end_unfounded_sessions();
        Ok(Vec::new())
    }

    fn node(&self, key: &Folded) -> Option<Stored<Node>> {
        self.state.nodes.get(key).map(|entry| entry.node.clone())
    }

    fn node_named(&self, named: &NodeKey) -> Option<Stored<Node>> {
        if named.id.is_empty() {
            return self.node(&Folded::new(&named.name));
        }
        self.node(self.state.node_ids.get(&Folded::new(&named.id))?)
    }

    fn known_node(&self, name: &NodeName) -> Result<Node, TxnRefusal> {
        match self.node(&name.folded()) {
            Some(node) => Ok(node.value),
            None => Err(TxnRefusal::NoNode(name.clone())),
        }
    }

    fn instance(&self, node: &NodeName, id: &InstanceId) -> Option<Stored<ServiceInstance>> {
        let node = self.state.nodes.get(&node.folded())?;
        node.instances.get(&id.folded()).map(|instance| instance.service.clone())
    }

    fn check(&self, node: &NodeName, id: &CheckId) -> Option<Stored<Check>> {
        let node = self.state.nodes.get(&node.folded())?;
        node.checks.get(&id.folded()).map(|check| (**check).clone())
    }

    fn check_result(&self, node: &NodeName, id: &CheckId) -> Option<TxnResult> {
        let check = self.check(node, id)?;
        let owner = check.value.service_id.as_ref().and_then(|owner| self.instance(node, owner));
        let service = owner.map(|owner| Box::new(owner.value));
        let node = self.node(&node.folded())?.value.name;
        Some(TxnResult::Check { node, check, service })
    }
}

/// Index 0 wants it not to be there.
fn admit_set(current: Option<Index>, wanted: Index, item: CatalogItem) -> Result<(), TxnRefusal> {
    if current.unwrap_or_default() == wanted {
        Ok(())
    } else {
        Err(TxnRefusal::Stale { item, deletes: false })
    }
}

fn admit_delete(current: Option<Index>, wanted: Index, item: CatalogItem) -> Result<(), TxnRefusal> {
    if current == Some(wanted) { Ok(()) } else { Err(TxnRefusal::Stale { item, deletes: true }) }
}

fn refused(refusal: Refusal) -> TxnRefusal {
    TxnRefusal::Refused(Box::new(refusal))
}

/// What was written is known to whoever wrote it: the value is left out of the result.
fn without_value(entry: &Stored<KvEntry>) -> TxnResult {
    let mut entry = entry.clone();
    entry.value.value = Blob::default();
    TxnResult::Kv(entry)
}

fn nothing(key: &KvKey) -> Stored<KvEntry> {
    let (value, session) = (Blob::default(), None);
    let value = KvEntry { key: key.clone(), value, flags: 0, lock_index: 0, session };
    Stored { value, created: Index(0), modified: Index(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::ids::NAME_BYTES_MAX;
    use crate::model::Pairs;

    #[test]
    fn a_node_goes_whose_name_is_too_long_without_its_capitals() {
        let name = NodeName::new("İ".repeat(NAME_BYTES_MAX / 2)).unwrap();
        assert!(name.folded().as_str().len() > NAME_BYTES_MAX);
        let named = NodeKey { name: name.as_str().into(), id: "".into() };
        let (tagged_addresses, meta) = (Pairs::default(), Pairs::default());
        let node = Node { name, id: "".into(), address: "10.0.0.1".into(), tagged_addresses, meta };
        let mut state = State::default();
        let set = TxnOp::Node(CatalogOp::Set(Box::new(node)));
        state.apply(Index(1), &Command::Transaction(Box::new(Transaction(vec![set]))));
        assert_eq!(state.nodes.len(), 1);
        let delete = TxnOp::Node(CatalogOp::Delete(named));
        state.apply(Index(2), &Command::Transaction(Box::new(Transaction(vec![delete]))));
        assert_eq!(state.nodes.len(), 0);
    }
}
