//! The sizes of ReplicaSets during rollouts and after scaling. Pure: sizes are in the order of the
//! ReplicaSets, and the caller applies them.

use std::cmp::Reverse;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::limits::{available, desired, is_rolling, size, surge_max, total, unavailable_max};
use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS, number};

/// The size that the new ReplicaSet may have now, given the number of all pods.
pub(crate) fn new_size(deployment: &Deployment, new: i32, all: i32) -> i32 {
    let desired = desired(deployment);
    if !is_rolling(deployment) {
        return desired;
    }
    if new >= desired {
        return desired;
    }
    let room = desired.saturating_add(surge_max(deployment)).saturating_sub(all);
    if room <= 0 { new } else { new.saturating_add(room.min(desired.saturating_sub(new))) }
}

/// The sizes to which the old ReplicaSets may shrink now: first by pods that are not available, then by as
/// many available ones as the minimum allows. `old` is sorted by age; returns the sizes in its order.
pub(crate) fn old_sizes(
    deployment: &Deployment,
    new: &ReplicaSet,
    old: &[&ReplicaSet],
) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|set| size(set)).collect();
    let all = total(sizes.iter().copied().chain([size(new)]));
    let available_min = desired(deployment).saturating_sub(unavailable_max(deployment));
    let unavailable = size(new).saturating_sub(available(new));
    let spare = all.saturating_sub(available_min).saturating_sub(unavailable);
    if spare <= 0 {
        return sizes;
    }
    let mut left = spare;
    for (set, size) in old.iter().zip(&mut sizes) {
        let unavailable = size.saturating_sub(available(set)).clamp(0, left);
        (*size, left) = (*size - unavailable, left - unavailable);
    }
    let all_available = total(old.iter().map(|set| available(set)).chain([available(new)]));
    let mut left = all_available.saturating_sub(available_min).max(0);
    for size in &mut sizes {
        let removed = (*size).min(left);
        (*size, left) = (*size - removed, left - removed);
    }
    sizes
}

/// Sizes of all ReplicaSets, in their order, after the Deployment itself was scaled. `new` is the index of
/// the new one. During a rollout the difference is distributed in proportion.
pub(crate) fn scaled_sizes(
    deployment: &Deployment,
    sets: &[&ReplicaSet],
    new: Option<usize>,
) -> Vec<i32> {
    let mut sizes: Vec<i32> = sets.iter().map(|set| size(set)).collect();
    if let Some(at) = only_active(sets, new) {
        sizes[at] = desired(deployment);
        return sizes;
    }
    if new.is_some_and(|at| is_saturated(deployment, sets[at])) {
        for (at, size) in sizes.iter_mut().enumerate() {
            if Some(at) != new {
                *size = 0;
            }
        }
        return sizes;
    }
    if is_rolling(deployment) {
        share(deployment, sets, &mut sizes);
    }
    sizes
}

/// The only ReplicaSet with pods; if none has pods, the new one or else the latest.
fn only_active(sets: &[&ReplicaSet], new: Option<usize>) -> Option<usize> {
    let active: Vec<usize> = (0..sets.len()).filter(|at| size(sets[*at]) > 0).collect();
    match active[..] {
        [one] => Some(one),
        [] => new.or_else(|| (0..sets.len()).max_by_key(|at| age_key(sets[*at]))),
        _ => None,
    }
}

/// Whether the new ReplicaSet has all pods of the Deployment, and they are available.
fn is_saturated(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let desired = desired(deployment);
    number(set.metadata.annotations.as_ref(), DESIRED_REPLICAS) == Some(desired.into())
        && size(set) == desired
        && available(set) == desired
}

fn share(deployment: &Deployment, sets: &[&ReplicaSet], sizes: &mut [i32]) {
    let desired = desired(deployment);
    let surge = surge_max(deployment);
    let allowed = if desired > 0 { desired.saturating_add(surge) } else { 0 };
    let change = allowed.saturating_sub(total(sizes.iter().copied()));
    if change == 0 {
        return;
    }
    // Larger ones first. Of equal ones, the newer one grows and the older one shrinks.
    let mut order: Vec<usize> = (0..sets.len()).filter(|at| sizes[*at] > 0).collect();
    if change > 0 {
        order.sort_by_key(|at| (Reverse(sizes[*at]), Reverse(age_key(sets[*at]))));
    } else {
        order.sort_by_key(|at| (Reverse(sizes[*at]), age_key(sets[*at])));
    }
    let mut shared = 0;
    for at in &order {
        let rest = change.saturating_sub(shared);
        let fraction = fraction(deployment, sets[*at]);
        let part = if change > 0 { fraction.min(rest) } else { fraction.max(rest) };
        sizes[*at] = sizes[*at].saturating_add(part);
        shared = shared.saturating_add(part);
    }
    if let Some(first) = order.first() {
        let rest = change.saturating_sub(shared);
        sizes[*first] = sizes[*first].saturating_add(rest).max(0);
    }
}

/// The change of a ReplicaSet's size that keeps its proportion.
fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    let desired = desired(deployment);
    if desired == 0 {
        return 0_i32.saturating_sub(size(set));
    }
    let before = number(set.metadata.annotations.as_ref(), MAX_REPLICAS)
        .or_else(|| deployment.status.as_ref()?.replicas.map(i64::from))
        .filter(|before| *before > 0);
    let Some(before) = before else { return 0 };
    // The annotation may hold any number of 64 bits.
    let before = i128::from(before);
    let after = i128::from(desired.saturating_add(surge_max(deployment)));
    let new = (i128::from(size(set)) * after * 2 + before).div_euclid(before * 2);
    i32::try_from(new).unwrap_or(i32::MAX).saturating_sub(size(set))
}

