//! The garbage collector: deletes objects whose owners are gone, in the order that the deletion of
//! the owner asked for.
//!
//! Background: the owner goes first, the dependents follow. Foreground: the owner stays, marked, until
//! every dependent that blocks it has gone. Orphan: the dependents are disowned, then the owner
//! goes. The [`graph::Graph`] says what to look at; what is found there is read again from the API
//! before anything is deleted, because no watch proves that an owner does not exist.

pub(crate) mod graph;
pub(crate) mod plan;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use parking_lot::{Mutex, MutexGuard};
use serde_json::json;

use self::graph::{Deletion, FOREGROUND, Graph, Node, ORPHAN};
use self::plan::{Action, Owner, plan};
use crate::controller::{Controller, Next, Setup, Watches};
use crate::error::{self, Error};
use crate::inventory::{Inventory, Kind, MetaChange};
use crate::queue::Queue;

/// Owners known not to exist; uids are never used again.
const ABSENT_MAX: usize = 500;

/// How long an object waits whose owner is of a kind that is not served, before its owners are looked at
/// again: upstream's longest back-off here. Until then it costs neither a request nor a worker.
const UNSERVED_RETRY: Duration = Duration::from_secs(1000);

/// Deletes what has lost its owners.
pub(crate) struct GarbageCollector {
    client: Client,
    inventory: Inventory,
    /// Uids to look at.
    queue: Queue<String>,
    graph: Mutex<Graph>,
    /// Owners that were looked for and not found, with the namespace they were looked for in.
    absent: Mutex<VecDeque<(String, String)>>,
}

impl Controller for GarbageCollector {
    const NAME: &'static str = "garbage-collector";
    /// Upstream's `--concurrent-gc-syncs`.
    const WORKERS: usize = 20;
    /// Of uids.
    type Queue = Queue<String>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.on_any(Self::changed);
    }

    async fn reconcile(&self, uid: &String) -> Result<Next, Error> {
        let node = self.graph().node(uid).cloned();
        let Some(node) = node else { return Ok(Next::Change) };
        if node.deletion == Deletion::None && self.has_all_owners(&node) {
            return Ok(Next::Change);
        }
        // Anybody who makes objects can name such owners, so this must not cost a request each time.
        if node.deletion == Deletion::None && !self.serves_kinds(&node.owners) {
            return Ok(Next::After(UNSERVED_RETRY));
        }
        let Some(meta) = self.fresh(&node, uid).await? else { return Ok(Next::Change) };
        match Deletion::of(&meta) {
            Deletion::None => self.collect(uid, &node, &meta).await?,
            Deletion::Plain => {}
            Deletion::Foreground => self.await_dependents(uid, &node, &meta).await?,
            Deletion::Orphan => self.orphan_dependents(uid, &node, &meta).await?,
        }
        Ok(Next::Change)
    }
}

impl GarbageCollector {
    pub(crate) fn new(setup: &mut Setup<'_, Self>) -> Self {
        Self {
            client: setup.client(),
            inventory: setup.inventory(),
            queue: setup.queue(),
            graph: Mutex::default(),
            absent: Mutex::default(),
        }
    }

    fn changed(&self, kind: &Arc<Kind>, change: &MetaChange<'_>) {
        let mut graph = self.graph();
        let look = match change.new {
            Some(meta) => graph.set(kind, meta),
            None => graph.remove(change.latest().uid.as_deref().unwrap_or_default()),
        };
        drop(graph);
        look.into_iter().for_each(|uid| self.queue.add(uid));
    }

    /// The object as it is now, if it still is that object.
    async fn fresh(&self, node: &Node, uid: &str) -> Result<Option<ObjectMeta>, Error> {
        let api = node.kind.api(self.client.clone(), &node.key.namespace);
        let found = api.get_opt(&node.key.name).await.map_err(Error::api("get an object"))?;
        let meta = found.map(|object| object.metadata);
        Ok(meta.filter(|meta| meta.uid.as_deref() == Some(uid)))
    }

    async fn collect(&self, uid: &str, node: &Node, meta: &ObjectMeta) -> Result<(), Error> {
        let mut owners = Vec::new();
        for reference in meta.owner_references.iter().flatten() {
            owners.push(self.owner(node, reference).await?);
        }
        let has_dependents = !self.graph().dependents(uid).is_empty();
        match plan(meta, &owners, has_dependents) {
            Action::Keep => Ok(()),
            Action::Disown(lost) => self.disown(node, meta, &lost).await,
            Action::Delete(policy) => self.delete(node, meta, policy).await,
        }
    }

