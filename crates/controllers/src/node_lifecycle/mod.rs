//! The node lifecycle: a node that falls silent becomes unknown, what is wrong with a node becomes
//! a taint, and pods leave nodes whose taints they do not tolerate.
//!
//! A node shows signs of life in its Lease and in its status. What counts is when this process saw
//! the last one change, by its own clock, so that a node whose clock is wrong is not thought
//! dead; after a restart every node has the whole grace period again.
//!
//! Leases are not watched but listed every [`MONITOR_PERIOD`]: five thousand nodes renew five hundred
//! of them a second, each an event that wakes this process, while of all that only counts whether a node
//! was silent for much longer than that. The garbage collector learns of Leases from the same list, so
//! that the Lease of a deleted node goes up to a period later.

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
use serde_json::json;
use tokio::time::Instant;

use self::eviction::{Verdict, verdict};
use self::lease::NodeLease;
use self::plan::{Silence, conditions, is_left_alone, pods_are_ready, taints};
use crate::controller::{Controller, Next, Setup, Watches};
use crate::error::{self, Error};
use crate::events::{EventType, Recorder, now};
use crate::informer::index::ByNode;
use crate::informer::{Cache, Change, Index};
use crate::key::ObjectKey;
use crate::pod::{Pod, is_ready, is_terminal, node_name};
use crate::queue::Queue;

/// How often nodes' leases are listed: upstream's `--node-monitor-period`.
const MONITOR_PERIOD: Duration = Duration::from_secs(5);
/// The shortest grace period has room for so many lists.
const LISTS_PER_GRACE: u32 = 4;
/// Where the leases of nodes live.
const LEASES: &str = coffer_api::well_known::namespace::NODE_LEASE;

/// Taints nodes, and evicts the pods that do not tolerate it.
pub(crate) struct NodeLifecycle {
    client: Client,
    /// How long a node may be silent.
    grace: Duration,
    nodes: Cache<Node>,
    pods: Index<Pod, ByNode>,
    recorder: Recorder,
    /// Names of nodes.
    queue: Queue<ObjectKey>,
    /// When each node last showed a sign of life.
    heard: Mutex<HashMap<String, Instant>>,
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

    /// At rest this is what each node costs once per grace period, so that it begins with what costs
    /// least: is there anything to do at all?
    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
        let Some(node) = self.nodes.get(key) else {
            self.heard().remove(&key.name);
            return Ok(Next::Change);
        };
        let quiet = self.heard().get(&key.name).map(|at| at.elapsed()).unwrap_or_default();
        let silence = Silence::of(quiet, self.grace);
        let mut next = (silence == Silence::Tolerable).then(|| self.grace - quiet);
        let written;
        let mut node = &*node;
        if let Some(conditions) = conditions(node, silence, now()) {
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
        if !is_left_alone(node) {
            let eviction = self.judge_pods(node, key).await?;
            next = [next, eviction].into_iter().flatten().min();
        }
        Ok(Next::after(next))
    }
}

impl NodeLifecycle {
    pub(crate) fn new(setup: &mut Setup<'_, Self>, grace: Duration) -> Self {
        // A grace period that is short for a test must not end between two lists. A period of zero
        // would be no period.
        let period = MONITOR_PERIOD.min(grace / LISTS_PER_GRACE).max(Duration::from_millis(100));
        setup.list_every::<NodeLease>(period);
        Self {
            client: setup.client(),
            grace,
            nodes: setup.cache(),
            pods: setup.index(),
            recorder: setup.recorder(Self::NAME),
            queue: setup.queue(),
            heard: Mutex::default(),
        }
    }

    fn node_changed(&self, change: &Change<Node>) {
        let node = change.latest();
        let name = node.metadata.name.clone().unwrap_or_default();
        if change.is_delete() {
            self.heard().remove(&name);
            return;
        }
        // What this controller writes is no sign of the node's life; its heartbeat is.
        let beat = |node: &Node| {
            let all = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            condition::find(all, ConditionType::Ready)
                .and_then(|condition| condition.last_heartbeat_time.clone())
        };
        if change.old.as_ref().is_none_or(|old| beat(old) != beat(node)) {
            self.hear(&name);
        }
        self.queue.add(ObjectKey::new("", name));
    }

    /// A renewal only moves the time until which the node may be silent; it is looked at when that
    /// time would have come.
    fn lease_changed(&self, change: &Change<NodeLease>) {
        let lease = change.latest();
        if !lease.is_in(LEASES) {
            return;
        }
        if change.is_delete() {
            if !self.nodes.contains(&ObjectKey::new("", lease.name())) {
                self.heard().remove(lease.name());
            }
            return;
        }
        if change.old.as_ref().is_none_or(|old| old.renew_time() != lease.renew_time()) {
            self.hear(lease.name());
        }
    }

    /// A pod that is bound to a tainted node may have to leave at once.
    fn pod_changed(&self, change: &Change<Pod>) {
        let Some(pod) = &change.new else { return };
        let bound = change.old.as_ref().is_none_or(|old| node_name(old) != node_name(pod));
        if let Some(node) = node_name(pod).filter(|_| bound) {
            let key = ObjectKey::new("", node);
            if self.nodes.get(&key).is_some_and(|node| !is_left_alone(&node)) {
                self.queue.add(key);
            }
        }
    }

