//! What is seen of pods and Deployments while controllers and the scheduler work on them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::Deserialize;
use tokio::sync::watch;

use super::follow::{Change, Named};
use crate::cluster::pods::PodSeen;
use crate::measure::stats::Tally;
use crate::transport::wire::{Condition, Meta};

const BOUND: usize = 0;
const RUNNING: usize = 1;
const STARTED: usize = 2;
const ROWS: &[&str] =
    &["pod created → seen bound", "pod bound → seen running", "pod created → seen running"];

/// How often something happened since the phase began, and when it last did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    pub(super) count: u64,
    pub(super) last: Option<Instant>,
}

impl Step {
    fn add(&mut self, now: Instant) {
        self.count += 1;
        self.last = Some(now);
    }
}

/// The state of the cluster as it is seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) created: Step,
    pub(super) bound: Step,
    pub(super) running: Step,
    pub(super) gone: Step,
    /// Pods that are there now.
    pub(super) pods: u64,
    /// Of them, those that run.
    pub(super) pods_running: u64,
    /// Deployments whose newest template all their pods have, all of them available.
    pub(super) complete: u64,
    /// Nodes that are Ready and take the run's pods.
    pub(super) nodes_ready: u64,
    /// Changes of any kind: while this grows, something happens.
    pub(super) changes: u64,
    /// Collections whose state at the beginning is known.
    pub(super) listed: u64,
}

struct PodTimes {
    created: Instant,
    bound: Option<Instant>,
    running: Option<Instant>,
}

