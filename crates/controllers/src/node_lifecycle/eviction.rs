//! When a pod is evicted from a tainted node. Pure.

use std::time::Duration;

use coffer_api::well_known::taint::{NOT_READY, UNREACHABLE};
use coffer_api::well_known::taint_effect;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::Pod;
use crate::scheduler::taints::tolerates;

/// How long a pod without a toleration of its own tolerates that its node is not ready or unreachable: what
/// upstream's DefaultTolerationSeconds admission plugin adds to every pod.
const DEFAULT_TOLERATION: SignedDuration = SignedDuration::from_secs(300);

/// Whether a pod is evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It tolerates all taints.
    Keep,
    /// It is evicted after this time.
    EvictAfter(Duration),
}

/// Decides for a pod on a node, by the taint that it tolerates for the shortest time.
pub(crate) fn decide(pod: &Pod, node: &Node, now: Timestamp) -> Decision {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let ends =
        taints.filter(|taint| taint.effect == taint_effect::NO_EXECUTE).filter_map(|taint| {
            let since = taint.time_added.as_ref().map_or(now, |Time(at)| *at);
            tolerated_for(pod, taint).map(|time| since.saturating_add(time).unwrap_or(now))
        });
    match ends.min() {
        None => Decision::Keep,
        Some(end) => {
            Decision::EvictAfter(Duration::try_from(end.duration_since(now)).unwrap_or_default())
        }
    }
}

/// How long the pod tolerates the taint. `None` is without limit.
fn tolerated_for(pod: &Pod, taint: &Taint) -> Option<SignedDuration> {
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let mut shortest = None;
    let mut tolerated = false;
    for toleration in tolerations.filter(|toleration| tolerates(toleration, taint)) {
        tolerated = true;
        let seconds = toleration.toleration_seconds.map(|seconds| seconds.max(0));
        shortest = [shortest, seconds].into_iter().flatten().min();
    }
    let by_default = [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
    match shortest {
        Some(seconds) => Some(SignedDuration::from_secs(seconds)),
        None if tolerated => None,
        None if by_default => Some(DEFAULT_TOLERATION),
        None => Some(SignedDuration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn decided(taints: Value, tolerations: Value) -> Decision {
        let node = serde_json::from_value(json!({ "spec": { "taints": taints } })).expect("a node");
        let pod = json!({ "spec": { "containers": [], "tolerations": tolerations } });
        let pod = serde_json::from_value(pod).expect("a pod");
        decide(&pod, &node, "2026-01-01T00:01:00Z".parse().expect("a time"))
    }

    #[test]
    fn the_shortest_toleration_decides() {
        let unreachable = json!({ "key": UNREACHABLE, "effect": "NoExecute",
                                  "timeAdded": "2026-01-01T00:00:00Z" });
        let other = json!({ "key": "drain", "effect": "NoExecute",
                            "timeAdded": "2026-01-01T00:00:00Z" });
        let for_seconds = |seconds: Value| {
            json!([{ "key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute",
                     "tolerationSeconds": seconds }])
        };
        let evict_after = |seconds| Decision::EvictAfter(Duration::from_secs(seconds));
        for (taints, tolerations, expected) in [
            (json!([]), json!([]), Decision::Keep),
            (json!([unreachable]), json!([]), evict_after(240)),
            (json!([unreachable]), for_seconds(json!(90)), evict_after(30)),
            (json!([unreachable]), for_seconds(json!(10)), evict_after(0)),
            (json!([unreachable]), for_seconds(json!(null)), Decision::Keep),
            (json!([unreachable]), json!([{ "operator": "Exists" }]), Decision::Keep),
            (json!([other]), json!([]), evict_after(0)),
            (json!([unreachable, other]), for_seconds(json!(90)), evict_after(0)),
            (json!([{ "key": "x", "effect": "NoSchedule" }]), json!([]), Decision::Keep),
        ] {
            assert_eq!(
                decided(taints.clone(), tolerations.clone()),
                expected,
                "{taints} {tolerations}"
            );
        }
    }
}
