//! Which of the nodes that fit is the best: the emptier one, away from the pod's siblings.

use coffer_api::demand::Resources;

use super::cluster::View;
use super::plan::{Candidate, name};
use super::{affinity, taints};

/// Upstream's weights of the same concerns.
const WEIGHT_EMPTINESS: i64 = 1;
const WEIGHT_SPREAD: i64 = 2;
const WEIGHT_AFFINITY: i64 = 2;
const WEIGHT_TAINTS: i64 = 3;
/// What a container that asks for nothing is thought to use, so that a hundred of them do not all
/// go to the first node: upstream's 100 millicores and 200 MiB.
const DEFAULT_CPU_MILLI: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

/// The best node; of equals, the one with fewer pods, then the first by name.
pub(super) fn best<'a>(candidate: &Candidate<'_>, fitting: &[View<'a>]) -> Option<View<'a>> {
    let affinity = |view: &View<'_>| affinity::preference(candidate.spec, view.node);
    let taints = |view: &View<'_>| taints::reluctance(candidate.spec, view.node);
    let affinity_max = fitting.iter().map(affinity).max().unwrap_or(0);
    let taints_max = fitting.iter().map(taints).max().unwrap_or(0);
    let siblings_max = fitting.iter().map(|view| siblings(candidate, *view)).max().unwrap_or(0);
    let crowd = |view: &View<'_>| candidate.rules.crowd(view.node);
    let crowd_max = fitting.iter().map(crowd).max().unwrap_or(0);
    let score = |view: &View<'_>| {
        WEIGHT_EMPTINESS * emptiness(candidate, *view)
            + WEIGHT_SPREAD * (100 - share(siblings(candidate, *view), siblings_max))
            + WEIGHT_SPREAD * (100 - share(crowd(view), crowd_max))
            + WEIGHT_AFFINITY * share(affinity(view), affinity_max)
            + WEIGHT_TAINTS * (100 - share(taints(view), taints_max))
    };
    let order = |view: &View<'a>| {
        let pods = view.usage.map_or(0, |usage| usage.pods);
        (-score(view), pods, name(view.node))
    };
    fitting.iter().copied().min_by_key(order)
}

/// `part` of `whole` in percent, 0 of nothing.
fn share(part: i64, whole: i64) -> i64 {
    if whole <= 0 { 0 } else { part.saturating_mul(100) / whole }
}

/// Pods of the same controller that are here already.
fn siblings(candidate: &Candidate<'_>, view: View<'_>) -> i64 {
    let count = candidate
        .controller
        .and_then(|controller| view.usage?.by_controller.get(controller))
        .copied()
        .unwrap_or_default();
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// How much of processor and memory would be left, in percent.
fn emptiness(candidate: &Candidate<'_>, view: View<'_>) -> i64 {
    let status = view.node.status.iter();
    let all = Resources::of(status.flat_map(|status| status.allocatable.iter().flatten()));
    let used = |resource: &str| view.usage.map(|usage| usage.requested.get(resource));
    let or = |amount: i64, default: i64| if amount == 0 { default } else { amount };
    let cpu = or(candidate.requests.get("cpu").milli(), DEFAULT_CPU_MILLI)
        .saturating_add(used("cpu").map_or(0, |used| used.milli()));
    let memory = or(candidate.requests.get("memory").units(), DEFAULT_MEMORY)
        .saturating_add(used("memory").map_or(0, |used| used.units()));
    let left = |used: i64, all: i64| 100 - share(used, all).clamp(0, 100);
    (left(cpu, all.get("cpu").milli()) + left(memory, all.get("memory").units())) / 2
}