/// A Deployment, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DeploymentSeen {
    metadata: DeploymentMeta,
    spec: DeploymentSpec,
    status: DeploymentStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeploymentMeta {
    #[serde(flatten)]
    meta: Meta,
    generation: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeploymentSpec {
    replicas: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeploymentStatus {
    observed_generation: u64,
    replicas: u64,
    updated_replicas: u64,
    available_replicas: u64,
}

/// A node, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeSeen {
    metadata: Meta,
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    taints: Vec<Taint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Taint {
    key: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    conditions: Vec<Condition>,
}

impl Named for PodSeen {
    fn metadata(&self) -> &Meta {
        &self.metadata
    }
}

impl Named for DeploymentSeen {
    fn metadata(&self) -> &Meta {
        &self.metadata.meta
    }
}

impl Named for NodeSeen {
    fn metadata(&self) -> &Meta {
        &self.metadata
    }
}

impl DeploymentSeen {
    fn is_complete(&self) -> bool {
        let Self { metadata, spec, status } = self;
        let all = [status.replicas, status.updated_replicas, status.available_replicas];
        status.observed_generation >= metadata.generation
            && all.iter().all(|count| *count == spec.replicas)
    }
}

impl NodeSeen {
    fn is_ready(&self, tolerated: &str) -> bool {
        self.status.conditions.iter().any(Condition::is_ready)
            && self.spec.taints.iter().all(|taint| taint.key == tolerated)
    }
}

/// Where all that is seen comes together.
pub(super) struct Seen {
    counts: watch::Sender<Counts>,
    tally: Mutex<Arc<Tally>>,
}

impl Seen {
    pub(super) fn new() -> Arc<Self> {
        let tally = Mutex::new(Arc::new(Tally::new(ROWS)));
        Arc::new(Self { counts: watch::Sender::default(), tally })
    }

    /// What is seen, from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }

    /// Begins a phase: steps are counted from nothing, what there is stays.
    pub(super) fn begin(&self) {
        self.next_tally();
        self.counts.send_modify(|counts| {
            let Counts { created, bound, running, gone, .. } = counts;
            for step in [created, bound, running, gone] {
                *step = Step::default();
            }
        });
    }

    /// The latencies of the phase that ends.
    pub(super) fn next_tally(&self) -> Arc<Tally> {
        let mut tally = self.tally.lock().expect("nothing panics while it holds the tally");
        std::mem::replace(&mut tally, Arc::new(Tally::new(ROWS)))
    }

    fn record(&self, row: usize, from: Option<Instant>, to: Instant) {
        let Some(from) = from else { return };
        let tally = self.tally.lock().expect("nothing panics while it holds the tally").clone();
        tally.record(row, to - from);
    }

    /// What is done with each change of a pod.
    pub(super) fn pods(self: &Arc<Self>) -> impl FnMut(Change<'_, PodSeen>) + Send + use<> {
        let (seen, mut known) = (self.clone(), HashMap::new());
        move |change| seen.pod(&mut known, change, Instant::now())
    }

    fn pod(
        &self,
        known: &mut HashMap<String, PodTimes>,
        change: Change<'_, PodSeen>,
        now: Instant,
    ) {
        self.counts.send_modify(|counts| {
            counts.changes += 1;
            let pod = match change {
                Change::Listed => {
                    counts.listed += 1;
                    return;
                }
                Change::Gone(name) => {
                    let Some(times) = known.remove(name) else { return };
                    counts.gone.add(now);
                    counts.pods -= 1;
                    counts.pods_running -= u64::from(times.running.is_some());
                    return;
                }
                Change::Is(pod) => pod,
            };
            let times = known.entry(pod.metadata.name.clone()).or_insert_with(|| {
                counts.created.add(now);
                counts.pods += 1;
                PodTimes { created: now, bound: None, running: None }
            });
            if times.bound.is_none() && pod.spec.node_name.is_some() {
                times.bound = Some(now);
                counts.bound.add(now);
                self.record(BOUND, Some(times.created), now);
            }
            if times.running.is_none() && pod.status.phase == "Running" {
                times.running = Some(now);
                counts.running.add(now);
                counts.pods_running += 1;
                self.record(RUNNING, times.bound, now);
                self.record(STARTED, Some(times.created), now);
            }
        });
    }

    /// What is done with each change of a Deployment.
    pub(super) fn deployments(
        self: &Arc<Self>,
    ) -> impl FnMut(Change<'_, DeploymentSeen>) + Send + use<> {
        let (seen, mut complete) = (self.clone(), HashSet::new());
        move |change| {
            seen.counts.send_modify(|counts| {
                counts.changes += 1;
                mark(&mut complete, change, counts, DeploymentSeen::is_complete);
                counts.complete = complete.len() as u64;
            });
        }
    }

    /// What is done with each change of a node. The run's pods bear the taint `tolerated`.
    pub(super) fn nodes(
        self: &Arc<Self>,
        tolerated: &'static str,
    ) -> impl FnMut(Change<'_, NodeSeen>) + Send + use<> {
        let (seen, mut ready) = (self.clone(), HashSet::new());
        move |change| {
            seen.counts.send_modify(|counts| {
                mark(&mut ready, change, counts, |node: &NodeSeen| node.is_ready(tolerated));
                counts.nodes_ready = ready.len() as u64;
            });
        }
    }
}

/// Keeps the names of those objects of which something holds.
fn mark<T: Named>(
    names: &mut HashSet<String>,
    change: Change<'_, T>,
    counts: &mut Counts,
    holds: impl Fn(&T) -> bool,
) {
    match change {
        Change::Is(object) if holds(object) => {
            names.insert(object.metadata().name.clone());
        }
        Change::Is(object) => {
            names.remove(&object.metadata().name);
        }
        Change::Gone(name) => {
            names.remove(name);
        }
        Change::Listed => counts.listed += 1,
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn of<T: DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn each_step_of_a_pod_counts_once_and_a_new_phase_counts_again() {
        let seen = Seen::new();
        let mut pods = seen.pods();
        let counts = seen.subscribe();
        let pending: PodSeen = of(json!({ "metadata": { "name": "p" } }));
        let bound: PodSeen =
            of(json!({ "metadata": { "name": "p" }, "spec": { "nodeName": "n" } }));
        let running: PodSeen =
            of(json!({ "metadata": { "name": "p" }, "spec": { "nodeName": "n" },
            "status": { "phase": "Running" } }));
        for pod in [&pending, &bound, &bound, &running, &running] {
            pods(Change::Is(pod));
        }
        let steps = |counts: &Counts| {
            [counts.created, counts.bound, counts.running, counts.gone].map(|step| step.count)
        };
        assert_eq!(steps(&counts.borrow()), [1, 1, 1, 0]);
        assert_eq!((counts.borrow().pods, counts.borrow().pods_running), (1, 1));
        let tally = seen.next_tally();
        assert_eq!([BOUND, RUNNING, STARTED].map(|row| tally.count(row)), [1, 1, 1]);
        seen.begin();
        pods(Change::Gone("p"));
        pods(Change::Gone("p"));
        assert_eq!(steps(&counts.borrow()), [0, 0, 0, 1]);
        assert_eq!((counts.borrow().pods, counts.borrow().pods_running), (0, 0));
    }

    #[test]
    fn a_deployment_is_complete_when_all_pods_of_its_newest_template_are_available() {
        let deployment = |generation: u64, updated: u64, available: u64| -> DeploymentSeen {
            of(json!({
                "metadata": { "name": "d", "generation": generation, "resourceVersion": "7" },
                "spec": { "replicas": 3 },
                "status": { "observedGeneration": 2, "replicas": 3, "updatedReplicas": updated,
                    "availableReplicas": available },
            }))
        };
        assert_eq!(deployment(2, 3, 3).metadata().resource_version, "7");
        assert!(deployment(2, 3, 3).is_complete());
        assert!(!deployment(3, 3, 3).is_complete(), "the newest template is not seen yet");
        assert!(!deployment(2, 2, 3).is_complete());
        assert!(!deployment(2, 3, 2).is_complete());
    }

    #[test]
    fn a_node_with_a_taint_of_another_than_the_run_is_not_ready() {
        let node = |taints: &[&str], status: &str| -> NodeSeen {
            let taints: Vec<Value> = taints.iter().map(|key| json!({ "key": key })).collect();
            of(json!({ "metadata": { "name": "n" }, "spec": { "taints": taints },
                "status": { "conditions": [{ "type": "Ready", "status": status }] } }))
        };
        assert!(node(&["own"], "True").is_ready("own"));
        assert!(!node(&["own"], "Unknown").is_ready("own"));
        assert!(!node(&["own", "node.kubernetes.io/not-ready"], "True").is_ready("own"));
    }
}
