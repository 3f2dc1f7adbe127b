//! The node lifecycle: a node that falls silent becomes unknown, what is wrong with a node becomes
//! a taint, and pods leave nodes whose taints they do not bear.
//!
//! A node shows signs of life in its Lease and in its status. What counts is when this process saw
//! the last one change, by its own clock, so that a node whose clock is wrong is not thought
//! dead; after a restart every node has the whole grace period again.

pub mod eviction;
pub mod plan;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::eviction::{Verdict, verdict};
use self::plan::{Silence, conditions, pods_are_ready, taints};
use crate::error::{self, Error};
use crate::events::{EventType, Recorder, now};
use crate::informer::{Cache, Change};
use crate::key::ObjectKey;
use crate::manager::Manager;
use crate::pod::{is_ready, is_terminal, node_name};
use crate::queue::Queue;

const NAME: &str = "node-controller";
const WORKERS: usize = 8;
/// A node may be silent for this long, upstream's `--node-monitor-grace-period`.
pub const GRACE: Duration = Duration::from_secs(40);
/// Where the leases of nodes live.
const LEASES: &str = "kube-node-lease";

/// Runs the node lifecycle controller alone until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let mut manager = Manager::new(client);
    register(&mut manager);
    manager.run(shutdown).await;
}

/// Adds the node lifecycle controller to a manager.
pub fn register(manager: &mut Manager) {
    register_with(manager, GRACE);
}

/// The same with another grace period.
pub fn register_with(manager: &mut Manager, grace: Duration) {
    let controller = Arc::new(Controller {
        client: manager.client(),
        grace,
        nodes: manager.informer::<Node>().cache(),
        leases: manager.informer::<Lease>().cache(),
        pods: manager.informer::<Pod>().cache(),
        recorder: manager.recorder(NAME),
        queue: Queue::default(),
        heard: Mutex::default(),
    });
    let this = controller.clone();
    manager.informer::<Node>().on_change(move |change| this.node_changed(change));
    let this = controller.clone();
    manager.informer::<Lease>().on_change(move |change| {
        let meta = &change.latest().metadata;
        if meta.namespace.as_deref() == Some(LEASES) && !change.is_delete() {
            let name = meta.name.clone().unwrap_or_default();
            this.hear(&name);
            this.queue.add_after(ObjectKey::new("", name), this.grace);
        }
    });
    let this = controller.clone();
    manager.informer::<Pod>().on_change(move |change| {
        let pod = change.latest();
        let bound = change.old.as_ref().is_none_or(|old| node_name(old) != node_name(pod));
        if let Some(node) = node_name(pod).filter(|_| bound && !change.is_delete()) {
            this.queue.add(ObjectKey::new("", node));
        }
    });
    let (this, queue) = (controller.clone(), controller.queue.clone());
    let ready = async move {
        this.nodes.synced().await;
        this.leases.synced().await;
        this.pods.synced().await;
    };
    manager.add_controller(NAME, WORKERS, queue, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

struct Controller {
    client: Client,
    grace: Duration,
    nodes: Cache<Node>,
    leases: Cache<Lease>,
    pods: Cache<Pod>,
    recorder: Recorder,
    /// Names of nodes.
    queue: Queue<ObjectKey>,
    /// When each node last showed a sign of life.
    heard: Mutex<HashMap<String, Instant>>,
}

impl Controller {
    fn node_changed(&self, change: &Change<Node>) {
        let node = change.latest();
        let name = node.metadata.name.clone().unwrap_or_default();
        if change.is_delete() {
            self.heard().remove(&name);
            return;
        }
        // What this controller writes is no sign of the node's life; its heartbeat is.
        let beat = |node: &Node| {
            let mut all = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            all.find(|condition| condition.type_ == "Ready")
                .and_then(|condition| condition.last_heartbeat_time.clone())
        };
        if change.old.as_ref().is_none_or(|old| beat(old) != beat(node)) {
            self.hear(&name);
        }
        self.queue.add(ObjectKey::new("", name));
    }

    fn hear(&self, node: &str) {
        self.heard().insert(node.to_owned(), Instant::now());
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(node) = self.nodes.get(key) else {
            self.heard().remove(&key.name);
            return Ok(());
        };
        let quiet = self.heard().get(&key.name).map(|at| at.elapsed()).unwrap_or_default();
        let silence = Silence::of(quiet, self.grace);
        if silence == Silence::Tolerable {
            self.queue.add_after(key.clone(), self.grace - quiet);
        }
        let mut node = Node::clone(&node);
        if let Some(conditions) = conditions(&node, silence, now()) {
            node = self.write_conditions(node, key, conditions).await?;
        }
        if let Some(taints) = taints(&node, now()) {
            let meta = json!({ "resourceVersion": node.metadata.resource_version });
            let patch = Patch::Merge(json!({ "metadata": meta, "spec": { "taints": taints } }));
            let done = self.nodes_api().patch(&key.name, &PatchParams::default(), &patch).await;
            node = done.map_err(Error::api("taint the node"))?;
        }
        self.judge_pods(&node, key).await
    }

    async fn write_conditions(
        &self,
        mut node: Node,
        key: &ObjectKey,
        conditions: Vec<k8s_openapi::api::core::v1::NodeCondition>,
    ) -> Result<Node, Error> {
        let before = Node::clone(&node);
        node.status.get_or_insert_default().conditions = Some(conditions);
        let api = self.nodes_api();
        let done = api.replace_status(&key.name, &Default::default(), &node).await;
        let written = done.map_err(Error::api("mark the node unknown"))?;
        let message = format!("Node {} status is now: NodeNotReady", key.name);
        self.recorder.record(&before, EventType::Normal, "NodeNotReady", message);
        Ok(written)
    }

    /// Evicts the pods that must leave, and says of the others that they are not ready.
    async fn judge_pods(&self, node: &Node, key: &ObjectKey) -> Result<(), Error> {
        let believed = pods_are_ready(node);
        let mut next = None;
        for pod in self.pods.all() {
            if node_name(&pod) != Some(&key.name) || is_terminal(&pod) {
                continue;
            }
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
        if let Some(wait) = next {
            self.queue.add_after(key.clone(), wait);
        }
        Ok(())
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
        match self.pods_api(&key).delete(&key.name, &params).await {
            Err(error) if error::is_not_found(&error) || error::is_conflict(&error) => Ok(()),
            other => other.map(drop).map_err(Error::api("evict pod")),
        }
    }

    async fn mark_not_ready(&self, pod: &Pod) -> Result<(), Error> {
        let key = ObjectKey::of(pod);
        let condition =
            json!({ "type": "Ready", "status": "False", "lastTransitionTime": Time(now()) });
        let patch = Patch::Strategic(json!({
            "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [condition] } }));
        let params = PatchParams::default();
        match self.pods_api(&key).patch_status(&key.name, &params, &patch).await {
            Err(error) if error::is_not_found(&error) || error::is_conflict(&error) => Ok(()),
            other => other.map(drop).map_err(Error::api("mark pod not ready")),
        }
    }

    fn nodes_api(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    fn pods_api(&self, key: &ObjectKey) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    fn heard(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.heard.lock().expect("no code panics while it holds the map")
    }
}