    /// Whether all owners are known to be there, as nearly always: then nothing has to be read, because
    /// the object is looked at again when one of them goes.
    fn has_all_owners(&self, node: &Node) -> bool {
        let mut owners = node.owners.iter();
        owners.all(|reference| self.known_owner(node, reference) == Some(Owner::Solid))
    }

    /// Whether the kinds of all owners are served.
    fn serves_kinds(&self, owners: &[OwnerReference]) -> bool {
        let mut owners = owners.iter();
        owners.all(|owner| self.inventory.kind(&owner.api_version, &owner.kind).is_some())
    }

    /// What became of an owner that the watches have shown.
    fn known_owner(&self, node: &Node, reference: &OwnerReference) -> Option<Owner> {
        let graph = self.graph();
        let owner = graph.node(&reference.uid)?;
        let is_meant = owner.kind.resource.kind == reference.kind
            && (owner.key.namespace.is_empty() || owner.key.namespace == node.key.namespace);
        is_meant.then(|| standing(owner.deletion))
    }

    /// What became of an owner, from the graph if it is there, else from the API.
    async fn owner(&self, node: &Node, reference: &OwnerReference) -> Result<Owner, Error> {
        if let Some(known) = self.known_owner(node, reference) {
            return Ok(known);
        }
        let namespace = node.key.namespace.as_str();
        let absent = (reference.uid.clone(), namespace.to_owned());
        if self.absent().contains(&absent) {
            return Ok(Owner::Absent);
        }
        let Some(kind) = self.inventory.kind(&reference.api_version, &reference.kind) else {
            return Err(Error::Unfinished("the kind of an owner is not served"));
        };
        if kind.namespaced && namespace.is_empty() {
            // A reference that cannot be followed proves nothing.
            return Ok(Owner::Solid);
        }
        let api = kind.api(self.client.clone(), namespace);
        let found = api.get_opt(&reference.name).await.map_err(Error::api("get an owner"))?;
        match found.filter(|owner| owner.metadata.uid.as_ref() == Some(&reference.uid)) {
            Some(owner) => Ok(standing(Deletion::of(&owner.metadata))),
            None => {
                let mut all = self.absent();
                if all.len() == ABSENT_MAX {
                    all.pop_front();
                }
                all.push_back(absent);
                Ok(Owner::Absent)
            }
        }
    }

    async fn delete(
        &self,
        node: &Node,
        meta: &ObjectMeta,
        policy: PropagationPolicy,
    ) -> Result<(), Error> {
        let preconditions = Preconditions {
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
        };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        tracing::debug!(kind = %node.kind, object = %node.key, "owners are gone, deleting");
        let api = node.kind.api(self.client.clone(), &node.key.namespace);
        match api.delete(&node.key.name, &params).await {
            Err(error) if error::is_not_found(&error) => Ok(()),
            other => other.map(drop).map_err(Error::api("delete an object")),
        }
    }

    async fn disown(&self, node: &Node, meta: &ObjectMeta, lost: &[String]) -> Result<(), Error> {
        let stays = |owner: &&OwnerReference| !lost.contains(&owner.uid);
        let owners: Vec<_> = meta.owner_references.iter().flatten().filter(stays).collect();
        self.patch(node, meta, json!({ "ownerReferences": owners })).await
    }

    async fn await_dependents(
        &self,
        uid: &str,
        node: &Node,
        meta: &ObjectMeta,
    ) -> Result<(), Error> {
        let (blocking, going): (Vec<_>, Vec<_>) = {
            let graph = self.graph();
            let blocking = graph.blocking(uid);
            let deleted =
                |uid: &String| graph.node(uid).is_some_and(|node| node.deletion != Deletion::None);
            blocking.into_iter().partition(|uid| !deleted(uid))
        };
        if blocking.is_empty() && going.is_empty() {
            return self.remove_finalizer(node, meta, FOREGROUND).await;
        }
        blocking.into_iter().for_each(|uid| self.queue.add(uid));
        Ok(())
    }

    async fn orphan_dependents(
        &self,
        uid: &str,
        node: &Node,
        meta: &ObjectMeta,
    ) -> Result<(), Error> {
        let dependents: Vec<(String, Node)> = {
            let graph = self.graph();
            let all = graph.dependents(uid).into_iter();
            all.filter_map(|uid| Some((uid.clone(), graph.node(&uid)?.clone()))).collect()
        };
        for (dependent_uid, dependent) in dependents {
            if let Some(dependent_meta) = self.fresh(&dependent, &dependent_uid).await? {
                self.disown(&dependent, &dependent_meta, &[uid.to_owned()]).await?;
            }
        }
        self.remove_finalizer(node, meta, ORPHAN).await
    }

