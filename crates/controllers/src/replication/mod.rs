//! ReplicaSets and ReplicationControllers: keep the requested number of pods.
//!
//! One reconciler serves both kinds. It claims the pods that the selector selects, compares their number with
//! the spec ([`plan`]), creates or deletes the difference, and writes the status. Its creations and deletions
//! are expected until the watch shows them ([`expectations`]), so that a slow watch does not make it create
//! too many pods.

pub(crate) mod expectations;
pub(crate) mod kind;
pub(crate) mod plan;
mod rank;

use std::sync::Arc;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};

use self::expectations::Expectations;
use self::kind::{ReplicaFailure, Replicator};
use self::plan::{Action, count, plan, pod_of};
use crate::claim::{BySelector, Claim, ClaimKey, Claimable, claim, is_alive, may_claim};
use crate::controller::{Controller, Next, Setup, Watches};
use crate::error::{self, Error};
use crate::events::{EventType, Recorder, now};
use crate::informer::{Cache, Change, Index};
use crate::key::ObjectKey;
use crate::owner::{adoption, controller_of, controller_ref, release};
use crate::pod::{Pod, available_in, is_active, is_ready, ready_since};
use crate::queue::Queue;
use crate::selection::{Selectors, label_keys};

/// Concurrent creations or deletions of one object's pods.
const WRITES_MAX: usize = 64;

/// Keeps the requested number of pods of each object of a kind.
pub(crate) struct Replication<K: Replicator> {
    client: Client,
    objects: Cache<K>,
    /// Objects by the uid of their controller.
    siblings: Index<K, Claimable>,
    /// Objects that might adopt a pod.
    adopters: Index<K, BySelector>,
    selectors: Selectors<K>,
    pods: Index<Pod, Claimable>,
    recorder: Recorder,
    queue: Queue<ObjectKey>,
    expectations: Expectations,
}

impl<K: Replicator> Controller for Replication<K> {
    const NAME: &'static str = K::CONTROLLER;
    /// Upstream's `--concurrent-replicaset-syncs`; each has up to [`WRITES_MAX`] requests in flight.
    const WORKERS: usize = 5;
    type Queue = Queue<ObjectKey>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.own::<K>();
        watches.on::<Pod>(Self::pod_changed);
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
        let Some(object) = self.objects.get(key) else {
            self.expectations.forget(key);
            self.selectors.forget(key);
            return Ok(Next::Change);
        };
        let up_to_date = self.expectations.satisfied(key);
        let pods = self.claim(&object, key).await?;
        let managed = if up_to_date && object.meta().deletion_timestamp.is_none() {
            self.manage(&object, key, &pods).await
        } else {
            Ok(())
        };
        let next = self.write_status(&object, key, &pods, managed.as_ref().err()).await?;
        managed.map_err(|failure| failure.error)?;
        Ok(next)
    }
}

