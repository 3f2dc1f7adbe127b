//! What the scheduler knows of the cluster: its nodes, and what the pods on them use.
//!
//! A pod that has just been bound is *assumed* to be there until the watch confirms it; otherwise
//! the next pod would be placed into room that is already taken.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coffer_api::demand::{Resources, requests};
use k8s_openapi::api::core::v1::{Node, Pod};

use super::host_port::{HostPort, host_ports};
use super::topology::{Term, anti_affinity};
use crate::owner::controller_of;
use crate::pod::{is_terminal, node_name};

/// Nodes and the pods on them.
#[derive(Debug, Default)]
pub struct Cluster {
    nodes: BTreeMap<String, Arc<Node>>,
    /// By node name; also of nodes that are not known (yet, or any more).
    usage: HashMap<String, Usage>,
    /// By pod uid.
    placed: HashMap<String, Placed>,
    /// How many of the placed pods keep others away.
    anti_affine: usize,
    /// Labels of namespaces.
    namespaces: HashMap<String, BTreeMap<String, String>>,
}

/// What the pods of one node use together.
#[derive(Debug, Default)]
pub struct Usage {
    /// Sum of their requests.
    pub requested: Resources,
    /// How many they are.
    pub pods: usize,
    /// Their host ports.
    pub ports: Vec<HostPort>,
    /// How many of them each controller has here, by its uid.
    pub by_controller: HashMap<String, usize>,
}

#[derive(Debug)]
struct Placed {
    node: String,
    requests: Resources,
    ports: Vec<HostPort>,
    controller: Option<String>,
    namespace: String,
    labels: BTreeMap<String, String>,
    avoids: Vec<Term>,
    assumed: bool,
}

/// A placed pod as other pods see it.
#[derive(Clone, Copy, Debug)]
pub struct Company<'a> {
    /// The node it is on.
    pub node: &'a Node,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The pods that it keeps away.
    pub avoids: &'a [Term],
}

/// What a change of a pod may mean for others that found no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// A pod is in a place, or looks different there: those that want its company may have it.
    Company,
    /// Room has become free: for all.
    Freed,
}

/// A node and what is used of it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The node.
    pub node: &'a Node,
    /// What its pods use; `None` is nothing.
    pub usage: Option<&'a Usage>,
}

impl Cluster {
    /// Takes in a node as it is now; answers whether a pod that found no place might now find one.
    pub fn set_node(&mut self, node: Arc<Node>) -> bool {
        let name = node.metadata.name.clone().unwrap_or_default();
        let old = self.nodes.insert(name, node.clone());
        old.is_none_or(|old| differs(&old, &node))
    }

    /// Forgets a node that is gone.
    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// Takes in a namespace's labels, or that it is gone; answers whether they changed.
    pub fn set_namespace(&mut self, name: &str, labels: Option<BTreeMap<String, String>>) -> bool {
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels.clone()) != Some(labels),
            None => self.namespaces.remove(name).is_some(),
        }
    }

    /// The labels of a namespace that is known.
    pub fn namespace_labels(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(name)
    }

    /// Takes in a pod as the watch shows it.
    pub fn set_pod(&mut self, pod: &Pod) -> Effect {
        let uid = uid(pod);
        let node = node_name(pod);
        if is_terminal(pod) {
            return self.remove_pod(&uid);
        }
        match node {
            Some(node) => {
                let before = self.take_out(&uid);
                let now = Placed::new(pod, node, false);
                let effect = match before {
                    Some(before) if before.node != node => Effect::Freed,
                    Some(before) if before.labels == now.labels => Effect::None,
                    _ => Effect::Company,
                };
                self.put_in(uid, now);
                effect
            }
            // A change that was made before the binding arrives after it.
            None if self.is_assumed(&uid) => Effect::None,
            None => self.remove_pod(&uid),
        }
    }

    /// Forgets a pod that is gone.
    pub fn remove_pod(&mut self, uid: &str) -> Effect {
        if self.take_out(uid).is_some() { Effect::Freed } else { Effect::None }
    }

    /// Counts a pod as being on a node from now on.
    pub fn assume(&mut self, pod: &Pod, node: &str) {
        let uid = uid(pod);
        self.take_out(&uid);
        self.put_in(uid, Placed::new(pod, node, true));
    }

    /// Takes an assumption back, unless the watch has confirmed it.
    pub fn unassume(&mut self, uid: &str) {
        if self.is_assumed(uid) {
            self.take_out(uid);
        }
    }

    /// Whether a pod has a place, confirmed or assumed.
    pub fn is_placed(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    /// Every node, in name order.
    pub fn nodes(&self) -> impl Iterator<Item = View<'_>> {
        self.nodes.iter().map(|(name, node)| View { node, usage: self.usage.get(name) })
    }

    /// Every placed pod whose node is known.
    pub fn company(&self) -> impl Iterator<Item = Company<'_>> {
        self.placed.values().filter_map(|placed| {
            Some(Company {
                node: self.nodes.get(&placed.node)?,
                namespace: &placed.namespace,
                labels: &placed.labels,
                avoids: &placed.avoids,
            })
        })
    }

    /// Whether any placed pod keeps others away.
    pub fn has_anti_affinity(&self) -> bool {
        self.anti_affine > 0
    }

    fn is_assumed(&self, uid: &str) -> bool {
        self.placed.get(uid).is_some_and(|placed| placed.assumed)
    }

    fn put_in(&mut self, uid: String, placed: Placed) {
        let usage = self.usage.entry(placed.node.clone()).or_default();
        usage.requested.add(&placed.requests);
        usage.pods += 1;
        usage.ports.extend(placed.ports.iter().cloned());
        if let Some(controller) = &placed.controller {
            *usage.by_controller.entry(controller.clone()).or_default() += 1;
        }
        self.anti_affine += usize::from(!placed.avoids.is_empty());
        self.placed.insert(uid, placed);
    }

    fn take_out(&mut self, uid: &str) -> Option<Placed> {
        let placed = self.placed.remove(uid)?;
        self.anti_affine -= usize::from(!placed.avoids.is_empty());
        let usage = self.usage.get_mut(&placed.node).expect("put in together with the pod");
        usage.pods -= 1;
        if usage.pods == 0 {
            self.usage.remove(&placed.node);
            return Some(placed);
        }
        usage.requested.sub(&placed.requests);
        for port in &placed.ports {
            if let Some(at) = usage.ports.iter().position(|used| used == port) {
                usage.ports.swap_remove(at);
            }
        }
        if let Some(count) =
            placed.controller.as_ref().and_then(|uid| usage.by_controller.get_mut(uid))
        {
            *count -= 1;
        }
        usage.by_controller.retain(|_, count| *count > 0);
        Some(placed)
    }
}

