//! Where a pod goes, or why it goes nowhere. Pure: one pod and the cluster as it is known.

use std::collections::BTreeMap;

use coffer_api::demand::{Resources, requests};
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};

use super::cluster::{Cluster, View};
use super::host_port::{HostPort, host_ports};
use super::topology::{Against, Rules};
use super::{affinity, score, taints};
use crate::owner::controller_of;

/// What is to be done about one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes to this node.
    Bind(String),
    /// It goes nowhere for now; the message says why, as upstream words it.
    Unschedulable(String),
}

/// A pod, and what is read out of it once for all nodes.
pub struct Candidate<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) requests: Resources,
    pub(super) controller: Option<&'a str>,
    ports: Vec<HostPort>,
    pub(super) rules: Rules,
}

/// Why one node does not take the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rejection {
    Cordoned,
    Taint {
        key: String,
        value: String,
    },
    Affinity,
    Ports,
    /// Resources, and whether even an empty node would have too little.
    Resources {
        reasons: Vec<String>,
        hopeless: bool,
    },
    Others(Against),
}

/// Chooses a node for a pod.
pub fn plan(pod: &Pod, cluster: &Cluster) -> Decision {
    let no_spec = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let candidate = Candidate {
        spec,
        requests: requests(spec),
        controller: controller_of(&pod.metadata).map(|owner| owner.uid.as_str()),
        ports: host_ports(pod),
        rules: Rules::of(pod, cluster),
    };
    let (mut fitting, mut rejections) = (Vec::new(), Vec::new());
    for view in cluster.nodes() {
        match rejection(&candidate, view) {
            None => fitting.push(view),
            Some(rejection) => rejections.push(rejection),
        }
    }
    match score::best(&candidate, &fitting) {
        Some(view) => Decision::Bind(name(view.node).to_owned()),
        None => Decision::Unschedulable(message(&rejections)),
    }
}

pub(super) fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// The first reason against a node, looked for in upstream's order.
fn rejection(candidate: &Candidate<'_>, view: View<'_>) -> Option<Rejection> {
    let (spec, node) = (candidate.spec, view.node);
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    if cordoned && !taints::tolerates_unschedulable(spec) {
        return Some(Rejection::Cordoned);
    }
    if let Some(taint) = taints::untolerated(spec, node) {
        return Some(Rejection::Taint { key: taint.key, value: taint.value.unwrap_or_default() });
    }
    if !affinity::matches(spec, node) {
        return Some(Rejection::Affinity);
    }
    let used = view.usage.map_or(&[][..], |usage| &usage.ports);
    if used.iter().any(|used| candidate.ports.iter().any(|port| port.conflicts(used))) {
        return Some(Rejection::Ports);
    }
    too_little(candidate, view)
        .or_else(|| candidate.rules.against(view.node).map(Rejection::Others))
}

fn too_little(candidate: &Candidate<'_>, view: View<'_>) -> Option<Rejection> {
    let status = view.node.status.iter();
    let allocatable = Resources::of(status.flat_map(|status| status.allocatable.iter().flatten()));
    let (mut reasons, mut hopeless) = (Vec::new(), false);
    let pods = view.usage.map_or(0, |usage| usage.pods);
    let pods_max = usize::try_from(allocatable.get("pods").units()).unwrap_or(0);
    if pods + 1 > pods_max {
        reasons.push("Too many pods".to_owned());
    }
    for (resource, asked) in candidate.requests.iter().filter(|(_, asked)| !asked.is_zero()) {
        let all = allocatable.get(resource);
        let mut wanted = asked.clone();
        if let Some(usage) = view.usage {
            wanted.add(&usage.requested.get(resource));
        }
        if wanted > all {
            reasons.push(format!("Insufficient {resource}"));
            hopeless |= *asked > all;
        }
    }
    (!reasons.is_empty()).then_some(Rejection::Resources { reasons, hopeless })
}

impl Rejection {
    fn reasons(&self) -> Vec<String> {
        let one = match self {
            Self::Cordoned => "node(s) were unschedulable".to_owned(),
            Self::Taint { key, value } => {
                format!("node(s) had untolerated taint {{{key}: {value}}}")
            }
            Self::Affinity => "node(s) didn't match Pod's node affinity/selector".to_owned(),
            Self::Ports => "node(s) didn't have free ports for the requested pod ports".to_owned(),
            Self::Resources { reasons, .. } => return reasons.clone(),
            Self::Others(against) => match against {
                Against::Spread => "node(s) didn't match pod topology spread constraints",
                Against::SpreadLabel => {
                    "node(s) didn't match pod topology spread constraints (missing required label)"
                }
                Against::Affinity => "node(s) didn't match pod affinity rules",
                Against::AntiAffinity => "node(s) didn't match pod anti-affinity rules",
                Against::ExistingAntiAffinity => {
                    "node(s) didn't satisfy existing pods anti-affinity rules"
                }
            }
            .to_owned(),
        };
        vec![one]
    }

    /// What preemption would say of the node: evicting pods from it helps, or does not.
    fn preemption(&self) -> &'static str {
        match self {
            Self::Ports
            | Self::Resources { hopeless: false, .. }
            | Self::Others(
                Against::Spread | Against::AntiAffinity | Against::ExistingAntiAffinity,
            ) => "No preemption victims found for incoming pod",
            _ => "Preemption is not helpful for scheduling",
        }
    }
}

/// The `FitError` of upstream: reasons with how many nodes gave them, sorted as text.
fn message(rejections: &[Rejection]) -> String {
    if rejections.is_empty() {
        return "no nodes available to schedule pods".to_owned();
    }
    let available = format!("0/{} nodes are available", rejections.len());
    let reasons = histogram(rejections.iter().flat_map(Rejection::reasons));
    let preemption = histogram(rejections.iter().map(|one| one.preemption().to_owned()));
    format!("{available}: {reasons}. preemption: {available}: {preemption}.")
}

fn histogram(reasons: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut shown: Vec<String> =
        counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    shown.sort();
    shown.join(", ")
}

#[cfg(test)]
mod tests;