    async fn remove_finalizer(
        &self,
        node: &Node,
        meta: &ObjectMeta,
        finalizer: &str,
    ) -> Result<(), Error> {
        let stays = |one: &&String| *one != finalizer;
        let finalizers: Vec<_> = meta.finalizers.iter().flatten().filter(stays).collect();
        self.patch(node, meta, json!({ "finalizers": finalizers })).await
    }

    /// Changes metadata of exactly the object that was read.
    async fn patch(
        &self,
        node: &Node,
        meta: &ObjectMeta,
        mut change: serde_json::Value,
    ) -> Result<(), Error> {
        change["uid"] = json!(meta.uid);
        change["resourceVersion"] = json!(meta.resource_version);
        let patch = Patch::Merge(json!({ "metadata": change }));
        let api = node.kind.api(self.client.clone(), &node.key.namespace);
        match api.patch(&node.key.name, &PatchParams::default(), &patch).await {
            Err(error) if error::is_not_found(&error) => Ok(()),
            other => other.map(drop).map_err(Error::api("change an object's metadata")),
        }
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock()
    }

    fn absent(&self) -> MutexGuard<'_, VecDeque<(String, String)>> {
        self.absent.lock()
    }
}

fn standing(deletion: Deletion) -> Owner {
    match deletion {
        Deletion::Foreground => Owner::Waiting,
        _ => Owner::Solid,
    }
}

#[cfg(test)]
mod tests {
    use kube::api::ApiResource;

    use super::*;
    use crate::testing::Api as Server;

    fn kind(name: &str, plural: &str) -> Arc<Kind> {
        let resource = ApiResource {
            group: String::new(),
            version: "v1".into(),
            api_version: "v1".into(),
            kind: name.into(),
            plural: plural.into(),
        };
        Arc::new(Kind { resource, namespaced: true })
    }

    fn meta(name: &str, owner: Option<&str>) -> ObjectMeta {
        let owners = owner.map(|owner| {
            json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": owner }])
        });
        serde_json::from_value(json!({ "namespace": "ns", "name": name, "uid": name,
                                       "ownerReferences": owners }))
        .expect("metadata")
    }

    /// Every pod that a ReplicaSet makes is new with an owner: were each read again, making a pod would
    /// cost one more request.
    #[tokio::test]
    async fn an_object_whose_owners_are_known_costs_no_request_and_one_without_is_read_again() {
        let server = Server::answering(|_| None);
        let maps = kind("ConfigMap", "configmaps");
        let collector = GarbageCollector {
            client: server.client(),
            inventory: Inventory::knowing(std::slice::from_ref(&maps)),
            queue: Queue::default(),
            graph: Mutex::default(),
            absent: Mutex::default(),
        };
        let see = |meta: &ObjectMeta| {
            collector.changed(&maps, &MetaChange { old: None, new: Some(meta) });
        };
        see(&meta("owned", Some("owner")));
        see(&meta("owner", None));
        collector.reconcile(&"owned".to_owned()).await.expect("reconciled");
        assert_eq!(server.lines(), Vec::<String>::new());

        see(&meta("lost", Some("gone")));
        collector.reconcile(&"lost".to_owned()).await.expect("reconciled");
        assert_eq!(server.lines(), ["GET /api/v1/namespaces/ns/configmaps/lost"]);
    }

    /// A user may make as many as fit, and nothing ever settles them.
    #[tokio::test]
    async fn an_object_with_an_owner_of_a_kind_that_is_not_served_costs_no_request() {
        let server = Server::answering(|_| None);
        let maps = kind("ConfigMap", "configmaps");
        let collector = GarbageCollector {
            client: server.client(),
            inventory: Inventory::knowing(std::slice::from_ref(&maps)),
            queue: Queue::default(),
            graph: Mutex::default(),
            absent: Mutex::default(),
        };
        let mut stray = meta("stray", Some("gone"));
        let owners = stray.owner_references.as_mut().expect("an owner");
        let unserved = OwnerReference { kind: "Cheese".to_owned(), ..owners[0].clone() };
        owners.push(unserved);
        collector.changed(&maps, &MetaChange { old: None, new: Some(&stray) });
        for _ in 0..3 {
            let next = collector.reconcile(&"stray".to_owned()).await.expect("no error to retry");
            assert_eq!(next, Next::After(UNSERVED_RETRY));
        }
        assert_eq!(server.lines(), Vec::<String>::new());
    }
}
