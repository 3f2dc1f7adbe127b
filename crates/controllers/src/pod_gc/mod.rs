//! The pod garbage collector: removes pods whose node no longer exists, that were deleted before they
//! had a node, and the oldest of too many that have ended.
//!
//! Each of the three is a key of its own, so that one node that goes is about its own pods only.

pub(crate) mod plan;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use coffer_api::phase::PodPhase;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use parking_lot::{Mutex, MutexGuard};
use serde_json::json;

use self::plan::{ENDED_MAX, Why, disruption, is_unscheduled, surplus, time_left};
use crate::controller::{Controller, Next, Setup, Watches};
use crate::error::{self, Error};
use crate::informer::index::{ByNode, Ended};
use crate::informer::{Cache, Change, Index};
use crate::key::ObjectKey;
use crate::pod::{Pod, is_terminal, node_name};
use crate::queue::Queue;

/// Pods end in bursts; one round removes the surplus of a burst.
const ENDED_SETTLE: Duration = Duration::from_secs(1);

/// Removes pods that no kubelet will.
pub(crate) struct PodGc {
    client: Client,
    /// How long a node may be missing before its pods go.
    patience: Duration,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    by_node: Index<Pod, ByNode>,
    ended: Index<Pod, Ended>,
    queue: Queue<Key>,
    /// Since when nodes that pods name are missing.
    missing: Mutex<HashMap<String, Timestamp>>,
}

/// What is looked at together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// The pods of a node that may be missing.
    Node(String),
    /// A pod that was deleted before it had a node.
    Unscheduled(ObjectKey),
    /// The pods that have ended.
    Ended,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "pods of node {name}"),
            Self::Unscheduled(pod) => pod.fmt(f),
            Self::Ended => f.write_str("ended pods"),
        }
    }
}

impl Controller for PodGc {
    const NAME: &'static str = "pod-garbage-collector-controller";
    const WORKERS: usize = 4;
    type Queue = Queue<Key>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.on::<Node>(Self::node_changed);
        watches.on::<Pod>(Self::pod_changed);
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        match key {
            Key::Node(node) => return self.collect_orphans(node).await,
            Key::Unscheduled(key) => {
                if let Some(pod) = self.pods.get(key).filter(|pod| is_unscheduled(pod)) {
                    self.remove(&pod, Why::Unscheduled).await?;
                }
            }
            Key::Ended if self.ended.count(&()) > ENDED_MAX => {
                for pod in surplus(self.ended.get(&()), ENDED_MAX) {
                    self.remove(&pod, Why::Ended).await?;
                }
            }
            Key::Ended => {}
        }
        Ok(Next::Change)
    }
}

impl PodGc {
    pub(crate) fn new(setup: &mut Setup<'_, Self>, patience: Duration) -> Self {
        Self {
            client: setup.client(),
            patience,
            nodes: setup.cache(),
            pods: setup.cache(),
            by_node: setup.index(),
            ended: setup.index(),
            queue: setup.queue(),
            missing: Mutex::default(),
        }
    }

    fn node_changed(&self, change: &Change<Node>) {
        if change.is_delete() {
            self.queue.add(Key::Node(change.latest().metadata.name.clone().unwrap_or_default()));
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let Some(pod) = &change.new else { return };
        let old = change.old.as_deref();
        let bound = old.is_none_or(|old| node_name(old) != node_name(pod));
        // At the start the nodes may be listed after the pods: then this is the only sign of a node
        // that went while this program did not run. The key is dropped again if the node is there.
        if let Some(node) = node_name(pod).filter(|_| bound)
            && !self.nodes.contains(&ObjectKey::new("", node))
        {
            self.queue.add(Key::Node(node.to_owned()));
        }
        if is_unscheduled(pod) {
            self.queue.add(Key::Unscheduled(ObjectKey::of(&**pod)));
        }
        if is_terminal(pod) && !old.is_some_and(is_terminal) && self.ended.count(&()) > ENDED_MAX {
            self.queue.add_after(Key::Ended, ENDED_SETTLE);
        }
    }

    /// Removes the pods of a node that has been missing for long enough.
    async fn collect_orphans(&self, node: &str) -> Result<Next, Error> {
        if self.nodes.contains(&ObjectKey::new("", node))
            || self.by_node.count(&node.to_owned()) == 0
        {
            self.missing().remove(node);
            return Ok(Next::Change);
        }
        let now = Timestamp::now();
        let since = *self.missing().entry(node.to_owned()).or_insert(now);
        if let Some(left) = time_left(since, self.patience, now) {
            return Ok(Next::After(left));
        }
        // The cache may be behind; a pod that is removed by mistake does not come back.
        let api = Api::<Node>::all(self.client.clone());
        let found = api.get_metadata_opt(node).await.map_err(Error::api("get node"))?;
        if found.is_none() {
            for pod in self.by_node.get(&node.to_owned()) {
                self.remove(&pod, Why::Orphaned).await?;
            }
        }
        self.missing().remove(node);
        Ok(Next::Change)
    }

    async fn remove(&self, pod: &Pod, why: Why) -> Result<(), Error> {
        let key = ObjectKey::of(pod);
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        tracing::info!(pod = %key, ?why, "removing a pod that no kubelet will remove");
        if why == Why::Orphaned && !is_terminal(pod) {
            let conditions = [disruption(crate::events::now())];
            let patch = Patch::Strategic(json!({ "metadata": { "uid": pod.metadata.uid },
                "status": { "phase": PodPhase::Failed.as_str(), "conditions": conditions } }));
            let done = api.patch_status(&key.name, &PatchParams::default(), &patch).await;
            error::ignore_recreated(done).map_err(Error::api("mark a lost pod failed"))?;
        }
        let same = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams::default().grace_period(0).preconditions(same);
        let done = api.delete(&key.name, &params).await;
        error::ignore_recreated(done).map_err(Error::api("remove pod"))
    }

    fn missing(&self) -> MutexGuard<'_, HashMap<String, Timestamp>> {
        self.missing.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Api as Server;

    #[tokio::test]
    async fn a_node_that_is_missing_for_too_long_costs_the_pods_that_it_had() {
        let server = Server::answering(|line| {
            (!line.contains("/nodes/")).then(|| json!({ "metadata": { "name": "p" } }))
        });
        let pods = Cache::<Pod>::default();
        let collector = PodGc {
            client: server.client(),
            patience: Duration::ZERO,
            nodes: Cache::default(),
            by_node: pods.index(),
            ended: pods.index(),
            queue: Queue::default(),
            missing: Mutex::default(),
            pods,
        };
        for at in 0..10_000 {
            let (name, node) = (format!("p{at}"), format!("n{}", at % 5_000));
            let pod = json!({ "metadata": { "namespace": "ns", "name": name, "uid": name },
                              "spec": { "nodeName": node, "containers": [] },
                              "status": { "phase": "Succeeded" } });
            collector.pods.insert(serde_json::from_value(pod).expect("a pod"));
        }
        let before = collector.pods.visited();
        let next = collector.reconcile(&Key::Node("n7".to_owned())).await.expect("reconciled");
        assert_eq!(next, Next::Change);
        assert_eq!(collector.pods.visited() - before, 2);
        assert_eq!(
            server.lines(),
            [
                "GET /api/v1/nodes/n7",
                "DELETE /api/v1/namespaces/ns/pods/p5007",
                "DELETE /api/v1/namespaces/ns/pods/p7",
            ],
        );
        collector.reconcile(&Key::Ended).await.expect("reconciled");
        assert_eq!(collector.pods.visited() - before, 2, "not too many have ended");
    }
}
