//! The scheduler: finds a node for every pod that has none, and binds it there.
//!
//! Data flow of a pod: watch → [`queue`] → [`plan()`] against the [`cluster::Cluster`] → assumed → binding.
//! One pod is planned at a time, while bindings of others are posted. A pod that fits on no node is
//! unschedulable, with an event and a condition. A change of a node, or resources that become free, retry
//! those unschedulable pods that may fit now.

pub(crate) mod affinity;
pub(crate) mod cluster;
pub(crate) mod host_port;
pub(crate) mod node_info;
pub(crate) mod plan;
pub(crate) mod queue;
mod score;
pub(crate) mod taints;
pub(crate) mod topology;

use coffer_api::condition::{self, Condition as _, ConditionStatus, ConditionType};
use coffer_api::subresource::SubresourceName;
use k8s_openapi::api::core::v1::{Binding, Namespace, Node, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use parking_lot::{Mutex, MutexGuard};
use serde_json::json;

use self::cluster::{Cluster, Effect, uid};
use self::plan::{Decision, plan};
use self::queue::SchedulingQueue;
use self::topology::depends_on_others;
use crate::controller::{Controller, Next, Setup, Watches};
use crate::error::{self, Error};
use crate::events::{EventType, Recorder};
use crate::informer::{Cache, Change};
use crate::key::ObjectKey;
use crate::pod::{Pod, is_terminal, node_name};

/// The `schedulerName` of pods and the component of events.
pub(crate) const NAME: &str = "default-scheduler";
/// The reason of the condition of a pod that fits nowhere.
const UNSCHEDULABLE: &str = "Unschedulable";

/// Binds pods to nodes.
pub(crate) struct Scheduler {
    client: Client,
    pods: Cache<Pod>,
    recorder: Recorder,
    queue: SchedulingQueue,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cluster: Cluster,
    /// The index of the node at which the next pass begins.
    start: usize,
}

impl Controller for Scheduler {
    const NAME: &'static str = NAME;
    /// Concurrent bindings, which the API server commits together. One pod is planned at a time.
    const WORKERS: usize = 64;
    type Queue = SchedulingQueue;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.on::<Pod>(Self::pod_changed);
        watches.on::<Node>(Self::node_changed);
        watches.on::<Namespace>(Self::namespace_changed);
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
        let Some(pod) = self.pods.get(key).filter(|pod| needs_scheduling(pod)) else {
            return Ok(Next::Change);
        };
        let decision = {
            let mut state = self.state();
            if state.cluster.is_placed(&uid(&pod)) {
                return Ok(Next::Change);
            }
            let (decision, visited) = plan(&pod, &state.cluster, state.start);
            state.start = (state.start + visited) % state.cluster.node_count().max(1);
            match &decision {
                Decision::Bind(node) => state.cluster.assume(&pod, node),
                // Under the lock, so that a change that would retry it is not missed.
                Decision::Unschedulable(_) => {
                    self.queue.mark_unschedulable(key, depends_on_others(&pod))
                }
            }
            decision
        };
        match decision {
            Decision::Bind(node) => self.bind(&pod, key, &node).await?,
            Decision::Unschedulable(message) => {
                self.report_unschedulable(&pod, key, &message).await?
            }
        }
        Ok(Next::Change)
    }
}

