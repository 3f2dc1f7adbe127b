//! A node as the scheduler sees it: what it offers, read once when the node changes, and what its pods
//! use, kept up to date with every pod. Judging a node for a pod parses nothing and adds nothing up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coffer_api::demand::Resources;
use coffer_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Node, Taint};

use super::host_port::HostPort;
use super::taints;

/// One node. It may be known by its pods only, before its object arrives or after it has gone.
#[derive(Debug)]
pub(crate) struct NodeInfo {
    pub(super) name: String,
    pub(super) node: Option<Arc<Node>>,
    offer: Offer,
    pub(super) usage: Usage,
    /// What is offered and not requested, of each resource that is offered.
    free: BTreeMap<String, Quantity>,
}

/// What the node's object says.
#[derive(Debug, Default)]
struct Offer {
    allocatable: Resources,
    pods_max: usize,
    cpu_milli: i64,
    memory: i64,
    taints: Vec<Taint>,
    is_cordoned: bool,
}

/// What the pods of one node use together.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Sum of their requests.
    pub(crate) requested: Resources,
    /// How many they are.
    pub(crate) pods: usize,
    /// Their host ports.
    pub(crate) ports: Vec<HostPort>,
    /// How many of them each controller has here, by its uid.
    pub(crate) by_controller: HashMap<String, usize>,
}

/// A node whose object is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    /// Its object.
    pub(crate) node: &'a Node,
    info: &'a NodeInfo,
}

impl NodeInfo {
    /// A node of which nothing is known yet.
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            node: None,
            offer: Offer::default(),
            usage: Usage::default(),
            free: BTreeMap::new(),
        }
    }

    /// Takes in the node's object, or that there is none.
    pub(super) fn set_node(&mut self, node: Option<Arc<Node>>) {
        self.offer = node.as_deref().map(Offer::of).unwrap_or_default();
        let offered = self.offer.allocatable.iter();
        self.free = offered
            .map(|(resource, amount)| {
                let mut free = amount.clone();
                free.sub(&self.usage.requested.get(resource));
                (resource.to_owned(), free)
            })
            .collect();
        self.node = node;
    }

    /// Counts a pod's requests, ports and controller.
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

    /// Takes away what [`NodeInfo::add`] added.
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

    /// The node, if its object is known.
    pub(super) fn view(&self) -> Option<View<'_>> {
        Some(View { node: self.node.as_deref()?, info: self })
    }
}

impl Offer {
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

    /// What its pods use.
    pub(crate) fn usage(&self) -> &'a Usage {
        &self.info.usage
    }

    /// The taints that keep pods off it.
    pub(crate) fn taints(&self) -> &'a [Taint] {
        &self.info.offer.taints
    }

    /// Whether it takes no new pods.
    pub(crate) fn is_cordoned(&self) -> bool {
        self.info.offer.is_cordoned
    }

    /// How many pods it takes at most.
    pub(crate) fn pods_max(&self) -> usize {
        self.info.offer.pods_max
    }

    /// Whether so much of a resource is free.
    pub(crate) fn has_free(&self, resource: &str, asked: &Quantity) -> bool {
        self.info.free.get(resource).is_some_and(|free| asked <= free)
    }

    /// Whether there would be so much of a resource if no pod was here.
    pub(crate) fn offers(&self, resource: &str, asked: &Quantity) -> bool {
        *asked <= self.info.offer.allocatable.get(resource)
    }

    /// Processors, in thousandths, and memory, in bytes, that it offers to pods.
    pub(crate) fn cpu_and_memory(&self) -> (i64, i64) {
        (self.info.offer.cpu_milli, self.info.offer.memory)
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
