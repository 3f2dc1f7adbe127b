//! The scheduler: finds a node for every pod that has none, and binds it there.
//!
//! A pod goes one way: watch → queue → [`plan()`] against the [`cluster::Cluster`] → assumed →
//! `POST pods/NAME/binding`. A pod that fits nowhere is parked and told so (event and condition);
//! a change of a node, or room that becomes free, wakes all parked pods. Nothing is polled.

pub mod affinity;
pub mod cluster;
pub mod host_port;
pub mod plan;
mod score;
pub mod taints;
pub mod topology;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, Namespace, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::cluster::{Cluster, Effect, uid};
use self::plan::{Decision, plan};
use self::topology::depends_on_others;
use crate::error::{self, Error};
use crate::events::{EventType, Recorder};
use crate::informer::{Cache, Change};
use crate::key::ObjectKey;
use crate::manager::Manager;
use crate::pod::{is_terminal, node_name};
use crate::queue::Queue;

/// The name pods ask for, and the one that events come from.
pub const NAME: &str = "default-scheduler";
/// Bindings posted at once; the API server commits them together.
const BINDINGS_MAX: usize = 16;
/// A pod that failed is not tried again sooner than this, doubled with each failure.
const PARKED_MIN: Duration = Duration::from_millis(50);
/// The longest such wait, upstream's `podMaxBackoffSeconds`.
const PARKED_MAX: Duration = Duration::from_secs(10);

/// Runs the scheduler alone until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let mut manager = Manager::new(client);
    register(&mut manager);
    manager.run(shutdown).await;
}

/// Adds the scheduler to a manager.
pub fn register(manager: &mut Manager) {
    let scheduler = Arc::new(Scheduler {
        client: manager.client(),
        pods: manager.informer::<Pod>().cache(),
        nodes: manager.informer::<Node>().cache(),
        namespaces: manager.informer::<Namespace>().cache(),
        recorder: manager.recorder(NAME),
        queue: Queue::default(),
        state: Mutex::default(),
    });
    let this = scheduler.clone();
    manager.informer::<Pod>().on_change(move |change| this.pod_changed(change));
    let this = scheduler.clone();
    manager.informer::<Node>().on_change(move |change| this.node_changed(change));
    let this = scheduler.clone();
    manager.informer::<Namespace>().on_change(move |change| this.namespace_changed(change));
    let (this, queue) = (scheduler.clone(), scheduler.queue.clone());
    let ready = async move {
        this.pods.synced().await;
        this.nodes.synced().await;
        this.namespaces.synced().await;
    };
    manager.add_controller(NAME, BINDINGS_MAX, queue, ready, move |key| {
        let scheduler = scheduler.clone();
        async move { scheduler.schedule(&key).await }
    });
}

struct Scheduler {
    client: Client,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    namespaces: Cache<Namespace>,
    recorder: Recorder,
    queue: Queue<ObjectKey>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cluster: Cluster,
    /// Pods that fit nowhere.
    parked: HashMap<ObjectKey, Parked>,
}

#[derive(Clone, Copy)]
struct Parked {
    since: Instant,
    failures: u32,
    /// Where other pods are may change its mind.
    depends_on_others: bool,
}

