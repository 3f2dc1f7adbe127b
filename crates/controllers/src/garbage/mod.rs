//! The garbage collector: deletes objects whose owners no longer exist, by the propagation policy of the
//! owner's deletion.
//!
//! Background: the owner is deleted first. Foreground: the owner stays, with a finalizer, until every
//! blocking dependent is deleted. Orphan: the owner references are removed from the dependents, then the
//! owner is deleted. The [`graph::Graph`] finds the objects to check. They and their owners are read from the
//! API before a deletion, because a watch does not prove that an owner does not exist.

pub(crate) mod graph;
pub(crate) mod plan;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use coffer_client::path::segment;
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

/// Owners remembered as absent. Uids are never reused.
const ABSENT_MAX: usize = 500;

/// Retry interval of an object with an owner of a kind that is not served: upstream's longest back-off. Until
/// then it costs neither a request nor a worker.
const UNSERVED_RETRY: Duration = Duration::from_secs(1000);

/// Deletes objects whose owners no longer exist.
pub(crate) struct GarbageCollector {
    client: Client,
    inventory: Inventory,
    /// Uids of objects to check.
    queue: Queue<String>,
    graph: Mutex<Graph>,
    /// Owners that were not found, with the namespace of the dependent.
    absent: Mutex<VecDeque<(String, String)>>,
}

impl Controller for GarbageCollector {
    const NAME: &'static str = "garbage-collector";
    /// Upstream's `--concurrent-gc-syncs`.
    const WORKERS: usize = 20;
    /// The keys are uids.
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
        // Any user who creates objects can name such owners, so this must not cost a request each time.
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
        let to_check = match change.new {
            Some(meta) => graph.set(kind, meta),
            None => graph.remove(change.latest().uid.as_deref().unwrap_or_default()),
        };
        drop(graph);
        to_check.into_iter().for_each(|uid| self.queue.add(uid));
    }

    /// The object's present metadata, unless it no longer exists or was recreated.
    async fn fresh(&self, node: &Node, uid: &str) -> Result<Option<ObjectMeta>, Error> {
        let api = node.kind.api(self.client.clone(), &node.key.namespace);
        let found = api.get_opt(&segment(&node.key.name)).await;
        let found = found.map_err(Error::api("get an object"))?;
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

    /// Whether all owners are known to exist, which is the usual case: then nothing is read, because the
    /// object is checked again when one of them is deleted.
    fn has_all_owners(&self, node: &Node) -> bool {
        let mut owners = node.owners.iter();
        owners.all(|reference| self.known_owner(node, reference) == Some(Owner::Solid))
    }

    /// Whether the kinds of all owners are served.
    fn serves_kinds(&self, owners: &[OwnerReference]) -> bool {
        let mut owners = owners.iter();
        owners.all(|owner| self.inventory.kind(&owner.api_version, &owner.kind).is_some())
    }

    /// The state of an owner that the watches have shown.
    fn known_owner(&self, node: &Node, reference: &OwnerReference) -> Option<Owner> {
        let graph = self.graph();
        let owner = graph.node(&reference.uid)?;
        let is_meant = owner.kind.resource.kind == reference.kind
            && (owner.key.namespace.is_empty() || owner.key.namespace == node.key.namespace);
        is_meant.then(|| owner_state(owner.deletion))
    }

    /// The state of an owner: from the graph if it is known, else from the API.
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
            // A cluster-scoped object cannot have an owner in a namespace. The object is kept.
            return Ok(Owner::Solid);
        }
        let api = kind.api(self.client.clone(), namespace);
        // A reference may name anything.
        let found = api.get_opt(&segment(&reference.name)).await;
        let found = found.map_err(Error::api("get an owner"))?;
        match found.filter(|owner| owner.metadata.uid.as_ref() == Some(&reference.uid)) {
            Some(owner) => Ok(owner_state(Deletion::of(&owner.metadata))),
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
        tracing::debug!(kind = %node.kind, object = %node.key, "all owners were deleted, deleting the object");
        let api = node.kind.api(self.client.clone(), &node.key.namespace);
        match api.delete(&segment(&node.key.name), &params).await {
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

    /// Patches the metadata of the object at the version that was read.
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
        match api.patch(&segment(&node.key.name), &PatchParams::default(), &patch).await {
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

fn owner_state(deletion: Deletion) -> Owner {
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

    /// A collector that knows one kind.
    fn collector(server: &Server, kind: &Arc<Kind>) -> GarbageCollector {
        GarbageCollector {
            client: server.client(),
            inventory: Inventory::knowing(std::slice::from_ref(kind)),
            queue: Queue::default(),
            graph: Mutex::default(),
            absent: Mutex::default(),
        }
    }

    /// Every pod of a ReplicaSet is created with an owner. If each was read again, a pod would cost one more
    /// request.
    #[tokio::test]
    async fn an_object_is_read_again_only_if_one_of_its_owners_is_unknown() {
        let server = Server::responding(|_| None);
        let maps = kind("ConfigMap", "configmaps");
        let collector = collector(&server, &maps);
        let changed = |meta: &ObjectMeta| {
            collector.changed(&maps, &MetaChange { old: None, new: Some(meta) });
        };
        changed(&meta("owned", Some("owner")));
        changed(&meta("owner", None));
        collector.reconcile(&"owned".to_owned()).await.expect("reconciled");
        assert_eq!(server.lines(), Vec::<String>::new());

        changed(&meta("lost", Some("deleted")));
        collector.reconcile(&"lost".to_owned()).await.expect("reconciled");
        assert_eq!(server.lines(), ["GET /api/v1/namespaces/ns/configmaps/lost"]);

        changed(&meta("a?b #c", Some("deleted")));
        collector.reconcile(&"a?b #c".to_owned()).await.expect("reconciled");
        assert_eq!(server.lines()[1], "GET /api/v1/namespaces/ns/configmaps/a%3Fb%20%23c");
    }

    /// A user may make as many as fit, and nothing ever settles them.
    #[tokio::test]
    async fn an_object_with_an_owner_of_a_kind_that_is_not_served_costs_no_request() {
        let server = Server::responding(|_| None);
        let maps = kind("ConfigMap", "configmaps");
        let collector = collector(&server, &maps);
        let mut stray = meta("stray", Some("deleted"));
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