/// Orders ReplicaSets from old to new.
pub(crate) fn age_key(set: &ReplicaSet) -> impl Ord + use<> {
    (set.metadata.creation_timestamp.clone(), set.metadata.name.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
        serde_json::from_value(json!({ "spec": { "replicas": replicas, "selector": {},
            "template": {}, "strategy": { "rollingUpdate": {
                "maxSurge": surge, "maxUnavailable": unavailable } } } }))
        .expect("a deployment")
    }

    fn set(name: &str, size: i32, available: i32, max: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": { "name": name, "creationTimestamp": "2026-01-01T00:00:00Z",
                          "annotations": { MAX_REPLICAS: max.to_string() } },
            "spec": { "replicas": size, "selector": {} },
            "status": { "replicas": size, "availableReplicas": available } }))
        .expect("a set")
    }

    #[test]
    fn the_new_set_grows_only_within_the_surge() {
        for (replicas, surge, new, all, expected) in [
            (10, 0, 0, 10, 0),
            (10, 2, 0, 10, 2),
            (10, 5, 0, 10, 5),
            (10, 2, 4, 10, 6),
            (10, 3, 9, 10, 10),
            (3, 1, 0, 0, 3),
            (3, 1, 5, 5, 3),
        ] {
            assert_eq!(new_size(&deployment(replicas, surge, 0), new, all), expected);
        }
    }

    #[test]
    fn the_old_set_shrinks_as_the_new_one_becomes_available() {
        let shrunk = |replicas, unavailable, new: (i32, i32), old: (i32, i32)| {
            let (new, old) = (set("new", new.0, new.1, 0), set("old", old.0, old.1, 0));
            old_sizes(&deployment(replicas, 1, unavailable), &new, &[&old])[0]
        };
        assert_eq!(shrunk(10, 0, (0, 0), (10, 10)), 10, "no new pod is available");
        assert_eq!(shrunk(10, 2, (0, 0), (10, 10)), 8);
        assert_eq!(shrunk(10, 2, (2, 0), (8, 8)), 8, "the new pods are not available");
        assert_eq!(shrunk(10, 2, (2, 2), (8, 8)), 6);
        assert_eq!(
            shrunk(10, 2, (0, 0), (10, 9)),
            8,
            "an unavailable one first, then an available one"
        );
        assert_eq!(shrunk(10, 0, (1, 1), (10, 10)), 9);
        assert_eq!(shrunk(10, 0, (10, 10), (1, 1)), 0);
        assert_eq!(
            shrunk(4, 1, (1, 0), (4, 2)),
            3,
            "unavailable pods are removed within the limit"
        );
    }

    #[test]
    fn scaling_without_a_rollout_changes_the_one_set() {
        let (old, new) = (set("old", 0, 0, 0), set("new", 3, 3, 4));
        assert_eq!(scaled_sizes(&deployment(8, 1, 0), &[&old, &new], Some(1)), [0, 8]);
        let none = set("none", 0, 0, 0);
        assert_eq!(scaled_sizes(&deployment(2, 1, 0), &[&old, &none], Some(1)), [0, 2]);
        assert_eq!(scaled_sizes(&deployment(2, 1, 0), &[&old], None), [2]);
    }

    /// Upstream's documented example: 10 replicas with surge 3 in the middle of a rollout, 8 old and
    /// 5 new, scaled to 15: 3 of the 5 more go to the old set and 2 to the new one.
    #[test]
    fn scaling_during_a_rollout_is_distributed_in_proportion() {
        let (old, new) = (set("old", 8, 8, 13), set("new", 5, 0, 13));
        assert_eq!(scaled_sizes(&deployment(15, 3, 2), &[&old, &new], Some(1)), [11, 7]);
        assert_eq!(scaled_sizes(&deployment(5, 3, 2), &[&old, &new], Some(1)), [5, 3]);
        assert_eq!(scaled_sizes(&deployment(0, 3, 2), &[&old, &new], Some(1)), [0, 0]);
    }

    #[test]
    fn old_sets_are_scaled_to_zero_when_the_new_one_is_complete() {
        let old = set("old", 1, 1, 0);
        let mut new = set("new", 3, 3, 0);
        new.metadata
            .annotations
            .get_or_insert_default()
            .insert(DESIRED_REPLICAS.to_owned(), "3".to_owned());
        assert_eq!(scaled_sizes(&deployment(3, 1, 0), &[&old, &new], Some(1)), [0, 3]);
    }

    /// Replicas, bounds, statuses and annotations are numbers that clients write.
    #[test]
    fn any_numbers_that_clients_write_are_added_up() {
        const SIZES: [i32; 3] = [0, 1, i32::MAX];
        for (replicas, surge) in SIZES.iter().flat_map(|one| SIZES.map(|other| (*one, other))) {
            for (size, available) in SIZES.iter().flat_map(|one| [(*one, 0), (*one, i32::MIN)]) {
                let deployment = deployment(replicas, surge, i32::MAX);
                let mut sets = [set("a", size, available, 1), set("b", size, i32::MAX, i32::MAX)];
                let annotations = sets[0].metadata.annotations.get_or_insert_default();
                annotations.insert(MAX_REPLICAS.to_owned(), i64::MAX.to_string());
                let [one, other] = &sets;
                assert!(new_size(&deployment, size, i32::MAX) >= 0);
                assert_eq!(old_sizes(&deployment, one, &[other, other]).len(), 2);
                for new in [None, Some(0), Some(1)] {
                    assert_eq!(scaled_sizes(&deployment, &[one, other], new).len(), 2);
                }
            }
        }
    }
}
