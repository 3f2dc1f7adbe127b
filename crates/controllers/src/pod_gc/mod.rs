//! The pod garbage collector: deletes pods whose node no longer exists, pods that were deleted before they
//! had a node, and the oldest ended pods beyond a limit.
//!
//! Each has its own keys, so that a reconcile of a deleted node reads only the pods of that node.

pub(crate) mod plan;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use coffer_api::phase::PodPhase;
use coffer_client::path::segment;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use parking_lot::{Mutex, MutexGuard};
use serde_json::json;

use self::plan::{ENDED_MAX, Reason, disruption, is_unscheduled, surplus, time_left};
use crate::controller::{Controller, Next, Setup, Watches};
use crate::error::{self, Error};
use crate::informer::index::{ByNode, Ended};
use crate::informer::{Cache, Change, Index};
use crate::key::ObjectKey;
use crate::pod::{Pod, is_terminal, node_name};
use crate::queue::Queue;

/// Pods end in bursts. A round starts this long after the first one.
const ENDED_SETTLE: Duration = Duration::from_secs(1);

/// Deletes pods that no kubelet deletes.
pub(crate) struct PodGc {
    client: Client,
    /// How long a node may be missing before its pods are deleted.
    grace: Duration,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    by_node: Index<Pod, ByNode>,
    ended: Index<Pod, Ended>,
    queue: Queue<Key>,
    /// Since when the nodes of pods are missing.
    missing: Mutex<HashMap<String, Timestamp>>,
}

/// What is reconciled together.
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
                    self.remove(&pod, Reason::Unscheduled).await?;
                }
            }
            Key::Ended if self.ended.count(&()) > ENDED_MAX => {
                for pod in surplus(self.ended.get(&()), ENDED_MAX) {
                    self.remove(&pod, Reason::Ended).await?;
                }
            }
            Key::Ended => {}
        }
        Ok(Next::Change)
    }
}

impl PodGc {
    pub(crate) fn new(setup: &mut Setup<'_, Self>, grace: Duration) -> Self {
        Self {
            client: setup.client(),
            grace,
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
        // A node that was deleted while this program did not run is found by its pods only. At the start the
        // nodes may be listed after the pods; the key has no effect if the node exists.
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

    /// Deletes the pods of a node that has been missing for the grace period.
    async fn collect_orphans(&self, node: &str) -> Result<Next, Error> {
        if self.nodes.contains(&ObjectKey::new("", node))
            || self.by_node.count(&node.to_owned()) == 0
        {
            self.missing().remove(node);
            return Ok(Next::Change);
        }
        let now = Timestamp::now();
        let since = *self.missing().entry(node.to_owned()).or_insert(now);
        if let Some(left) = time_left(since, self.grace, now) {
            return Ok(Next::After(left));
        }
        // The cache may be behind, and a deleted pod cannot be restored.
        let api = Api::<Node>::all(self.client.clone());
        let found = api.get_metadata_opt(&segment(node)).await.map_err(Error::api("get node"))?;
        if found.is_none() {
            for pod in self.by_node.get(&node.to_owned()) {
                self.remove(&pod, Reason::Orphaned).await?;
            }
        }
        self.missing().remove(node);
        Ok(Next::Change)
    }

    async fn remove(&self, pod: &Pod, reason: Reason) -> Result<(), Error> {
        let key = ObjectKey::of(pod);
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        tracing::info!(pod = %key, ?reason, "deleting a pod that no kubelet will delete");
        if reason == Reason::Orphaned && !is_terminal(pod) {
            let conditions = [disruption(crate::events::now())];
            let patch = Patch::Strategic(json!({ "metadata": { "uid": pod.metadata.uid },
                "status": { "phase": PodPhase::Failed.as_str(), "conditions": conditions } }));
            let done = api.patch_status(&key.name, &PatchParams::default(), &patch).await;
            error::ignore_recreated(done).map_err(Error::api("mark an orphaned pod failed"))?;
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
    async fn a_reconcile_of_a_missing_node_visits_and_deletes_only_its_pods() {
        let server = Server::responding(|line| {
            (!line.contains("/nodes/")).then(|| json!({ "metadata": { "name": "p" } }))
        });
        let pods = Cache::<Pod>::default();
        let collector = PodGc {
            client: server.client(),
            grace: Duration::ZERO,
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
        assert_eq!(collector.pods.visited() - before, 2, "the limit of ended pods is not exceeded");
    }
}
