//! When a pod must leave a tainted node. Pure.

use std::time::Duration;

use coffer_api::well_known::taint::{NOT_READY, UNREACHABLE};
use coffer_api::well_known::taint_effect;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::Pod;
use crate::scheduler::taints::tolerates;

/// How long pods stay on a node that is not ready or not reachable, if they say nothing of their
/// own: what upstream's DefaultTolerationSeconds admission writes into every pod.
const DEFAULT_STAY: SignedDuration = SignedDuration::from_secs(300);

/// What is to become of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may stay.
    Stay,
    /// It may stay so much longer.
    Leave(Duration),
}

/// Judges a pod on a node: the taint that is tolerated for the shortest time decides.
pub(crate) fn verdict(pod: &Pod, node: &Node, now: Timestamp) -> Verdict {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let ends = taints.filter(|taint| taint.effect == taint_effect::NO_EXECUTE).filter_map(|taint| {
        let since = taint.time_added.as_ref().map_or(now, |Time(at)| *at);
        stay(pod, taint).map(|stay| since.saturating_add(stay).unwrap_or(now))
    });
    match ends.min() {
        None => Verdict::Stay,
        Some(end) => {
            Verdict::Leave(Duration::try_from(end.duration_since(now)).unwrap_or_default())
        }
    }
}

/// How long the pod bears the taint; `None` is for ever.
fn stay(pod: &Pod, taint: &Taint) -> Option<SignedDuration> {
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
        None if by_default => Some(DEFAULT_STAY),
        None => Some(SignedDuration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(taints: Value, tolerations: Value) -> Verdict {
        let node = serde_json::from_value(json!({ "spec": { "taints": taints } })).expect("a node");
        let pod = json!({ "spec": { "containers": [], "tolerations": tolerations } });
        let pod = serde_json::from_value(pod).expect("a pod");
        verdict(&pod, &node, "2026-01-01T00:01:00Z".parse().expect("a time"))
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
        let leave = |seconds| Verdict::Leave(Duration::from_secs(seconds));
        for (taints, tolerations, expected) in [
            (json!([]), json!([]), Verdict::Stay),
            (json!([unreachable]), json!([]), leave(240)),
            (json!([unreachable]), for_seconds(json!(90)), leave(30)),
            (json!([unreachable]), for_seconds(json!(10)), leave(0)),
            (json!([unreachable]), for_seconds(json!(null)), Verdict::Stay),
            (json!([unreachable]), json!([{ "operator": "Exists" }]), Verdict::Stay),
            (json!([other]), json!([]), leave(0)),
            (json!([unreachable, other]), for_seconds(json!(90)), leave(0)),
            (json!([{ "key": "x", "effect": "NoSchedule" }]), json!([]), Verdict::Stay),
        ] {
            assert_eq!(
                judged(taints.clone(), tolerations.clone()),
                expected,
                "{taints} {tolerations}"
            );
        }
    }
}
