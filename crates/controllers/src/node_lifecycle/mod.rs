//! The node lifecycle: sets the conditions of a node without heartbeats to unknown, adds taints for
//! conditions, and evicts pods that do not tolerate the taints.
//!
//! Renewals of a node's Lease and updates of its status are heartbeats. This process records by its own clock
//! when it saw the last one, so that a wrong clock of a node does not matter; after a restart every node has
//! a whole grace period again.
//!
//! Leases are not watched but listed every [`MONITOR_PERIOD`]: five thousand nodes renew five hundred Leases
//! per second, each of which would be an event that wakes this process, while the grace period is much
//! longer. The garbage collector reads Leases from the same list, so that the Lease of a deleted node is
//! deleted up to one period later.

pub(crate) mod eviction;
mod lease;
pub(crate) mod plan;

use std::collections::HashMap;
use std::time::Duration;

use coffer_api::condition::{self, ConditionStatus, ConditionType};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::eviction::{Decision, decide};
use self::lease::NodeLease;
use self::plan::{Heartbeat, affects_pods, conditions, pod_statuses_are_current, taints};
use crate::controller::{Controller, Next, Setup, Watches};
use crate::error::{self, Error};
use crate::events::{EventType, Recorder, now};
use crate::informer::index::ByNode;
use crate::informer::{Cache, Change, Index};
use crate::key::ObjectKey;
use crate::pod::{Pod, is_ready, is_terminal, node_name};
use crate::queue::Queue;

/// Interval of lists of nodes' Leases: upstream's `--node-monitor-period`.
const MONITOR_PERIOD: Duration = Duration::from_secs(5);
/// At least this many lists are made in one grace period.
const LISTS_PER_GRACE: u32 = 4;
/// The namespace of nodes' Leases.
const LEASES: &str = coffer_api::well_known::namespace::NODE_LEASE;

/// Taints nodes and evicts the pods that do not tolerate the taints.
pub(crate) struct NodeLifecycle {
    client: Client,
    /// How long a node may send no heartbeat.
    grace: Duration,
    nodes: Cache<Node>,
    pods: Index<Pod, ByNode>,
    recorder: Recorder,
    /// Names of nodes.
    queue: Queue<ObjectKey>,
    /// When the last heartbeat of each node was seen.
    last_heartbeat: Mutex<HashMap<String, Instant>>,
}

impl Controller for NodeLifecycle {
    const NAME: &'static str = "node-controller";
    const WORKERS: usize = 8;
    type Queue = Queue<ObjectKey>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.on::<Node>(Self::node_changed);
        watches.on::<NodeLease>(Self::lease_changed);
        watches.on::<Pod>(Self::pod_changed);
    }

    /// Each healthy node is reconciled once per grace period, so that the cheapest checks come first.
    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
        let Some(node) = self.nodes.get(key) else {
            self.last_heartbeat().remove(&key.name);
            return Ok(Next::Change);
        };
        let age = self.last_heartbeat().get(&key.name).map(|at| at.elapsed()).unwrap_or_default();
        let heartbeat = Heartbeat::of(age, self.grace);
        let mut next = (heartbeat == Heartbeat::Recent).then(|| self.grace - age);
        let written;
        let mut node = &*node;
        if let Some(conditions) = conditions(node, heartbeat, now()) {
            written = self.write_conditions(node, key, conditions).await?;
            node = &written;
        }
        let tainted;
        if let Some(taints) = taints(node, now()) {
            let meta = json!({ "resourceVersion": node.metadata.resource_version });
            let patch = Patch::Merge(json!({ "metadata": meta, "spec": { "taints": taints } }));
            let done = self.nodes_api().patch(&key.name, &PatchParams::default(), &patch).await;
            tainted = done.map_err(Error::api("taint the node"))?;
            node = &tainted;
        }
        if affects_pods(node) {
            let eviction = self.reconcile_pods(node, key).await?;
            next = [next, eviction].into_iter().flatten().min();
        }
        Ok(Next::after(next))
    }
}

impl NodeLifecycle {
    pub(crate) fn new(setup: &mut Setup<'_, Self>, grace: Duration) -> Self {
        // A short grace period must not end between two lists. An interval of zero is invalid.
        let period = MONITOR_PERIOD.min(grace / LISTS_PER_GRACE).max(Duration::from_millis(100));
        setup.list_every::<NodeLease>(period);
        Self {
            client: setup.client(),
            grace,
            nodes: setup.cache(),
            pods: setup.index(),
            recorder: setup.recorder(Self::NAME),
            queue: setup.queue(),
            last_heartbeat: Mutex::default(),
        }
    }