impl Scheduler {
    pub(crate) fn new(setup: &mut Setup<'_, Self>) -> Self {
        Self {
            client: setup.client(),
            pods: setup.cache(),
            recorder: setup.recorder(NAME),
            queue: setup.queue(),
            state: Mutex::default(),
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        let key = ObjectKey::of(&**pod);
        let mut state = self.state();
        let effect = match &change.new {
            Some(pod) => state.cluster.set_pod(pod),
            None => state.cluster.remove_pod(&uid(pod)),
        };
        if change.is_delete() || !needs_scheduling(pod) {
            self.queue.remove(&key);
        } else if may_become_schedulable(change) {
            self.queue.add(&key, priority(pod));
        }
        match effect {
            Effect::None => {}
            Effect::PodPlaced => self.queue.retry_unschedulable(false),
            Effect::Freed => self.queue.retry_unschedulable(true),
        }
    }

    fn node_changed(&self, change: &Change<Node>) {
        let mut state = self.state();
        match &change.new {
            Some(node) => {
                if state.cluster.set_node(node.clone()) {
                    self.queue.retry_unschedulable(true);
                }
            }
            None => {
                let name = change.latest().metadata.name.clone().unwrap_or_default();
                state.cluster.remove_node(&name);
            }
        }
    }

    fn namespace_changed(&self, change: &Change<Namespace>) {
        let name = change.latest().metadata.name.clone().unwrap_or_default();
        let labels = change.new.as_ref().map(|new| new.metadata.labels.clone().unwrap_or_default());
        if self.state().cluster.set_namespace(&name, labels) {
            self.queue.retry_unschedulable(false);
        }
    }

    async fn bind(&self, pod: &Pod, key: &ObjectKey, node: &str) -> Result<(), Error> {
        let binding = binding(pod, node);
        let result = self
            .pods_of(key)
            .create_subresource::<_, serde_json::Value>(
                SubresourceName::Binding.as_str(),
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
        if self.state().cluster.forget_assumed(&uid(pod)) {
            self.queue.retry_unschedulable(true);
        }
        // The pod no longer exists or was bound by another client, which the watch shows.
        if error::is_not_found(&error) || error::is_conflict(&error) {
            return Ok(());
        }
        let message = format!("binding rejected: {}", error::message(&error));
        self.recorder.record(pod, EventType::Warning, "FailedScheduling", message);
        Err(Error::api("bind pod")(error))
    }

    /// Reports with an event and a condition that a pod is unschedulable.
    async fn report_unschedulable(
        &self,
        pod: &Pod,
        key: &ObjectKey,
        message: &str,
    ) -> Result<(), Error> {
        self.recorder.record(pod, EventType::Warning, "FailedScheduling", message);
        if is_reported(pod, message) {
            return Ok(());
        }
        let condition = json!({
            "type": ConditionType::PodScheduled.as_str(), "status": ConditionStatus::False.as_str(),
            "reason": UNSCHEDULABLE, "message": message, "lastProbeTime": null,
            "lastTransitionTime": Time(crate::events::now()),
        });
        let patch = Patch::Strategic(json!({
            "metadata": { "uid": uid(pod) }, "status": { "conditions": [condition] } }));
        let done = self.pods_of(key).patch_status(&key.name, &PatchParams::default(), &patch).await;
        error::ignore_recreated(done).map_err(Error::api("update the pod's condition"))
    }

    fn pods_of(&self, key: &ObjectKey) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// The priority that admission has set, or upstream's default.
fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default()
}

/// Whether this scheduler has to bind the pod.
fn needs_scheduling(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let scheduler = spec.scheduler_name.as_deref().filter(|name| !name.is_empty());
    node_name(pod).is_none()
        && scheduler.unwrap_or(NAME) == NAME
        && spec.scheduling_gates.as_deref().is_none_or(<[_]>::is_empty)
        && pod.metadata.deletion_timestamp.is_none()
        && !is_terminal(pod)
}

/// Whether a change of the pod itself may make it schedulable. The scheduler's own writes to its status do
/// not, or it would retry the pod without end.
fn may_become_schedulable(change: &Change<Pod>) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            old.spec != new.spec || old.metadata.labels != new.metadata.labels
        }
        _ => true,
    }
}

fn is_reported(pod: &Pod, message: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    condition::find(conditions, ConditionType::PodScheduled).is_some_and(|condition| {
        condition.state() == ConditionStatus::False
            && condition.reason.as_deref() == Some(UNSCHEDULABLE)
            && condition.message.as_deref() == Some(message)
    })
}

/// The binding of a pod. Its uid makes it fail if the pod was recreated.
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
    use std::sync::Arc;

    use super::*;

    fn pod(spec: serde_json::Value) -> Arc<Pod> {
        let mut spec = spec;
        spec["containers"] = json!([]);
        Arc::new(serde_json::from_value(json!({ "spec": spec })).expect("a pod"))
    }

    #[test]
    fn only_unbound_pods_of_this_scheduler_need_scheduling() {
        assert!(needs_scheduling(&pod(json!({}))));
        assert!(needs_scheduling(&pod(json!({ "schedulerName": NAME }))));
        assert!(!needs_scheduling(&pod(json!({ "schedulerName": "other" }))));
        assert!(!needs_scheduling(&pod(json!({ "nodeName": "node1" }))));
        assert!(!needs_scheduling(&pod(json!({ "schedulingGates": [{ "name": "g" }] }))));
        let mut deleted = Pod::clone(&pod(json!({})));
        deleted.metadata.deletion_timestamp = Some(Time(crate::events::now()));
        assert!(!needs_scheduling(&deleted));
    }

    /// The condition that the scheduler writes comes back through the watch. If it caused a retry, an
    /// unschedulable pod would be retried without end.
    #[test]
    fn the_schedulers_own_writes_do_not_retry_a_pod() {
        let before = pod(json!({}));
        let mut after = Pod::clone(&before);
        let status = json!({ "status": { "conditions": [
            { "type": "PodScheduled", "status": "False", "message": "m" }] } });
        after.status = serde_json::from_value::<Pod>(status).expect("a pod").status;
        let after = Arc::new(after);
        assert!(!may_become_schedulable(&Change { old: Some(before.clone()), new: Some(after) }));
        let tolerant = pod(json!({ "tolerations": [{ "operator": "Exists" }] }));
        assert!(may_become_schedulable(&Change { old: Some(before.clone()), new: Some(tolerant) }));
        assert!(may_become_schedulable(&Change { old: None, new: Some(before) }));
    }
}
