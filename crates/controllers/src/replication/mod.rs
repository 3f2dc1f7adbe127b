//! ReplicaSets and ReplicationControllers: as many pods as were asked for, no more and no fewer.
//!
//! One reconciler serves both kinds. It claims the pods that fit the selector, compares their
//! number with the spec ([`plan`]), creates or deletes the difference, and writes the status. What
//! it has asked for is expected until the watch shows it ([`expectations`]), so that a slow watch
//! never makes it create too many.

pub mod expectations;
pub mod kind;
pub mod plan;
mod rank;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kube::api::{DeleteParams, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use self::expectations::Expectations;
use self::kind::{ReplicaFailure, Replicator};
use self::plan::{Action, Claim, claim, count, plan, pod_of, selects};
use crate::error::{self, Error};
use crate::events::{EventType, Recorder, now};
use crate::informer::{Cache, Change};
use crate::key::ObjectKey;
use crate::manager::Manager;
use crate::owner::{adoption, controller_of, controller_ref, release};
use crate::pod::{available_in, is_ready};
use crate::queue::Queue;

/// Objects reconciled at once, upstream's `--concurrent-replicaset-syncs`.
const WORKERS: usize = 5;

/// Runs the controllers of ReplicaSets and ReplicationControllers until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let mut manager = Manager::new(client);
    register(&mut manager);
    manager.run(shutdown).await;
}

/// Adds both controllers to a manager.
pub fn register(manager: &mut Manager) {
    register_kind::<ReplicaSet>(manager);
    register_kind::<ReplicationController>(manager);
}