impl<K: Replicator> Replication<K> {
    pub(crate) fn new(setup: &mut Setup<'_, Self>) -> Self {
        Self {
            client: setup.client(),
            objects: setup.cache(),
            siblings: setup.index(),
            adopters: setup.index(),
            selectors: Selectors::default(),
            pods: setup.index(),
            recorder: setup.recorder(K::CONTROLLER),
            queue: setup.queue(),
            expectations: Expectations::default(),
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let owner = self.owner(pod);
        if let Some(key) = &owner {
            if change.is_delete() || pod.metadata.deletion_timestamp.is_some() {
                self.expectations.deletion_observed(key, uid);
            } else if change.old.is_none() {
                self.expectations.creation_observed(key);
            }
            if change
                .old
                .as_ref()
                .is_none_or(|old| change.is_delete() || !counts_the_same(old, pod))
            {
                self.queue.add(key.clone());
            }
        }
        let Some(old) = change.old.as_ref().filter(|_| !change.is_delete()) else {
            if owner.is_none() && !change.is_delete() {
                self.enqueue_adopters(pod);
            }
            return;
        };
        let former = self.owner(old);
        if let Some(former) = former.filter(|former| Some(former) != owner.as_ref()) {
            self.queue.add(former);
        }
        let moved = old.metadata.labels != pod.metadata.labels
            || old.metadata.owner_references != pod.metadata.owner_references;
        if owner.is_none() && moved {
            self.enqueue_adopters(pod);
        }
    }

    /// The object of this kind that owns a pod.
    fn owner(&self, pod: &Pod) -> Option<ObjectKey> {
        let owner = controller_of(&pod.metadata)?;
        if owner.kind != K::kind(&()) || owner.api_version != K::api_version(&()) {
            return None;
        }
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let key = ObjectKey::new(namespace, &owner.name);
        let object = self.objects.get(&key)?;
        (object.meta().uid.as_deref() == Some(&owner.uid)).then_some(key)
    }

    /// Adds all objects that might adopt a pod without an owner.
    fn enqueue_adopters(&self, pod: &Pod) {
        if controller_of(&pod.metadata).is_some() {
            return;
        }
        let keys: Vec<_> = label_keys(&pod.metadata).collect();
        for object in self.adopters.get_all(&keys) {
            if may_claim(&self.selectors.of(&object), &pod.metadata) {
                self.queue.add(ObjectKey::of(&*object));
            }
        }
    }

    /// The active pods of an object, after adopting and releasing those that need it.
    async fn claim(&self, object: &K, key: &ObjectKey) -> Result<Vec<Arc<Pod>>, Error> {
        let selector = object.selector()?;
        let mut may_adopt = None;
        let mut claimed = Vec::new();
        for pod in plan::active(self.pods.get_all(&ClaimKey::of(object))) {
            match claim(object.meta(), &selector, &pod.metadata) {
                Claim::Keep => claimed.push(pod),
                Claim::Ignore => {}
                Claim::Release => {
                    let uid = object.meta().uid.as_deref().unwrap_or_default();
                    self.patch(key, &pod, &release(uid, pod.metadata.uid.as_deref())).await?;
                }
                Claim::Adopt => {
                    // The cache may not show yet that the object is being deleted.
                    let alive = match may_adopt {
                        Some(known) => known,
                        None => is_alive(&self.client, object).await?,
                    };
                    may_adopt = Some(alive);
                    let patch = adoption(&controller_ref(object), pod.metadata.uid.as_deref());
                    if alive && self.patch(key, &pod, &patch).await? {
                        claimed.push(pod);
                    }
                }
            }
        }
        Ok(claimed)
    }

    /// Patches a pod's owners. Returns false if it no longer exists or was recreated.
    async fn patch(
        &self,
        key: &ObjectKey,
        pod: &Pod,
        patch: &Patch<serde_json::Value>,
    ) -> Result<bool, Error> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        match self.pods_of(key).patch(name, &PatchParams::default(), patch).await {
            Ok(_) => Ok(true),
            Err(error) if error::is_not_found(&error) || error::is_invalid(&error) => Ok(false),
            Err(error) => Err(Error::api("change the owners of a pod")(error)),
        }
    }

    async fn manage(&self, object: &K, key: &ObjectKey, pods: &[Arc<Pod>]) -> Result<(), Failure> {
        match plan(object.replicas(), pods, || self.related(object), now()) {
            Action::Nothing => Ok(()),
            Action::Create(count) => self.create(object, key, count).await,
            Action::Delete(surplus) => self.delete(object, key, surplus).await,
        }
    }

    /// The pods of all objects with the same owner, such as the ReplicaSets of a Deployment.
    fn related(&self, object: &K) -> Vec<Arc<Pod>> {
        let uid = |meta: &ObjectMeta| meta.uid.clone().unwrap_or_default();
        let uids = match controller_of(object.meta()) {
            None => vec![uid(object.meta())],
            Some(above) => {
                let siblings = self.siblings.get(&ClaimKey::ControlledBy(above.uid.clone()));
                siblings.iter().map(|sibling| uid(sibling.meta())).collect()
            }
        };
        let keys: Vec<_> = uids.into_iter().map(ClaimKey::ControlledBy).collect();
        plan::active(self.pods.get_all(&keys))
    }