impl Scheduler {
    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        let key = ObjectKey::of(&**pod);
        let mut state = self.state();
        let effect = match &change.new {
            Some(pod) => state.cluster.set_pod(pod),
            None => state.cluster.remove_pod(&uid(pod)),
        };
        if change.is_delete() || !awaits_us(pod) {
            state.parked.remove(&key);
        } else if asks_anew(change) {
            self.queue.add(key);
        }
        match effect {
            Effect::None => {}
            Effect::Company => self.wake(&state, |parked| parked.depends_on_others),
            Effect::Freed => self.wake(&state, |_| true),
        }
    }

    fn node_changed(&self, change: &Change<Node>) {
        let mut state = self.state();
        match &change.new {
            Some(node) => {
                if state.cluster.set_node(node.clone()) {
                    self.wake(&state, |_| true);
                }
            }
            None => {
                let gone = change.latest().metadata.name.clone().unwrap_or_default();
                state.cluster.remove_node(&gone);
            }
        }
    }

    fn namespace_changed(&self, change: &Change<Namespace>) {
        let name = change.latest().metadata.name.clone().unwrap_or_default();
        let labels = change.new.as_ref().map(|new| new.metadata.labels.clone().unwrap_or_default());
        let mut state = self.state();
        if state.cluster.set_namespace(&name, labels) {
            self.wake(&state, |parked| parked.depends_on_others);
        }
    }

    /// Makes parked pods ready, each once its own wait is over.
    fn wake(&self, state: &State, whom: impl Fn(&Parked) -> bool) {
        for (key, parked) in state.parked.iter().filter(|(_, parked)| whom(parked)) {
            let wait = PARKED_MIN.saturating_mul(1 << parked.failures.min(16)).min(PARKED_MAX);
            self.queue.add_after(key.clone(), wait.saturating_sub(parked.since.elapsed()));
        }
    }

    async fn schedule(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(pod) = self.pods.get(key).filter(|pod| awaits_us(pod)) else { return Ok(()) };
        let decision = {
            let mut state = self.state();
            if state.cluster.is_placed(&uid(&pod)) {
                return Ok(());
            }
            let decision = plan(&pod, &state.cluster);
            match &decision {
                Decision::Bind(node) => {
                    state.cluster.assume(&pod, node);
                    state.parked.remove(key);
                }
                Decision::Unschedulable(_) => state.park(key, depends_on_others(&pod)),
            }
            decision
        };
        match decision {
            Decision::Bind(node) => self.bind(&pod, key, &node).await,
            Decision::Unschedulable(message) => self.refuse(&pod, key, &message).await,
        }
    }

    async fn bind(&self, pod: &Pod, key: &ObjectKey, node: &str) -> Result<(), Error> {
        let binding = binding(pod, node);
        let result = self
            .pods_of(key)
            .create_subresource::<_, serde_json::Value>(
                "binding",
                &key.name,
                &PostParams::default(),
                &binding,
            )
            .await;
        let error = match result {
            Ok(_) => {
                let message = format!("Successfully assigned {key} to {node}");
                self.recorder.record(pod, EventType::Normal, "Scheduled", message);
                return Ok(());
            }
            Err(error) => error,
        };
        self.state().cluster.unassume(&uid(pod));
        // The pod is gone, or was bound by another: the watch tells, or has told.
        if error::is_not_found(&error) || error::is_conflict(&error) {
            return Ok(());
        }
        let message = format!("binding rejected: {}", error::message(&error));
        self.recorder.record(pod, EventType::Warning, "FailedScheduling", message);
        Err(Error::api("bind pod")(error))
    }

    /// Tells people that a pod has no place.
    async fn refuse(&self, pod: &Pod, key: &ObjectKey, message: &str) -> Result<(), Error> {
        self.recorder.record(pod, EventType::Warning, "FailedScheduling", message);
        if is_refused(pod, message) {
            return Ok(());
        }
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": message, "lastProbeTime": null,
            "lastTransitionTime": Time(crate::events::now()),
        });
        let patch = Patch::Strategic(json!({
            "metadata": { "uid": uid(pod) }, "status": { "conditions": [condition] } }));
        match self.pods_of(key).patch_status(&key.name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(error) if error::is_not_found(&error) || error::is_conflict(&error) => Ok(()),
            Err(error) => Err(Error::api("update the pod's condition")(error)),
        }
    }

    fn pods_of(&self, key: &ObjectKey) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the state")
    }
}

impl State {
    fn park(&mut self, key: &ObjectKey, depends_on_others: bool) {
        let failures = self.parked.get(key).map_or(0, |parked| parked.failures.saturating_add(1));
        let parked = Parked { since: Instant::now(), failures, depends_on_others };
        self.parked.insert(key.clone(), parked);
    }
}

/// Whether the pod is ours to place, and needs it.
fn awaits_us(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let scheduler = spec.scheduler_name.as_deref().filter(|name| !name.is_empty());
    node_name(pod).is_none()
        && scheduler.unwrap_or(NAME) == NAME
        && spec.scheduling_gates.as_deref().is_none_or(<[_]>::is_empty)
        && pod.metadata.deletion_timestamp.is_none()
        && !is_terminal(pod)
}

/// Whether the pod itself changed in a way that may find it a place. The scheduler's own writes to
/// its status must not, or it would wake itself for ever.
fn asks_anew(change: &Change<Pod>) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            old.spec != new.spec || old.metadata.labels != new.metadata.labels
        }
        _ => true,
    }
}

fn is_refused(pod: &Pod, message: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.clone().any(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
            && condition.message.as_deref() == Some(message)
    })
}

/// The uid makes it fail if the pod has been replaced by another of its name.
fn binding(pod: &Pod, node: &str) -> Binding {
    Binding {
        metadata: ObjectMeta {
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Arc<Pod> {
        let mut spec = spec;
        spec["containers"] = json!([]);
        Arc::new(serde_json::from_value(json!({ "spec": spec })).expect("a pod"))
    }

    #[test]
    fn only_pods_that_wait_for_this_scheduler_are_placed() {
        assert!(awaits_us(&pod(json!({}))));
        assert!(awaits_us(&pod(json!({ "schedulerName": NAME }))));
        assert!(!awaits_us(&pod(json!({ "schedulerName": "other" }))));
        assert!(!awaits_us(&pod(json!({ "nodeName": "node1" }))));
        assert!(!awaits_us(&pod(json!({ "schedulingGates": [{ "name": "g" }] }))));
        let mut deleted = Pod::clone(&pod(json!({})));
        deleted.metadata.deletion_timestamp = Some(Time(crate::events::now()));
        assert!(!awaits_us(&deleted));
    }

    /// The condition that the scheduler writes comes back through the watch; were it a reason to
    /// try again, an unschedulable pod would keep a core busy.
    #[test]
    fn the_schedulers_own_writes_do_not_wake_it() {
        let before = pod(json!({}));
        let mut after = Pod::clone(&before);
        after.status = serde_json::from_value(json!({ "conditions": [
            { "type": "PodScheduled", "status": "False", "message": "m" }] }))
        .expect("a status");
        let after = Arc::new(after);
        assert!(!asks_anew(&Change { old: Some(before.clone()), new: Some(after) }));
        let tolerant = pod(json!({ "tolerations": [{ "operator": "Exists" }] }));
        assert!(asks_anew(&Change { old: Some(before.clone()), new: Some(tolerant) }));
        assert!(asks_anew(&Change { old: None, new: Some(before) }));
    }
}