impl Placed {
    fn new(pod: &Pod, node: &str, assumed: bool) -> Self {
        Self {
            node: node.to_owned(),
            requests: pod.spec.as_ref().map(requests).unwrap_or_default(),
            ports: host_ports(pod),
            controller: controller_of(&pod.metadata).map(|owner| owner.uid.clone()),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            avoids: anti_affinity(pod),
            assumed,
        }
    }
}

/// Whether anything that scheduling looks at has changed; heartbeats do not.
fn differs(old: &Node, new: &Node) -> bool {
    let ready = |node: &Node| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
        ready.next().map(|condition| condition.status.clone())
    };
    let allocatable =
        |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    old.spec != new.spec
        || old.metadata.labels != new.metadata.labels
        || allocatable(old) != allocatable(new)
        || ready(old) != ready(new)
}

/// The uid of a pod that the API server has stored.
pub fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, node: Option<&str>, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": uid, "uid": uid },
            "spec": { "nodeName": node, "containers": [{ "name": "c",
                "ports": [{ "containerPort": 1, "hostPort": 80 }],
                "resources": { "requests": { "cpu": "1" } } }] },
            "status": { "phase": phase },
        }))
        .expect("a pod")
    }

    fn used(cluster: &Cluster, node: &str) -> (usize, i64, usize) {
        match cluster.usage.get(node) {
            Some(usage) => (usage.pods, usage.requested.get("cpu").milli(), usage.ports.len()),
            None => (0, 0, 0),
        }
    }

    #[test]
    fn pods_use_room_until_they_end() {
        let mut cluster = Cluster::default();
        assert_eq!(cluster.set_pod(&pod("a", Some("n"), "Running")), Effect::Company);
        assert_eq!(cluster.set_pod(&pod("b", Some("n"), "Pending")), Effect::Company);
        assert_eq!(cluster.set_pod(&pod("b", Some("n"), "Running")), Effect::None);
        assert_eq!(used(&cluster, "n"), (2, 2000, 2));
        assert_eq!(cluster.set_pod(&pod("a", Some("n"), "Succeeded")), Effect::Freed);
        assert_eq!(cluster.set_pod(&pod("a", Some("n"), "Succeeded")), Effect::None, "only once");
        assert_eq!(used(&cluster, "n"), (1, 1000, 1));
        assert_eq!(cluster.remove_pod("b"), Effect::Freed);
        assert_eq!(used(&cluster, "n"), (0, 0, 0));
    }

    /// The status patch of a pod's first failure may arrive after its binding was posted: it must
    /// not free the room that the binding took.
    #[test]
    fn an_assumed_pod_stays_until_the_watch_knows_better() {
        let mut cluster = Cluster::default();
        cluster.assume(&pod("a", None, "Pending"), "n");
        cluster.set_pod(&pod("a", None, "Pending"));
        assert_eq!(used(&cluster, "n"), (1, 1000, 1));
        cluster.set_pod(&pod("a", Some("n"), "Pending"));
        cluster.unassume("a");
        assert_eq!(used(&cluster, "n"), (1, 1000, 1), "confirmed, so no longer to be taken back");

        cluster.assume(&pod("b", None, "Pending"), "n");
        cluster.unassume("b");
        assert_eq!(used(&cluster, "n"), (1, 1000, 1));
        cluster.assume(&pod("c", None, "Pending"), "n");
        cluster.remove_pod("c");
        assert_eq!(used(&cluster, "n"), (1, 1000, 1));
    }

    #[test]
    fn a_heartbeat_is_no_reason_to_try_again() {
        let node = |ready: &str, beat: &str, cordoned: bool| {
            Arc::new(
                serde_json::from_value(json!({
                    "metadata": { "name": "n" }, "spec": { "unschedulable": cordoned },
                    "status": { "conditions": [
                        { "type": "Ready", "status": ready, "lastHeartbeatTime": beat }] },
                }))
                .expect("a node"),
            )
        };
        let mut cluster = Cluster::default();
        assert!(cluster.set_node(node("False", "2026-01-01T00:00:00Z", false)));
        assert!(!cluster.set_node(node("False", "2026-01-01T00:00:10Z", false)));
        assert!(cluster.set_node(node("True", "2026-01-01T00:00:10Z", false)));
        assert!(cluster.set_node(node("True", "2026-01-01T00:00:10Z", true)));
    }
}