    /// Creates pods in batches of 1, 2, 4, …, because a failure of the first one is likely to affect all.
    async fn create(&self, object: &K, key: &ObjectKey, count: usize) -> Result<(), Failure> {
        let Some(template) = object.template() else { return Ok(()) };
        let pod = pod_of(template, &key.name, controller_ref(object));
        self.expectations.expect_creations(key, count);
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            batch = batch.min(left);
            let creations: Vec<_> =
                (0..batch).map(|_| self.create_one(object, key, &pod)).collect();
            let creations = stream::iter(creations).buffer_unordered(WRITES_MAX);
            let results: Vec<_> = creations.collect().await;
            left -= batch;
            if let Some(failure) = results.into_iter().find_map(Result::err) {
                (0..left).for_each(|_| self.expectations.creation_observed(key));
                return Err(failure);
            }
            batch *= 2;
        }
        Ok(())
    }

    async fn create_one(&self, object: &K, key: &ObjectKey, pod: &v1::Pod) -> Result<(), Failure> {
        let api = Api::<v1::Pod>::namespaced(self.client.clone(), &key.namespace);
        match api.create(&PostParams::default(), pod).await {
            Ok(created) => {
                let name = created.metadata.name.unwrap_or_default();
                let message = format!("Created pod: {name}");
                self.recorder.record(object, EventType::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                self.expectations.creation_observed(key);
                // The object itself is about to be deleted, too.
                if error::is_namespace_terminating(&error) {
                    return Ok(());
                }
                let server_message = error::message(&error);
                let message = format!("Error creating: {server_message}");
                self.recorder.record(object, EventType::Warning, "FailedCreate", message);
                Err(Failure::new("FailedCreate", server_message, "create pod", error))
            }
        }
    }

    async fn delete(
        &self,
        object: &K,
        key: &ObjectKey,
        surplus: Vec<Arc<Pod>>,
    ) -> Result<(), Failure> {
        let uids = surplus.iter().map(|pod| pod.metadata.uid.clone().unwrap_or_default());
        self.expectations.expect_deletions(key, uids);
        let deletions: Vec<_> =
            surplus.iter().map(|pod| self.delete_one(object, key, pod)).collect();
        let deletions = stream::iter(deletions).buffer_unordered(WRITES_MAX);
        let results: Vec<_> = deletions.collect().await;
        results.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }

    async fn delete_one(&self, object: &K, key: &ObjectKey, pod: &Pod) -> Result<(), Failure> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let uid = pod.metadata.uid.clone();
        let same = Preconditions { uid: uid.clone(), resource_version: None };
        let params = DeleteParams::default().preconditions(same);
        let Err(error) = self.pods_of(key).delete(name, &params).await else {
            let message = format!("Deleted pod: {name}");
            self.recorder.record(object, EventType::Normal, "SuccessfulDelete", message);
            return Ok(());
        };
        self.expectations.deletion_observed(key, &uid.unwrap_or_default());
        if error::is_not_found(&error) || error::is_conflict(&error) {
            return Ok(());
        }
        let server_message = error::message(&error);
        let message = format!("Error deleting: {server_message}");
        self.recorder.record(object, EventType::Warning, "FailedDelete", message);
        Err(Failure::new("FailedDelete", server_message, "delete pod", error))
    }

    async fn write_status(
        &self,
        object: &K,
        key: &ObjectKey,
        pods: &[Arc<Pod>],
        failure: Option<&Failure>,
    ) -> Result<Next, Error> {
        let (now, min_ready) = (now(), object.min_ready_seconds());
        let counts = count(pods, object.template(), min_ready, now);
        let failure = failure.map(|failure| &failure.shown);
        if let Some(next) = object.with_status(counts, failure, now) {
            let api = Api::<K>::namespaced(self.client.clone(), &key.namespace);
            let done = api.replace_status(&key.name, &PostParams::default(), &next).await;
            error::ignore_not_found(done).map_err(Error::api("update status"))?;
        }
        // A ready pod becomes available by time, without a change that would be watched.
        let ready = pods.iter().filter(|pod| is_ready(pod));
        Ok(Next::after(ready.filter_map(|pod| available_in(pod, min_ready, now)).min()))
    }

    fn pods_of(&self, key: &ObjectKey) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }
}

/// Whether a pod counts the same for its owner before and after a change, as when it is bound or gets an
/// address.
fn counts_the_same(old: &Pod, new: &Pod) -> bool {
    let counts = |pod: &Pod| (is_active(pod), ready_since(pod), is_ready(pod));
    counts(old) == counts(new)
        && old.metadata.labels == new.metadata.labels
        && old.metadata.owner_references == new.metadata.owner_references
}

/// A failed creation or deletion, for the status and for the queue.
struct Failure {
    shown: ReplicaFailure,
    error: Error,
}

