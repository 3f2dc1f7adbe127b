//! The scheduler's state of the cluster: its nodes, and the usage of the pods on them.
//!
//! A pod is *assumed* to be on its node from the decision until the watch confirms it. Otherwise the same
//! resources would be given to the next pod.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use coffer_api::condition::{self, ConditionType};
use coffer_api::demand::Resources;
use k8s_openapi::api::core::v1::Node;

use super::host_port::{HostPort, host_ports};
use super::node_info::{NodeInfo, View};
use super::topology::{Preference, Term, anti_affinity, preferences_of_placed};
use crate::owner::controller_of;
use crate::pod::{Pod, Spec, is_terminal, node_name};

/// Nodes and the pods on them.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    /// Nodes, and names of nodes that only pods refer to, before the Node is seen or after it was deleted.
    /// Unordered: a pass over some of them may begin anywhere.
    nodes: Vec<NodeInfo>,
    /// Indices in `nodes`, by name.
    at: HashMap<String, usize>,
    /// The number of those with a Node.
    known: usize,
    /// By pod uid.
    placed: HashMap<String, Placed>,
    /// Uids of the placed pods of each namespace.
    by_namespace: HashMap<String, HashSet<String>>,
    /// Uids of the placed pods with required anti-affinity.
    anti_affine: HashSet<String>,
    /// Uids of the placed pods with preferences for or against others.
    with_preferences: HashSet<String>,
    /// Labels of namespaces.
    namespaces: HashMap<String, BTreeMap<String, String>>,
}

#[derive(Debug)]
struct Placed {
    node: String,
    spec: Option<Arc<Spec>>,
    ports: Vec<HostPort>,
    controller: Option<String>,
    namespace: String,
    labels: BTreeMap<String, String>,
    avoids: Vec<Term>,
    prefers: Vec<Preference>,
    assumed: bool,
}

/// A placed pod as other pods see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlacedPod<'a> {
    /// The node it is on.
    pub(crate) node: View<'a>,
    /// Its namespace.
    pub(crate) namespace: &'a str,
    /// Its labels.
    pub(crate) labels: &'a BTreeMap<String, String>,
    /// Its required anti-affinity.
    pub(crate) avoids: &'a [Term],
    /// Its preferences for and against others.
    pub(crate) prefers: &'a [Preference],
}

/// The effect of a change of a pod on unschedulable pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// None.
    None,
    /// A pod was placed, or a placed pod's labels have changed: pods with affinity to it may fit now.
    PodPlaced,
    /// Resources were freed: any pod may fit now.
    Freed,
}

impl Cluster {
    /// Sets the present state of a node. Returns whether an unschedulable pod may fit now.
    pub(crate) fn set_node(&mut self, node: Arc<Node>) -> bool {
        let name = node.metadata.name.clone().unwrap_or_default();
        let at = self.position(&name);
        let info = &mut self.nodes[at];
        let changed = match &info.node {
            Some(old) => differs(old, &node),
            None => {
                self.known += 1;
                true
            }
        };
        if changed {
            info.set_node(Some(node));
        } else {
            info.node = Some(node);
        }
        changed
    }

    /// Removes a node that was deleted.
    pub(crate) fn remove_node(&mut self, name: &str) {
        let Some(at) = self.at.get(name).copied() else { return };
        if self.nodes[at].node.is_some() {
            self.known -= 1;
        }
        self.nodes[at].set_node(None);
        self.drop_unused(at);
    }

    /// The number of nodes.
    pub(crate) fn node_count(&self) -> usize {
        self.known
    }

