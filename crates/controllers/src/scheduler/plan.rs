//! The node for a pod, or why no node fits. Pure: from one pod and the state of the cluster.

use std::collections::BTreeMap;

use coffer_api::demand::Resources;
use k8s_openapi::api::core::v1::PodSpec;

use super::cluster::Cluster;
use super::host_port::{HostPort, host_ports};
use super::node_info::View;
use super::topology::{Rules, TopologyConflict};
use super::{affinity, score, taints};
use crate::owner::controller_of;
use crate::pod::{Pod, Spec};

/// With fewer nodes all of them are checked: upstream's `minFeasibleNodesToFind`.
const FITTING_MIN: usize = 100;
/// Percentage of nodes that is enough to choose from in a large cluster: the minimum of upstream's adaptive
/// `percentageOfNodesToScore`, which is 50 less one for each 125 nodes.
const FITTING_PERCENT_MIN: usize = 5;
/// The preemption policy of pods that evict no others.
const NEVER: &str = "Never";

/// What to do with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Bind it to this node.
    Bind(String),
    /// No node fits; with upstream's message.
    Unschedulable(String),
}

/// A pod and what is parsed of it once for all nodes.
pub(crate) struct Candidate<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) requests: &'a Resources,
    pub(super) controller: Option<&'a str>,
    ports: Vec<HostPort>,
    pub(super) rules: Rules,
}

/// Why a node does not fit.
#[derive(Clone, Debug, PartialEq)]
enum Rejection {
    Cordoned,
    Taint,
    Affinity,
    Ports,
    /// Insufficient resources, and whether they would be insufficient without any pod on the node.
    Resources {
        reasons: Vec<String>,
        unresolvable: bool,
    },
    Others(TopologyConflict),
}

/// Chooses a node for a pod among enough nodes that fit. Begins with the node at index `start` and returns
/// the number of checked nodes, so that the next pod begins where this one ended and all nodes are used
/// equally.
pub(crate) fn plan(pod: &Pod, cluster: &Cluster, start: usize) -> (Decision, usize) {
    let no_spec = Spec::default();
    let spec = pod.spec.as_deref().unwrap_or(&no_spec);
    let candidate = Candidate {
        spec,
        requests: spec.requests(),
        controller: controller_of(&pod.metadata).map(|owner| owner.uid.as_str()),
        ports: host_ports(pod),
        rules: Rules::of(pod, cluster),
    };
    let enough = fitting_max(cluster.node_count());
    let (mut fitting, mut rejections) = (Vec::new(), Vec::new());
    for view in cluster.nodes_from(start) {
        match rejection(&candidate, view) {
            None => fitting.push(view),
            Some(rejection) => rejections.push(rejection),
        }
        if fitting.len() == enough {
            break;
        }
    }
    let visited = fitting.len() + rejections.len();
    let decision = match score::best(&candidate, &fitting) {
        Some(view) => Decision::Bind(view.name().to_owned()),
        None => Decision::Unschedulable(message(&rejections, spec)),
    };
    (decision, visited)
}

/// The number of fitting nodes that is enough to choose from.
fn fitting_max(nodes: usize) -> usize {
    let percent = 50_usize.saturating_sub(nodes / 125).max(FITTING_PERCENT_MIN);
    (nodes * percent / 100).max(FITTING_MIN)
}

/// The first reason why a node does not fit, in upstream's order.
fn rejection(candidate: &Candidate<'_>, view: View<'_>) -> Option<Rejection> {
    let spec = candidate.spec;
    if view.is_cordoned() && !taints::tolerates_unschedulable(spec) {
        return Some(Rejection::Cordoned);
    }
    if taints::untolerated(spec, view.taints()).is_some() {
        return Some(Rejection::Taint);
    }
    if !affinity::matches(spec, view.node) {
        return Some(Rejection::Affinity);
    }
    let mut used = view.usage().ports.iter();
    if used.any(|used| candidate.ports.iter().any(|port| port.conflicts(used))) {
        return Some(Rejection::Ports);
    }
    insufficient_resources(candidate, view)
        .or_else(|| candidate.rules.conflict(view.node).map(Rejection::Others))
}

fn insufficient_resources(candidate: &Candidate<'_>, view: View<'_>) -> Option<Rejection> {
    let (mut reasons, mut unresolvable) = (Vec::new(), false);
    if view.usage().pods + 1 > view.pods_max() {
        reasons.push("Too many pods".to_owned());
    }
    for (resource, asked) in candidate.requests.iter().filter(|(_, asked)| !asked.is_zero()) {
        if !view.has_free(resource, asked) {
            reasons.push(format!("Insufficient {resource}"));
            unresolvable |= !view.has_allocatable(resource, asked);
        }
    }
    (!reasons.is_empty()).then_some(Rejection::Resources { reasons, unresolvable })
}

impl Rejection {
    fn reasons(&self) -> Vec<String> {
        let one = match self {
            Self::Cordoned => "node(s) were unschedulable".to_owned(),
            // Keys and values of taints are not for the pod's owner, who may not read nodes.
            Self::Taint => "node(s) had untolerated taint(s)".to_owned(),
            Self::Affinity => "node(s) didn't match Pod's node affinity/selector".to_owned(),
            Self::Ports => "node(s) didn't have free ports for the requested pod ports".to_owned(),
            Self::Resources { reasons, .. } => return reasons.clone(),
            Self::Others(conflict) => match conflict {
                TopologyConflict::Spread => "node(s) didn't match pod topology spread constraints",
                TopologyConflict::SpreadLabel => {
                    "node(s) didn't match pod topology spread constraints (missing required label)"
                }
                TopologyConflict::Affinity => "node(s) didn't match pod affinity rules",
                TopologyConflict::AntiAffinity => "node(s) didn't match pod anti-affinity rules",
                TopologyConflict::ExistingAntiAffinity => {
                    "node(s) didn't satisfy existing pods anti-affinity rules"
                }
            }
            .to_owned(),
        };
        vec![one]
    }

    /// Upstream's message of preemption for the node: whether evictions would help.
    fn preemption(&self) -> &'static str {
        match self {
            Self::Ports
            | Self::Resources { unresolvable: false, .. }
            | Self::Others(
                TopologyConflict::Spread
                | TopologyConflict::AntiAffinity
                | TopologyConflict::ExistingAntiAffinity,
            ) => "No preemption victims found for incoming pod",
            _ => "Preemption is not helpful for scheduling",
        }
    }
}

/// Upstream's `FitError`: reasons with their number of nodes, sorted as text.
fn message(rejections: &[Rejection], spec: &PodSpec) -> String {
    if rejections.is_empty() {
        return "no nodes available to schedule pods".to_owned();
    }
    let available = format!("0/{} nodes are available", rejections.len());
    let reasons = histogram(rejections.iter().flat_map(Rejection::reasons));
    if spec.preemption_policy.as_deref() == Some(NEVER) {
        return format!(
            "{available}: {reasons}. preemption: not eligible due to preemptionPolicy=Never."
        );
    }
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
