//! The pod garbage collector: removes pods whose node is gone, that were deleted before they had a
//! node, and the oldest of too many that have ended.

pub mod plan;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::plan::{ENDED_MAX, Why, disruption, missing_long_enough, plan};
use crate::error::{self, Error};
use crate::informer::Cache;
use crate::key::ObjectKey;
use crate::manager::Manager;
use crate::pod::{is_terminal, node_name};
use crate::queue::Queue;

const NAME: &str = "pod-garbage-collector-controller";
/// How long a node may be missing before its pods go.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// Changes come in bursts; one round answers for a burst.
const SETTLE: Duration = Duration::from_millis(200);

/// Runs the pod garbage collector alone until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let mut manager = Manager::new(client);
    register(&mut manager);
    manager.run(shutdown).await;
}

/// Adds the pod garbage collector to a manager.
pub fn register(manager: &mut Manager) {
    register_with(manager, PATIENCE);
}

/// The same with another patience for missing nodes.
pub fn register_with(manager: &mut Manager, patience: Duration) {
    let collector = Arc::new(Collector {
        client: manager.client(),
        patience,
        nodes: manager.informer::<Node>().cache(),
        pods: manager.informer::<Pod>().cache(),
        queue: Queue::default(),
        missing: Mutex::default(),
    });
    let queue = collector.queue.clone();
    manager.informer::<Node>().on_change(move |change| {
        // Heartbeats are no news here.
        if change.old.is_none() || change.is_delete() {
            queue.add_after(Everything, SETTLE);
        }
    });
    let queue = collector.queue.clone();
    manager.informer::<Pod>().on_change(move |change| {
        let Some(pod) = &change.new else { return };
        let old = change.old.as_deref();
        let bound = old.is_none_or(|old| node_name(old) != node_name(pod));
        let ended = is_terminal(pod) && !old.is_some_and(is_terminal);
        let unscheduled = pod.metadata.deletion_timestamp.is_some() && node_name(pod).is_none();
        if bound || ended || unscheduled {
            queue.add_after(Everything, SETTLE);
        }
    });
    let (this, queue) = (collector.clone(), collector.queue.clone());
    let ready = async move {
        this.nodes.synced().await;
        this.pods.synced().await;
    };
    manager.add_controller(NAME, 1, queue, ready, move |Everything| {
        let collector = collector.clone();
        async move { collector.round().await }
    });
}

/// The one thing this controller looks at: all pods together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Everything;

impl std::fmt::Display for Everything {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("all pods")
    }
}

struct Collector {
    client: Client,
    patience: Duration,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    queue: Queue<Everything>,
    /// Since when nodes that pods name are missing.
    missing: Mutex<HashMap<String, Timestamp>>,
}

impl Collector {
    async fn round(&self) -> Result<(), Error> {
        let pods = self.pods.all();
        let (gone, next) = self.missing_nodes(&pods);
        if let Some(wait) = next {
            self.queue.add_after(Everything, wait);
        }
        let gone = self.confirmed(gone).await?;
        for (pod, why) in plan(&pods, &gone, ENDED_MAX) {
            self.remove(&pod, why).await?;
        }
        Ok(())
    }

    fn missing_nodes(&self, pods: &[Arc<Pod>]) -> (HashSet<String>, Option<Duration>) {
        let now = Timestamp::now();
        let named = pods.iter().filter_map(|pod| node_name(pod));
        let absent: HashSet<&str> =
            named.filter(|node| self.nodes.get(&ObjectKey::new("", *node)).is_none()).collect();
        let mut missing = self.missing.lock().expect("no code panics while it holds the map");
        missing.retain(|node, _| absent.contains(node.as_str()));
        for node in absent {
            missing.entry(node.to_owned()).or_insert(now);
        }
        missing_long_enough(missing.clone(), self.patience, now)
    }

    /// The cache may be behind; a pod that is removed by mistake does not come back.
    async fn confirmed(&self, nodes: HashSet<String>) -> Result<HashSet<String>, Error> {
        let api = Api::<Node>::all(self.client.clone());
        let mut confirmed = HashSet::new();
        for node in nodes {
            let found = api.get_metadata_opt(&node).await.map_err(Error::api("get node"))?;
            if found.is_none() {
                confirmed.insert(node);
            }
        }
        Ok(confirmed)
    }

    async fn remove(&self, pod: &Pod, why: Why) -> Result<(), Error> {
        let key = ObjectKey::of(pod);
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        tracing::info!(pod = %key, ?why, "removing a pod that nobody else will");
        if why == Why::Orphaned && !is_terminal(pod) {
            let conditions = [disruption(crate::events::now())];
            let patch = Patch::Strategic(json!({ "metadata": { "uid": pod.metadata.uid },
                "status": { "phase": "Failed", "conditions": conditions } }));
            absent_is_fine(api.patch_status(&key.name, &PatchParams::default(), &patch).await)
                .map_err(Error::api("mark a lost pod failed"))?;
        }
        let same = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams::default().grace_period(0).preconditions(same);
        absent_is_fine(api.delete(&key.name, &params).await).map_err(Error::api("remove pod"))
    }
}

/// Gone, or another object by now: somebody else was faster.
fn absent_is_fine<T>(done: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(error) if error::is_not_found(&error) || error::is_conflict(&error) => Ok(()),
        other => other.map(drop),
    }
}