    /// Sets a namespace's labels, or removes it. Returns whether they have changed.
    pub(crate) fn set_namespace(
        &mut self,
        name: &str,
        labels: Option<BTreeMap<String, String>>,
    ) -> bool {
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels.clone()) != Some(labels),
            None => self.namespaces.remove(name).is_some(),
        }
    }

    /// The labels of a namespace that is known.
    pub(crate) fn namespace_labels(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(name)
    }

    /// Sets the state of a pod that the watch shows.
    pub(crate) fn set_pod(&mut self, pod: &Pod) -> Effect {
        let uid = uid(pod);
        let node = node_name(pod);
        if is_terminal(pod) {
            return self.remove_pod(&uid);
        }
        match node {
            Some(node) => {
                if self.placed.get(&uid).is_some_and(|known| known.is_same(pod, node)) {
                    return Effect::None;
                }
                let before = self.remove_placed(&uid);
                let now = Placed::new(pod, node, false);
                let effect = match before {
                    Some(before) if before.node != node => Effect::Freed,
                    Some(before) if before.labels == now.labels => Effect::None,
                    _ => Effect::PodPlaced,
                };
                self.add_placed(uid, now);
                effect
            }
            // A change from before the binding may arrive after it.
            None if self.is_assumed(&uid) => Effect::None,
            None => self.remove_pod(&uid),
        }
    }

    /// Removes a pod that was deleted.
    pub(crate) fn remove_pod(&mut self, uid: &str) -> Effect {
        if self.remove_placed(uid).is_some() { Effect::Freed } else { Effect::None }
    }

    /// Assumes that a pod is on a node.
    pub(crate) fn assume(&mut self, pod: &Pod, node: &str) {
        let uid = uid(pod);
        self.remove_placed(&uid);
        self.add_placed(uid, Placed::new(pod, node, true));
    }

    /// Drops an assumption, unless the watch has confirmed it. Returns whether it was dropped.
    pub(crate) fn forget_assumed(&mut self, uid: &str) -> bool {
        self.is_assumed(uid) && self.remove_placed(uid).is_some()
    }

    /// Whether a pod is on a node, confirmed or assumed.
    pub(crate) fn is_placed(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    /// All nodes with a Node, beginning at an index, which may be any number.
    pub(crate) fn nodes_from(&self, start: usize) -> impl Iterator<Item = View<'_>> {
        let (before, after) = self.nodes.split_at(start % self.nodes.len().max(1));
        after.iter().chain(before).filter_map(NodeInfo::view)
    }

    /// All nodes with a Node.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = View<'_>> {
        self.nodes_from(0)
    }

    /// All placed pods in the namespaces of interest on nodes with a Node.
    pub(crate) fn pods_of(
        &self,
        is_of_interest: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = PlacedPod<'_>> {
        let namespaces =
            self.by_namespace.iter().filter(move |(namespace, _)| is_of_interest(namespace));
        namespaces.flat_map(|(_, uids)| uids).filter_map(|uid| self.placed_pod(uid))
    }

    /// All placed pods with required anti-affinity on nodes with a Node.
    pub(crate) fn anti_affine(&self) -> impl Iterator<Item = PlacedPod<'_>> {
        self.anti_affine.iter().filter_map(|uid| self.placed_pod(uid))
    }

    /// All placed pods with preferences on nodes with a Node.
    pub(crate) fn with_preferences(&self) -> impl Iterator<Item = PlacedPod<'_>> {
        self.with_preferences.iter().filter_map(|uid| self.placed_pod(uid))
    }

    fn placed_pod(&self, uid: &str) -> Option<PlacedPod<'_>> {
        let placed = self.placed.get(uid)?;
        Some(PlacedPod {
            node: self.nodes[*self.at.get(&placed.node)?].view()?,
            namespace: &placed.namespace,
            labels: &placed.labels,
            avoids: &placed.avoids,
            prefers: &placed.prefers,
        })
    }

    fn is_assumed(&self, uid: &str) -> bool {
        self.placed.get(uid).is_some_and(|placed| placed.assumed)
    }

    fn add_placed(&mut self, uid: String, placed: Placed) {
        let at = self.position(&placed.node);
        let owner = placed.controller.as_deref();
        self.nodes[at].add(placed.requests(), &placed.ports, owner);
        if !placed.avoids.is_empty() {
            self.anti_affine.insert(uid.clone());
        }
        if !placed.prefers.is_empty() {
            self.with_preferences.insert(uid.clone());
        }
        match self.by_namespace.get_mut(&placed.namespace) {
            Some(uids) => drop(uids.insert(uid.clone())),
            None => {
                let uids = HashSet::from([uid.clone()]);
                self.by_namespace.insert(placed.namespace.clone(), uids);
            }
        }
        self.placed.insert(uid, placed);
    }

    fn remove_placed(&mut self, uid: &str) -> Option<Placed> {
        let placed = self.placed.remove(uid)?;
        self.anti_affine.remove(uid);
        self.with_preferences.remove(uid);
        if let Some(uids) = self.by_namespace.get_mut(&placed.namespace) {
            uids.remove(uid);
            if uids.is_empty() {
                self.by_namespace.remove(&placed.namespace);
            }
        }
        let at = *self.at.get(&placed.node).expect("added together with the pod");
        let owner = placed.controller.as_deref();
        self.nodes[at].sub(placed.requests(), &placed.ports, owner);
        self.drop_unused(at);
        Some(placed)
    }

    fn position(&mut self, name: &str) -> usize {
        if let Some(at) = self.at.get(name) {
            return *at;
        }
        self.nodes.push(NodeInfo::new(name.to_owned()));
        self.at.insert(name.to_owned(), self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    /// Removes a node that has neither a Node nor pods.
    fn drop_unused(&mut self, at: usize) {
        if self.nodes[at].node.is_some() || self.nodes[at].usage.pods > 0 {
            return;
        }
        let removed = self.nodes.swap_remove(at);
        self.at.remove(&removed.name);
        if let Some(moved) = self.nodes.get(at) {
            self.at.insert(moved.name.clone(), at);
        }
    }
}

impl Placed {
    fn new(pod: &Pod, node: &str, assumed: bool) -> Self {
        Self {
            node: node.to_owned(),
            spec: pod.spec.clone(),
            ports: host_ports(pod),
            controller: controller_of(&pod.metadata).map(|owner| owner.uid.clone()),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            avoids: anti_affinity(pod),
            prefers: preferences_of_placed(pod),
            assumed,
        }
    }

    /// Whether a confirmed pod is unchanged for the scheduler: most changes are of the status.
    fn is_same(&self, pod: &Pod, node: &str) -> bool {
        let labels = pod.metadata.labels.as_ref();
        let controller = controller_of(&pod.metadata).map(|owner| &owner.uid);
        !self.assumed
            && self.node == node
            && labels.map_or(self.labels.is_empty(), |labels| *labels == self.labels)
            && controller == self.controller.as_ref()
            && self.spec == pod.spec
    }

    fn requests(&self) -> &Resources {
        static NONE: LazyLock<Resources> = LazyLock::new(Resources::default);
        self.spec.as_ref().map_or(&NONE, |spec| spec.requests())
    }
}

/// Whether fields have changed that scheduling uses. Heartbeats are not.
fn differs(old: &Node, new: &Node) -> bool {
    let ready = |node: &Node| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        condition::find(conditions, ConditionType::Ready).map(|ready| ready.status.clone())
    };
    let allocatable =
        |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    old.spec != new.spec
        || old.metadata.labels != new.metadata.labels
        || allocatable(old) != allocatable(new)
        || ready(old) != ready(new)
}