    fn hear(&self, node: &str) {
        let mut heard = self.heard();
        match heard.get_mut(node) {
            Some(at) => *at = Instant::now(),
            None => drop(heard.insert(node.to_owned(), Instant::now())),
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

    /// Evicts the pods that must leave, and says of the others that they are not ready.
    /// Returns when the next one must leave.
    async fn judge_pods(&self, node: &Node, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let believed = pods_are_ready(node);
        let mut next = None;
        for pod in self.pods.get(&key.name).into_iter().filter(|pod| !is_terminal(pod)) {
            match verdict(&pod, node, now()) {
                Verdict::Leave(Duration::ZERO) => self.evict(&pod).await?,
                Verdict::Leave(wait) => {
                    next = Some(next.map_or(wait, |next: Duration| next.min(wait)));
                }
                Verdict::Stay => {}
            }
            if !believed && is_ready(&pod) {
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
        let same = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams::default().preconditions(same);
        let done = self.pods_api(&key).delete(&key.name, &params).await;
        error::ignore_recreated(done).map_err(Error::api("evict pod"))
    }

    async fn mark_not_ready(&self, pod: &Pod) -> Result<(), Error> {
        let key = ObjectKey::of(pod);
        let (ready, not) = (ConditionType::Ready.as_str(), ConditionStatus::False.as_str());
        let condition = json!({ "type": ready, "status": not, "lastTransitionTime": Time(now()) });
        let patch = Patch::Strategic(json!({
            "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [condition] } }));
        let params = PatchParams::default();
        let done = self.pods_api(&key).patch_status(&key.name, &params, &patch).await;
        error::ignore_recreated(done).map_err(Error::api("mark pod not ready"))
    }

    fn nodes_api(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    fn pods_api(&self, key: &ObjectKey) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    fn heard(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.heard.lock()
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
            heard: Mutex::default(),
        };
        (controller, pods)
    }

    /// Fifty thousand pods elsewhere: a node that is left alone looks at no pod, and one that is not
    /// looks at its own.
    #[tokio::test]
    async fn a_reconcile_visits_the_pods_of_its_node_and_no_others() {
        let server = Server::answering(|_| Some(json!({ "metadata": {} })));
        let (controller, pods) = controller(&server);
        for at in 0..50_000 {
            pods.insert(pod(&format!("p{at}"), &format!("n{}", at % 5_000)));
        }
        pods.insert(pod("mine", "quiet"));
        controller.nodes.insert(node("well", "True", json!([])));
        let taints = json!([
            { "key": "node.kubernetes.io/unreachable", "effect": "NoSchedule" },
            { "key": "node.kubernetes.io/unreachable", "effect": "NoExecute",
              "timeAdded": "2026-01-01T00:00:00Z" },
        ]);
        controller.nodes.insert(node("quiet", "Unknown", taints));
        controller.hear("well");
        let before = pods.visited();
        let next = controller.reconcile(&ObjectKey::new("", "well")).await.expect("reconciled");
        assert!(matches!(next, Next::After(wait) if wait <= Duration::from_secs(40)), "{next:?}");
        assert_eq!(pods.visited() - before, 0);

        controller.reconcile(&ObjectKey::new("", "quiet")).await.expect("reconciled");
        assert_eq!(pods.visited() - before, 1);
        let lines = server.lines();
        assert_eq!(
            lines,
            [
                "DELETE /api/v1/namespaces/ns/pods/mine",
                "PATCH /api/v1/namespaces/ns/pods/mine/status"
            ],
        );
    }

    /// A renewal moves the time until which the node may be silent; were it a key, ten thousand
    /// renewals a minute would be ten thousand reconciles.
    #[tokio::test(start_paused = true)]
    async fn a_renewed_lease_makes_no_key_ready() {
        use crate::queue::WorkQueue as _;

        let server = Server::answering(|_| None);
        let (controller, _) = controller(&server);
        let lease = |renewed: &str| -> std::sync::Arc<NodeLease> {
            let lease = json!({ "metadata": { "namespace": LEASES, "name": "n" },
                                "spec": { "holderIdentity": "n", "renewTime": renewed } });
            std::sync::Arc::new(serde_json::from_value(lease).expect("a lease"))
        };
        let (first, second) = (lease("2026-01-01T00:00:00Z"), lease("2026-01-01T00:00:10Z"));
        controller.lease_changed(&Change { old: None, new: Some(first.clone()) });
        let heard = |controller: &NodeLifecycle| controller.heard().get("n").copied();
        let at = heard(&controller).expect("heard");
        tokio::time::advance(Duration::from_secs(10)).await;
        controller.lease_changed(&Change { old: Some(first.clone()), new: Some(first.clone()) });
        assert_eq!(heard(&controller), Some(at), "another change of a lease is no renewal");
        controller.lease_changed(&Change { old: Some(first), new: Some(second) });
        assert_eq!(heard(&controller), Some(at + Duration::from_secs(10)));
        let ready = tokio::time::timeout(Duration::from_secs(3600), controller.queue.next()).await;
        assert!(ready.is_err(), "{ready:?}");
    }
}