    fn node_changed(&self, change: &Change<Node>) {
        let node = change.latest();
        let name = node.metadata.name.clone().unwrap_or_default();
        if change.is_delete() {
            self.last_heartbeat().remove(&name);
            return;
        }
        // Only the kubelet changes the time of the heartbeat; this controller's own writes do not.
        let ready_heartbeat = |node: &Node| {
            let all = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            condition::find(all, ConditionType::Ready)
                .and_then(|condition| condition.last_heartbeat_time.clone())
        };
        if change.old.as_ref().is_none_or(|old| ready_heartbeat(old) != ready_heartbeat(node)) {
            self.record_heartbeat(&name);
        }
        self.queue.add(ObjectKey::new("", name));
    }

    /// Records a renewal. It adds no key: the node is reconciled when its grace period would have ended.
    fn lease_changed(&self, change: &Change<NodeLease>) {
        let lease = change.latest();
        if !lease.is_in(LEASES) {
            return;
        }
        if change.is_delete() {
            if !self.nodes.contains(&ObjectKey::new("", lease.name())) {
                self.last_heartbeat().remove(lease.name());
            }
            return;
        }
        if change.old.as_ref().is_none_or(|old| old.renew_time() != lease.renew_time()) {
            self.record_heartbeat(lease.name());
        }
    }

    /// A pod that is bound to a tainted node may have to be evicted immediately.
    fn pod_changed(&self, change: &Change<Pod>) {
        let Some(pod) = &change.new else { return };
        let bound = change.old.as_ref().is_none_or(|old| node_name(old) != node_name(pod));
        if let Some(node) = node_name(pod).filter(|_| bound) {
            let key = ObjectKey::new("", node);
            if self.nodes.get(&key).is_some_and(|node| affects_pods(&node)) {
                self.queue.add(key);
            }
        }
    }

    fn record_heartbeat(&self, node: &str) {
        let mut last_heartbeat = self.last_heartbeat();
        match last_heartbeat.get_mut(node) {
            Some(at) => *at = Instant::now(),
            None => drop(last_heartbeat.insert(node.to_owned(), Instant::now())),
        }
    }

    async fn write_conditions(
        &self,
        before: &Node,
        key: &ObjectKey,
        conditions: Vec<NodeCondition>,
    ) -> Result<Node, Error> {
        let meta = json!({ "resourceVersion": before.metadata.resource_version });
        let status = json!({ "conditions": conditions });
        let patch = Patch::Merge(json!({ "metadata": meta, "status": status }));
        let done = self.nodes_api().patch_status(&key.name, &PatchParams::default(), &patch).await;
        let written = done.map_err(Error::api("mark the node unknown"))?;
        let message = format!("Node {} status is now: NodeNotReady", key.name);
        self.recorder.record(before, EventType::Normal, "NodeNotReady", message);
        Ok(written)
    }

    /// Evicts pods, and marks pods as not ready if the node is not ready. Returns when the next one is to be
    /// evicted.
    async fn reconcile_pods(
        &self,
        node: &Node,
        key: &ObjectKey,
    ) -> Result<Option<Duration>, Error> {
        let are_current = pod_statuses_are_current(node);
        let mut next = None;
        for pod in self.pods.get(&key.name).into_iter().filter(|pod| !is_terminal(pod)) {
            match decide(&pod, node, now()) {
                Decision::EvictAfter(Duration::ZERO) => self.evict(&pod).await?,
                Decision::EvictAfter(wait) => {
                    next = Some(next.map_or(wait, |next: Duration| next.min(wait)));
                }
                Decision::Keep => {}
            }
            if !are_current && is_ready(&pod) {
                self.mark_not_ready(&pod).await?;
            }
        }
        Ok(next)
    }

    async fn evict(&self, pod: &Pod) -> Result<(), Error> {
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let key = ObjectKey::of(pod);
        let message = format!("Marking for deletion Pod {key}");
        self.recorder.record(pod, EventType::Normal, "TaintManagerEviction", message);
        let condition = json!({
            "type": ConditionType::DisruptionTarget.as_str(), "status": ConditionStatus::True.as_str(),
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": Time(now()),
        });
        if !self.write_pod_condition(pod, &condition).await? {
            return Ok(());
        }
        let same = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams::default().preconditions(same);
        let done = self.pods_api(&key).delete(&key.name, &params).await;
        error::ignore_recreated(done).map_err(Error::api("evict pod"))
    }

    async fn mark_not_ready(&self, pod: &Pod) -> Result<(), Error> {
        self.recorder.record(
            pod,
            EventType::Warning,
            "NodeNotReady",
            "Node is not ready".to_owned(),
        );
        let (ready, not) = (ConditionType::Ready.as_str(), ConditionStatus::False.as_str());
        let condition = json!({ "type": ready, "status": not, "lastTransitionTime": Time(now()) });
        self.write_pod_condition(pod, &condition).await.map(drop)
    }