/// The uid of a pod that the API server has stored.
pub(crate) fn uid(pod: &Pod) -> String {
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
        match cluster.at.get(node).map(|at| &cluster.nodes[*at].usage) {
            Some(usage) => (usage.pods, usage.requested.get("cpu").milli(), usage.ports.len()),
            None => (0, 0, 0),
        }
    }

    #[test]
    fn pods_use_resources_until_they_end() {
        let mut cluster = Cluster::default();
        assert_eq!(cluster.set_pod(&pod("a", Some("n"), "Running")), Effect::PodPlaced);
        assert_eq!(cluster.set_pod(&pod("b", Some("n"), "Pending")), Effect::PodPlaced);
        assert_eq!(cluster.set_pod(&pod("b", Some("n"), "Running")), Effect::None);
        assert_eq!(used(&cluster, "n"), (2, 2000, 2));
        assert_eq!(cluster.set_pod(&pod("a", Some("n"), "Succeeded")), Effect::Freed);
        assert_eq!(cluster.set_pod(&pod("a", Some("n"), "Succeeded")), Effect::None, "only once");
        assert_eq!(used(&cluster, "n"), (1, 1000, 1));
        assert_eq!(cluster.remove_pod("b"), Effect::Freed);
        assert_eq!(used(&cluster, "n"), (0, 0, 0));
    }

    /// Free resources are updated incrementally. They must equal those of a complete count.
    #[test]
    fn free_resources_follow_pods_and_the_node() {
        let node = |cpu: &str| -> Arc<Node> {
            Arc::new(
                serde_json::from_value(json!({ "metadata": { "name": "n" }, "status": {
                    "allocatable": { "cpu": cpu, "pods": "9" } } }))
                .expect("a node"),
            )
        };
        let mut cluster = Cluster::default();
        let fits = |cluster: &Cluster, cpu: &str| {
            let asked = coffer_api::quantity::Quantity::parse(cpu).expect("an amount");
            cluster.nodes().any(|view| view.has_free("cpu", &asked))
        };
        cluster.set_pod(&pod("early", Some("n"), "Running"));
        cluster.set_node(node("4"));
        assert!(fits(&cluster, "3") && !fits(&cluster, "3001m"));
        cluster.assume(&pod("a", None, "Pending"), "n");
        assert!(fits(&cluster, "2") && !fits(&cluster, "2001m"));
        cluster.set_node(node("8"));
        assert!(fits(&cluster, "6") && !fits(&cluster, "6001m"));
        cluster.forget_assumed("a");
        cluster.remove_pod("early");
        assert!(fits(&cluster, "8") && !fits(&cluster, "8001m"));
        cluster.remove_node("n");
        assert_eq!((cluster.nodes().count(), cluster.nodes.len()), (0, 0));
    }

    #[test]
    fn a_pass_over_the_nodes_may_begin_anywhere_and_returns_each_once() {
        let mut cluster = Cluster::default();
        for name in ["a", "b", "c"] {
            let node = json!({ "metadata": { "name": name } });
            cluster.set_node(Arc::new(serde_json::from_value(node).expect("a node")));
        }
        for start in 0..7 {
            let mut names: Vec<_> = cluster.nodes_from(start).map(|view| view.name()).collect();
            assert_eq!(names[0], ["a", "b", "c"][start % 3]);
            names.sort_unstable();
            assert_eq!(names, ["a", "b", "c"]);
        }
        assert_eq!(Cluster::default().nodes_from(5).count(), 0);
    }

    /// The patch of a pod's unschedulable condition may arrive after its binding was posted. It must not free
    /// the resources that the binding uses.
    #[test]
    fn an_assumed_pod_is_kept_until_the_watch_confirms_it_or_the_assumption_is_dropped() {
        let mut cluster = Cluster::default();
        cluster.assume(&pod("a", None, "Pending"), "n");
        cluster.set_pod(&pod("a", None, "Pending"));
        assert_eq!(used(&cluster, "n"), (1, 1000, 1));
        cluster.set_pod(&pod("a", Some("n"), "Pending"));
        cluster.forget_assumed("a");
        assert_eq!(used(&cluster, "n"), (1, 1000, 1), "a confirmed pod is not dropped");

        cluster.assume(&pod("b", None, "Pending"), "n");
        cluster.forget_assumed("b");
        assert_eq!(used(&cluster, "n"), (1, 1000, 1));
        cluster.assume(&pod("c", None, "Pending"), "n");
        cluster.remove_pod("c");
        assert_eq!(used(&cluster, "n"), (1, 1000, 1));
    }

    #[test]
    fn a_heartbeat_does_not_retry_unschedulable_pods() {
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