impl Failure {
    fn new(
        reason: &'static str,
        message: String,
        operation: &'static str,
        error: kube::Error,
    ) -> Self {
        Self { shown: ReplicaFailure { reason, message }, error: Error::api(operation)(error) }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::Api as Server;

    fn pod(name: &str, owner: Option<&str>, ready: bool) -> Pod {
        let owners: Vec<Value> = owner
            .iter()
            .map(|uid| {
                json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": uid, "uid": uid,
                        "controller": true })
            })
            .collect();
        let status = if ready { "True" } else { "False" };
        serde_json::from_value(json!({
            "metadata": { "namespace": "ns", "name": name, "uid": name,
                "labels": { "app": owner.unwrap_or("none") }, "ownerReferences": owners },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": status }] },
        }))
        .expect("a pod")
    }

    fn set(name: &str, replicas: u32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": { "namespace": "ns", "name": name, "uid": name, "resourceVersion": "1" },
            "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": name } },
                "template": { "metadata": { "labels": { "app": name } },
                              "spec": { "containers": [] } } } }))
        .expect("a set")
    }

    fn controller(server: &Server) -> (Replication<ReplicaSet>, Cache<Pod>) {
        let (objects, pods) = (Cache::<ReplicaSet>::default(), Cache::<Pod>::default());
        let (events, _) = crate::events::channel(server.client());
        let controller = Replication {
            client: server.client(),
            siblings: objects.index(),
            adopters: objects.index(),
            selectors: Selectors::default(),
            objects,
            pods: pods.index(),
            recorder: events.recorder("test"),
            queue: Queue::default(),
            expectations: Expectations::default(),
        };
        (controller, pods)
    }

    /// A namespace with 20,000 other pods: a set reads its own three.
    #[tokio::test]
    async fn a_reconcile_visits_the_pods_of_its_set_and_no_others() {
        let server = Server::responding(|line| {
            let status = json!({ "metadata": {}, "spec": { "selector": {} } });
            line.starts_with("PUT").then_some(status)
        });
        let (controller, pods) = controller(&server);
        for at in 0..10_000 {
            pods.insert(pod(&format!("other-{at}"), Some("other"), true));
            pods.insert(pod(&format!("orphan-{at}"), None, true));
        }
        for at in 0..3 {
            pods.insert(pod(&format!("mine-{at}"), Some("mine"), true));
        }
        controller.objects.insert(set("mine", 3));
        let before = pods.visited();
        controller.reconcile(&ObjectKey::new("ns", "mine")).await.expect("reconciled");
        assert_eq!(pods.visited() - before, 3);
        let line = "PUT /apis/apps/v1/namespaces/ns/replicasets/mine/status";
        assert_eq!(server.lines(), [line]);
    }

    /// After a failure no further creations are sent, and those that were not sent are not expected.
    #[tokio::test]
    async fn batches_of_creations_double_until_one_fails() {
        let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = sent.clone();
        let server = Server::responding(move |line| {
            if line.starts_with("PUT") {
                return Some(json!({ "metadata": {}, "spec": { "selector": {} } }));
            }
            // Of 1, 2, 4 and 8 creations, one of the last fails.
            let number = counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            (number != 10).then(|| json!({ "metadata": { "name": format!("p{number}") } }))
        });
        let (controller, _) = controller(&server);
        controller.objects.insert(set("mine", 100));
        let key = ObjectKey::new("ns", "mine");
        controller.reconcile(&key).await.expect_err("a creation was refused");
        assert_eq!(sent.load(std::sync::atomic::Ordering::SeqCst), 15);
        assert!(!controller.expectations.satisfied(&key), "fourteen are not observed yet");
        for _ in 0..14 {
            controller.expectations.creation_observed(&key);
        }
        assert!(controller.expectations.satisfied(&key));
    }

    /// Most changes of a pod, such as its binding or a restart, do not matter to its owner.
    #[tokio::test(start_paused = true)]
    async fn a_change_that_counts_the_same_adds_no_key() {
        use crate::queue::WorkQueue as _;

        let server = Server::responding(|_| None);
        let (controller, _) = controller(&server);
        controller.objects.insert(set("mine", 1));
        let old = Arc::new(pod("p", Some("mine"), false));
        let mut bound = Pod::clone(&old);
        bound.node_name = Some("n".to_owned());
        let bound = Arc::new(bound);
        controller.pod_changed(&Change { old: Some(old), new: Some(bound.clone()) });
        let idle =
            tokio::time::timeout(std::time::Duration::from_secs(60), controller.queue.next());
        assert!(idle.await.is_err());
        let ready = Arc::new(pod("p", Some("mine"), true));
        controller.pod_changed(&Change { old: Some(bound), new: Some(ready) });
        assert_eq!(controller.queue.next().await, ObjectKey::new("ns", "mine"));
    }
}