fn register_kind<K: Replicator>(manager: &mut Manager) {
    let controller = Arc::new(Controller {
        client: manager.client(),
        objects: manager.informer::<K>().cache(),
        pods: manager.informer::<Pod>().cache(),
        recorder: manager.recorder(K::CONTROLLER),
        queue: Queue::default(),
        expectations: Expectations::default(),
    });
    let this = controller.clone();
    manager
        .informer::<K>()
        .on_change(move |change| this.queue.add(ObjectKey::of(&**change.latest())));
    let this = controller.clone();
    manager.informer::<Pod>().on_change(move |change| this.pod_changed(change));
    let (this, queue) = (controller.clone(), controller.queue.clone());
    let ready = async move {
        this.objects.synced().await;
        this.pods.synced().await;
    };
    manager.add_controller(K::CONTROLLER, WORKERS, queue, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

struct Controller<K> {
    client: Client,
    objects: Cache<K>,
    pods: Cache<Pod>,
    recorder: Recorder,
    queue: Queue<ObjectKey>,
    expectations: Expectations,
}

impl<K: Replicator> Controller<K> {
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
            self.queue.add(key.clone());
        }
        let Some(old) = change.old.as_ref().filter(|_| !change.is_delete()) else {
            if owner.is_none() && !change.is_delete() {
                self.offer(pod);
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
            self.offer(pod);
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

    /// Lets every object that might adopt a pod without an owner look at it.
    fn offer(&self, pod: &Pod) {
        if controller_of(&pod.metadata).is_some() {
            return;
        }
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for object in self.objects.in_namespace(namespace) {
            if object.selector().is_ok_and(|selector| selects(&selector, &pod.metadata)) {
                self.queue.add(ObjectKey::of(&*object));
            }
        }
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(object) = self.objects.get(key) else {
            self.expectations.forget(key);
            return Ok(());
        };
        let up_to_date = self.expectations.satisfied(key);
        let pods = self.claim(&object, key).await?;
        let managed = if up_to_date && object.meta().deletion_timestamp.is_none() {
            self.manage(&object, key, &pods).await
        } else {
            Ok(())
        };
        self.write_status(&object, key, &pods, managed.as_ref().err()).await?;
        managed.map_err(|failure| failure.error)
    }

    /// The active pods of an object, after adopting and releasing those that need it.
    async fn claim(&self, object: &K, key: &ObjectKey) -> Result<Vec<Arc<Pod>>, Error> {
        let selector = object.selector()?;
        let mut may_adopt = None;
        let mut claimed = Vec::new();
        for pod in plan::active(self.pods.in_namespace(&key.namespace)) {
            match claim(object.meta(), &selector, &pod.metadata) {
                Claim::Keep => claimed.push(pod),
                Claim::Ignore => {}
                Claim::Release => {
                    let uid = object.meta().uid.as_deref().unwrap_or_default();
                    self.patch(key, &pod, &release(uid, pod.metadata.uid.as_deref())).await?;
                }
                Claim::Adopt => {
                    // The cache may not know yet that the object is being deleted.
                    let fresh = match may_adopt {
                        Some(known) => known,
                        None => self.is_alive(object, key).await?,
                    };
                    may_adopt = Some(fresh);
                    let patch = adoption(&controller_ref(object), pod.metadata.uid.as_deref());
                    if fresh && self.patch(key, &pod, &patch).await? {
                        claimed.push(pod);
                    }
                }
            }
        }
        Ok(claimed)
    }

    async fn is_alive(&self, object: &K, key: &ObjectKey) -> Result<bool, Error> {
        let api = Api::<K>::namespaced(self.client.clone(), &key.namespace);
        let fresh = api.get_metadata_opt(&key.name).await.map_err(Error::api("get the owner"))?;
        Ok(fresh.is_some_and(|fresh| {
            fresh.metadata.uid == object.meta().uid && fresh.metadata.deletion_timestamp.is_none()
        }))
    }

    /// Patches a pod's owners; answers whether it is still the pod that was meant.
    async fn patch(
        &self,
        key: &ObjectKey,
        pod: &Pod,
        patch: &kube::api::Patch<serde_json::Value>,
    ) -> Result<bool, Error> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        match self.pods_of(key).patch(name, &PatchParams::default(), patch).await {
            Ok(_) => Ok(true),
            Err(error) if error::is_not_found(&error) || error::is_invalid(&error) => Ok(false),
            Err(error) => Err(Error::api("change the owners of a pod")(error)),
        }
    }

    async fn manage(&self, object: &K, key: &ObjectKey, pods: &[Arc<Pod>]) -> Result<(), Failure> {
        let related = self.related(object, key);
        match plan(object.replicas(), pods, &related, now()) {
            Action::Nothing => Ok(()),
            Action::Create(count) => self.create(object, key, count).await,
            Action::Delete(victims) => self.delete(object, key, victims).await,
        }
    }

    /// The pods that share the work: those of all objects with the same owner, as the ReplicaSets
    /// of one Deployment are.
    fn related(&self, object: &K, key: &ObjectKey) -> Vec<Arc<Pod>> {
        let above = controller_of(object.meta()).map(|owner| &owner.uid);
        let siblings: Vec<ObjectKey> = self
            .objects
            .in_namespace(&key.namespace)
            .iter()
            .filter(|other| above.is_some() && controller_of(other.meta()).map(|o| &o.uid) == above)
            .map(|other| ObjectKey::of(&**other))
            .collect();
        let is_related = |pod: &Arc<Pod>| {
            self.owner(pod).is_some_and(|owner| owner == *key || siblings.contains(&owner))
        };
        plan::active(self.pods.in_namespace(&key.namespace).into_iter().filter(is_related))
    }

    /// Creates pods in batches of 1, 2, 4, …: if the first one is refused, so would be the rest.
    async fn create(&self, object: &K, key: &ObjectKey, count: usize) -> Result<(), Failure> {
        let Some(template) = object.template() else { return Ok(()) };
        let pod = pod_of(template, &key.name, controller_ref(object));
        self.expectations.expect_creations(key, count);
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            batch = batch.min(left);
            let creations = (0..batch).map(|_| self.create_one(object, key, &pod));
            let results = futures::future::join_all(creations).await;
            left -= batch;
            if let Some(failure) = results.into_iter().find_map(Result::err) {
                (0..left).for_each(|_| self.expectations.creation_observed(key));
                return Err(failure);
            }
            batch *= 2;
        }
        Ok(())
    }

    async fn create_one(&self, object: &K, key: &ObjectKey, pod: &Pod) -> Result<(), Failure> {
        match self.pods_of(key).create(&PostParams::default(), pod).await {
            Ok(created) => {
                let name = created.metadata.name.unwrap_or_default();
                let message = format!("Created pod: {name}");
                self.recorder.record(object, EventType::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                self.expectations.creation_observed(key);
                // Nothing can be made there any more, and the object itself is about to go.
                if error::is_namespace_terminating(&error) {
                    return Ok(());
                }
                let said = error::message(&error);
                let message = format!("Error creating: {said}");
                self.recorder.record(object, EventType::Warning, "FailedCreate", message);
                Err(Failure::new("FailedCreate", said, "create pod", error))
            }
        }
    }

    async fn delete(
        &self,
        object: &K,
        key: &ObjectKey,
        victims: Vec<Arc<Pod>>,
    ) -> Result<(), Failure> {
        let uids = victims.iter().map(|pod| pod.metadata.uid.clone().unwrap_or_default());
        self.expectations.expect_deletions(key, uids);
        let deletions = victims.iter().map(|pod| self.delete_one(object, key, pod));
        let results = futures::future::join_all(deletions).await;
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
        let said = error::message(&error);
        let message = format!("Error deleting: {said}");
        self.recorder.record(object, EventType::Warning, "FailedDelete", message);
        Err(Failure::new("FailedDelete", said, "delete pod", error))
    }

    async fn write_status(
        &self,
        object: &K,
        key: &ObjectKey,
        pods: &[Arc<Pod>],
        failure: Option<&Failure>,
    ) -> Result<(), Error> {
        let (now, min_ready) = (now(), object.min_ready_seconds());
        let template = object.template().cloned().unwrap_or_default();
        let counts = count(pods, &template, min_ready, now);
        let failure = failure.map(|failure| &failure.shown);
        if let Some(next) = object.with_status(counts, failure, now) {
            let api = Api::<K>::namespaced(self.client.clone(), &key.namespace);
            match api.replace_status(&key.name, &PostParams::default(), &next).await {
                Err(error) if error::is_not_found(&error) => return Ok(()),
                other => other.map_err(Error::api("update status"))?,
            };
        }
        // Time alone makes a ready pod available: nothing else will say so.
        let ready = pods.iter().filter(|pod| is_ready(pod));
        if let Some(wait) = ready.filter_map(|pod| available_in(pod, min_ready, now)).min() {
            self.queue.add_after(key.clone(), wait);
        }
        Ok(())
    }

    fn pods_of(&self, key: &ObjectKey) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }
}

/// A failure to create or delete, for the status and for the queue.
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