    /// Writes a condition of a pod. Returns whether the pod still exists.
    async fn write_pod_condition(&self, pod: &Pod, condition: &Value) -> Result<bool, Error> {
        let key = ObjectKey::of(pod);
        let patch = Patch::Strategic(json!({
            "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [condition] } }));
        let params = PatchParams::default();
        match self.pods_api(&key).patch_status(&key.name, &params, &patch).await {
            Ok(_) => Ok(true),
            failed => error::ignore_recreated(failed)
                .map(|()| false)
                .map_err(Error::api("write a condition of the pod")),
        }
    }

    fn nodes_api(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    fn pods_api(&self, key: &ObjectKey) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    fn last_heartbeat(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.last_heartbeat.lock()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::Api as Server;

    fn pod(name: &str, node: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "namespace": "ns", "name": name, "uid": name },
            "spec": { "nodeName": node, "containers": [] },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
        }))
        .expect("a pod")
    }

    fn node(name: &str, ready: &str, taints: Value) -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": name, "resourceVersion": "1" }, "spec": { "taints": taints },
            "status": { "conditions": [{ "type": "Ready", "status": ready }] } }))
        .expect("a node")
    }

    fn controller(server: &Server) -> (NodeLifecycle, Cache<Pod>) {
        let pods = Cache::<Pod>::default();
        let (events, _) = crate::events::channel(server.client());
        let controller = NodeLifecycle {
            client: server.client(),
            grace: Duration::from_secs(40),
            nodes: Cache::default(),
            pods: pods.index(),
            recorder: events.recorder("test"),
            queue: Queue::default(),
            last_heartbeat: Mutex::default(),
        };
        (controller, pods)
    }

    /// With fifty thousand pods on other nodes, a reconcile of a healthy node reads no pod, and one of an
    /// unreachable node reads its own.
    #[tokio::test]
    async fn a_reconcile_visits_the_pods_of_its_node_and_no_others() {
        let server = Server::responding(|_| Some(json!({ "metadata": {} })));
        let (controller, pods) = controller(&server);
        for at in 0..50_000 {
            pods.insert(pod(&format!("p{at}"), &format!("n{}", at % 5_000)));
        }
        pods.insert(pod("mine", "unreachable"));
        controller.nodes.insert(node("healthy", "True", json!([])));
        let taints = json!([
            { "key": "node.kubernetes.io/unreachable", "effect": "NoSchedule" },
            { "key": "node.kubernetes.io/unreachable", "effect": "NoExecute",
              "timeAdded": "2026-01-01T00:00:00Z" },
        ]);
        controller.nodes.insert(node("unreachable", "Unknown", taints));
        controller.record_heartbeat("healthy");
        let before = pods.visited();
        let next = controller.reconcile(&ObjectKey::new("", "healthy")).await.expect("reconciled");
        assert!(matches!(next, Next::After(wait) if wait <= Duration::from_secs(40)), "{next:?}");
        assert_eq!(pods.visited() - before, 0);

        controller.reconcile(&ObjectKey::new("", "unreachable")).await.expect("reconciled");
        assert_eq!(pods.visited() - before, 1);
        let lines = server.lines();
        assert_eq!(
            lines,
            [
                "PATCH /api/v1/namespaces/ns/pods/mine/status",
                "DELETE /api/v1/namespaces/ns/pods/mine",
                "PATCH /api/v1/namespaces/ns/pods/mine/status"
            ],
        );
    }

    /// Otherwise ten thousand renewals per minute would be ten thousand reconciles.
    #[tokio::test(start_paused = true)]
    async fn a_renewed_lease_adds_no_key() {
        use crate::queue::WorkQueue as _;

        let server = Server::responding(|_| None);
        let (controller, _) = controller(&server);
        let lease = |renewed: &str| -> std::sync::Arc<NodeLease> {
            let lease = json!({ "metadata": { "namespace": LEASES, "name": "n" },
                                "spec": { "holderIdentity": "n", "renewTime": renewed } });
            std::sync::Arc::new(serde_json::from_value(lease).expect("a lease"))
        };
        let (first, second) = (lease("2026-01-01T00:00:00Z"), lease("2026-01-01T00:00:10Z"));
        controller.lease_changed(&Change { old: None, new: Some(first.clone()) });
        let last_heartbeat =
            |controller: &NodeLifecycle| controller.last_heartbeat().get("n").copied();
        let at = last_heartbeat(&controller).expect("recorded");
        tokio::time::advance(Duration::from_secs(10)).await;
        controller.lease_changed(&Change { old: Some(first.clone()), new: Some(first.clone()) });
        assert_eq!(last_heartbeat(&controller), Some(at), "only a renewal counts");
        controller.lease_changed(&Change { old: Some(first), new: Some(second) });
        assert_eq!(last_heartbeat(&controller), Some(at + Duration::from_secs(10)));
        let ready = tokio::time::timeout(Duration::from_secs(3600), controller.queue.next()).await;
        assert!(ready.is_err(), "{ready:?}");
    }
}
