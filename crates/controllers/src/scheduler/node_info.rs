//! A node for the scheduler: its capacity, parsed when the node changes, and the usage of its pods, updated
//! with every pod, so that a check of a node for a pod neither parses nor sums up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coffer_api::demand::Resources;
use coffer_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Node, Taint};

use super::host_port::HostPort;
use super::taints;

/// A node, or the name of a node that only pods refer to, before its Node is seen or after it was deleted.
#[derive(Debug)]
pub(crate) struct NodeInfo {
    pub(super) name: String,
    pub(super) node: Option<Arc<Node>>,
    capacity: Capacity,
    pub(super) usage: Usage,
    /// Allocatable minus requested, of each allocatable resource.
    free: BTreeMap<String, Quantity>,
}

/// The fields of a Node, parsed.
#[derive(Debug, Default)]
struct Capacity {
    allocatable: Resources,
    pods_max: usize,
    cpu_milli: i64,
    memory: i64,
    taints: Vec<Taint>,
    is_cordoned: bool,
}

/// The usage of all pods of a node.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// The sum of their requests.
    pub(crate) requested: Resources,
    /// Their number.
    pub(crate) pods: usize,
    /// Their host ports.
    pub(crate) ports: Vec<HostPort>,
    /// Their number by the uid of their controller.
    pub(crate) by_controller: HashMap<String, usize>,
}

/// A node with its Node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    /// The Node.
    pub(crate) node: &'a Node,
    info: &'a NodeInfo,
}

impl NodeInfo {
    /// A node without a Node and pods.
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            node: None,
            capacity: Capacity::default(),
            usage: Usage::default(),
            free: BTreeMap::new(),
        }
    }

    /// Sets or removes the Node.
    pub(super) fn set_node(&mut self, node: Option<Arc<Node>>) {
        self.capacity = node.as_deref().map(Capacity::of).unwrap_or_default();
        let offered = self.capacity.allocatable.iter();
        self.free = offered
            .map(|(resource, amount)| {
                let mut free = amount.clone();
                free.sub(&self.usage.requested.get(resource));
                (resource.to_owned(), free)
            })
            .collect();
        self.node = node;
    }

    /// Adds a pod's requests, ports and controller.
    pub(super) fn add(&mut self, requests: &Resources, ports: &[HostPort], owner: Option<&str>) {
        let usage = &mut self.usage;
        usage.requested.add(requests);
        usage.pods += 1;
        usage.ports.extend(ports.iter().cloned());
        if let Some(owner) = owner {
            *usage.by_controller.entry(owner.to_owned()).or_default() += 1;
        }
        for (resource, amount) in requests.iter() {
            if let Some(free) = self.free.get_mut(resource) {
                free.sub(amount);
            }
        }
    }

    /// Reverts [`NodeInfo::add`].
    pub(super) fn sub(&mut self, requests: &Resources, ports: &[HostPort], owner: Option<&str>) {
        let usage = &mut self.usage;
        usage.requested.sub(requests);
        usage.pods -= 1;
        for port in ports {
            if let Some(at) = usage.ports.iter().position(|used| used == port) {
                usage.ports.swap_remove(at);
            }
        }
        if let Some(owner) = owner
            && let Some(count) = usage.by_controller.get_mut(owner)
        {
            *count -= 1;
            if *count == 0 {
                usage.by_controller.remove(owner);
            }
        }
        for (resource, amount) in requests.iter() {
            if let Some(free) = self.free.get_mut(resource) {
                free.add(amount);
            }
        }
    }

    /// The node, if it has a Node.
    pub(super) fn view(&self) -> Option<View<'_>> {
        Some(View { node: self.node.as_deref()?, info: self })
    }
}

impl Capacity {
    fn of(node: &Node) -> Self {
        let status = node.status.iter();
        let allocatable =
            Resources::of(status.flat_map(|status| status.allocatable.iter().flatten()));
        Self {
            pods_max: usize::try_from(allocatable.get("pods").units()).unwrap_or(0),
            cpu_milli: allocatable.get("cpu").milli(),
            memory: allocatable.get("memory").units(),
            allocatable,
            taints: taints::hard(node),
            is_cordoned: node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true),
        }
    }
}

impl<'a> View<'a> {
    /// Its name.
    pub(crate) fn name(&self) -> &'a str {
        &self.info.name
    }

    /// The usage of its pods.
    pub(crate) fn usage(&self) -> &'a Usage {
        &self.info.usage
    }

    /// Its taints with the effects `NoSchedule` and `NoExecute`.
    pub(crate) fn taints(&self) -> &'a [Taint] {
        &self.info.capacity.taints
    }

    /// Whether it is cordoned.
    pub(crate) fn is_cordoned(&self) -> bool {
        self.info.capacity.is_cordoned
    }

    /// The maximum number of its pods.
    pub(crate) fn pods_max(&self) -> usize {
        self.info.capacity.pods_max
    }

    /// Whether this amount of a resource is free.
    pub(crate) fn has_free(&self, resource: &str, asked: &Quantity) -> bool {
        self.info.free.get(resource).is_some_and(|free| asked <= free)
    }

    /// Whether this amount of a resource would be free without pods.
    pub(crate) fn has_allocatable(&self, resource: &str, asked: &Quantity) -> bool {
        *asked <= self.info.capacity.allocatable.get(resource)
    }

    /// Allocatable CPU in millicores and memory in bytes.
    pub(crate) fn cpu_and_memory(&self) -> (i64, i64) {
        (self.info.capacity.cpu_milli, self.info.capacity.memory)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_of_absurd_requests_leave_the_node_as_it_was() {
        let node = json!({ "status": { "allocatable": { "cpu": "4" } } });
        let mut info = NodeInfo::new("n".to_owned());
        info.set_node(Some(Arc::new(serde_json::from_value(node).expect("a node"))));
        let asked = |cpu: &str| {
            let amounts = [("cpu".to_owned(), cpu)]
                .map(|(name, cpu)| (name, serde_json::from_value(json!(cpu)).expect("an amount")));
            Resources::of(&BTreeMap::from(amounts))
        };
        for cpu in ["170e36", "170e36", "1"] {
            info.add(&asked(cpu), &[], None);
        }
        for cpu in ["170e36", "170e36"] {
            info.sub(&asked(cpu), &[], None);
        }
        let view = info.view().expect("its object is known");
        assert!(view.has_free("cpu", &Quantity::whole(3)));
        assert!(!view.has_free("cpu", &Quantity::parse("3001m").expect("an amount")));
        assert_eq!(info.usage.requested.get("cpu"), Quantity::whole(1));
    }
}
