//! The best of the nodes that fit: by free resources, spread over nodes, affinity and taints.

use super::node_info::View;
use super::plan::Candidate;
use super::{affinity, taints};

/// Upstream's weights of its score plugins.
const WEIGHT_LEAST_ALLOCATED: i64 = 1;
const WEIGHT_SPREAD: i64 = 2;
const WEIGHT_AFFINITY: i64 = 2;
const WEIGHT_POD_AFFINITY: i64 = 2;
const WEIGHT_TAINTS: i64 = 3;
/// The assumed usage of a pod without requests, so that such pods are spread: upstream's 100 millicores and
/// 200 MiB.
const DEFAULT_CPU_MILLI: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

/// The scores of a node before normalization.
struct Raw<'a> {
    view: View<'a>,
    least_allocated: i64,
    siblings: i64,
    spread: i64,
    affinity: i64,
    pod_affinity: i64,
    taints: i64,
}

/// The best node; of equal ones, the one with fewer pods, then the first by name.
pub(super) fn best<'a>(candidate: &Candidate<'_>, fitting: &[View<'a>]) -> Option<View<'a>> {
    let raw = |view: &View<'a>| Raw {
        view: *view,
        least_allocated: least_allocated(candidate, *view),
        siblings: siblings(candidate, *view),
        spread: candidate.rules.soft_spread_count(view.node),
        affinity: affinity::preference(candidate.spec, view.node),
        pod_affinity: candidate.rules.preference(view.node),
        taints: taints::untolerated_preferences(candidate.spec, view.node),
    };
    let all: Vec<Raw<'_>> = fitting.iter().map(raw).collect();
    let max = |of: fn(&Raw<'_>) -> i64| all.iter().map(of).max().unwrap_or(0);
    let (siblings, spread) = (max(|raw| raw.siblings), max(|raw| raw.spread));
    let (affinity, taints) = (max(|raw| raw.affinity), max(|raw| raw.taints));
    let nearest = max(|raw| raw.pod_affinity);
    let farthest = all.iter().map(|raw| raw.pod_affinity).min().unwrap_or(0);
    let score = |raw: &Raw<'_>| {
        WEIGHT_LEAST_ALLOCATED * raw.least_allocated
            + WEIGHT_SPREAD * (100 - share(raw.siblings, siblings))
            + WEIGHT_SPREAD * (100 - share(raw.spread, spread))
            + WEIGHT_AFFINITY * share(raw.affinity, affinity)
            + WEIGHT_POD_AFFINITY
                * share(raw.pod_affinity.saturating_sub(farthest), nearest.saturating_sub(farthest))
            + WEIGHT_TAINTS * (100 - share(raw.taints, taints))
    };
    let order = |raw: &&Raw<'a>| (-score(raw), raw.view.usage().pods, raw.view.name());
    all.iter().min_by_key(order).map(|raw| raw.view)
}

/// `part` of `whole` in percent; 0 if `whole` is 0.
fn share(part: i64, whole: i64) -> i64 {
    if whole <= 0 { 0 } else { part.saturating_mul(100) / whole }
}

/// The number of pods of the same controller on the node.
fn siblings(candidate: &Candidate<'_>, view: View<'_>) -> i64 {
    let count = candidate
        .controller
        .and_then(|controller| view.usage().by_controller.get(controller))
        .copied()
        .unwrap_or_default();
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The mean of the CPU and the memory that would be left, in percent: upstream's `LeastAllocated`.
fn least_allocated(candidate: &Candidate<'_>, view: View<'_>) -> i64 {
    let (cpu_all, memory_all) = view.cpu_and_memory();
    let used = |resource: &str| view.usage().requested.get(resource);
    let or = |amount: i64, default: i64| if amount == 0 { default } else { amount };
    let cpu = or(candidate.requests.get("cpu").milli(), DEFAULT_CPU_MILLI)
        .saturating_add(used("cpu").milli());
    let memory = or(candidate.requests.get("memory").units(), DEFAULT_MEMORY)
        .saturating_add(used("memory").units());
    let left = |used: i64, all: i64| 100 - share(used, all).clamp(0, 100);
    (left(cpu, cpu_all) + left(memory, memory_all)) / 2
}
