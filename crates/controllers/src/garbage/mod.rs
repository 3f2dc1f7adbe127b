//! The garbage collector: deletes objects whose owners are gone, in the order that the deletion of
//! the owner asked for.
//!
//! Background: the owner is gone, the dependents follow. Foreground: the owner stays, marked, until
//! every dependent that blocks it has gone. Orphan: the dependents are disowned, then the owner
//! goes. The [`graph::Graph`] says what to look at; what is found there is read again from the API
//! before anything is deleted, because no watch proves that an owner does not exist.

pub mod graph;
pub mod plan;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::graph::{Deletion, FOREGROUND, Graph, Node, ORPHAN};
use self::plan::{Action, Owner, plan};
use crate::error::{self, Error};
use crate::informer::Change;
use crate::inventory::{Inventory, Kind, Meta};
use crate::manager::Manager;
use crate::queue::Queue;

const NAME: &str = "garbage-collector";
/// Objects looked at at once, upstream's `--concurrent-gc-syncs`.
const WORKERS: usize = 20;
/// Owners known not to exist; uids are never used again.
const ABSENT_MAX: usize = 500;

/// Runs the garbage collector alone until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let mut manager = Manager::new(client);
    register(&mut manager);
    manager.run(shutdown).await;
}

/// Adds the garbage collector to a manager.
pub fn register(manager: &mut Manager) {
    let collector = Arc::new(Collector {
        client: manager.client(),
        inventory: manager.inventory().inventory(),
        queue: Queue::default(),
        graph: Mutex::default(),
        absent: Mutex::default(),
    });
    let this = collector.clone();
    manager.inventory().on_change(move |kind, change| this.changed(kind, change));
    let (this, queue) = (collector.clone(), collector.queue.clone());
    let ready = async move { this.inventory.synced().await };
    manager.add_controller(NAME, WORKERS, queue, ready, move |uid: String| {
        let collector = collector.clone();
        async move { collector.reconcile(&uid).await }
    });
}

struct Collector {
    client: Client,
    inventory: Inventory,
    /// Uids to look at.
    queue: Queue<String>,
    graph: Mutex<Graph>,
    /// Owners that were looked for and not found, with the namespace they were looked for in.
    absent: Mutex<VecDeque<(String, String)>>,
}

impl Collector {
    fn changed(&self, kind: &Arc<Kind>, change: &Change<Meta>) {
        let mut graph = self.graph();
        let look = match &change.new {
            Some(object) => graph.set(kind, &object.metadata),
            None => graph.remove(change.latest().metadata.uid.as_deref().unwrap_or_default()),
        };
        drop(graph);
        look.into_iter().for_each(|uid| self.queue.add(uid));
    }

    async fn reconcile(&self, uid: &str) -> Result<(), Error> {
        let Some(node) = self.graph().node(uid).cloned() else { return Ok(()) };
        let Some(meta) = self.fresh(&node, uid).await? else { return Ok(()) };
        match Deletion::of(&meta) {
            Deletion::None => self.collect(uid, &node, &meta).await,
            Deletion::Plain => Ok(()),
            Deletion::Foreground => self.await_dependents(uid, &node, &meta).await,
            Deletion::Orphan => self.orphan_dependents(uid, &node, &meta).await,
        }
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

    /// What became of an owner, from the graph if it is there, else from the API.
    async fn owner(&self, node: &Node, reference: &OwnerReference) -> Result<Owner, Error> {
        let namespace = node.key.namespace.as_str();
        let here = |owner: &Node| {
            owner.kind.resource.kind == reference.kind
                && (owner.key.namespace.is_empty() || owner.key.namespace == namespace)
        };
        let known = self.graph().node(&reference.uid).filter(|owner| here(owner)).cloned();
        if let Some(owner) = known {
            return Ok(standing(owner.deletion));
        }
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
        self.graph.lock().expect("no code panics while it holds the graph")
    }

    fn absent(&self) -> MutexGuard<'_, VecDeque<(String, String)>> {
        self.absent.lock().expect("no code panics while it holds the absent owners")
    }
}

fn standing(deletion: Deletion) -> Owner {
    match deletion {
        Deletion::Foreground => Owner::Waiting,
        _ => Owner::Solid,
    }
}
