//! The order in which surplus pods are deleted: upstream's `ActivePodsWithRanks`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use coffer_api::phase::PodPhase;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::{DELETION_COST, Pod, is_ready, node_name, phase, ready_since, restarts_max};

/// Sorts pods in the order of their deletion. `related` are the pods of all objects with the same owner,
/// which are counted by node.
pub(super) fn sort_for_deletion(pods: &mut [Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) {
    let mut by_node: HashMap<&str, usize> = HashMap::new();
    for pod in related {
        if let Some(node) = node_name(pod) {
            *by_node.entry(node).or_default() += 1;
        }
    }
    pods.sort_by_cached_key(|pod| {
        let colocated = node_name(pod).and_then(|node| by_node.get(node)).copied().unwrap_or(0);
        order(pod, colocated, now)
    });
}

/// The first field that differs decides: pods without a node first; then pending, unknown, running; not ready
/// before ready; lower deletion cost first; more related pods on the node first; ready for a shorter time
/// first; more restarts first; younger first. Times are compared by their order of magnitude, so that among
/// pods of similar age the uid decides.
fn order(pod: &Pod, colocated: usize, now: Timestamp) -> impl Ord + use<> {
    let progress = match phase(pod) {
        Some(PodPhase::Pending) => 0,
        Some(PodPhase::Running) => 2,
        _ => 1,
    };
    (
        node_name(pod).is_some(),
        progress,
        is_ready(pod),
        deletion_cost(pod),
        Reverse(colocated),
        magnitude(ready_since(pod), now),
        Reverse(restarts_max(pod)),
        magnitude(pod.metadata.creation_timestamp.as_ref().map(|Time(at)| *at), now),
        pod.metadata.uid.clone(),
    )
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(DELETION_COST));
    annotation.and_then(|cost| cost.parse().ok()).unwrap_or_default()
}

/// The binary order of magnitude of an age. Without a time it is the youngest.
fn magnitude(since: Option<Timestamp>, now: Timestamp) -> u32 {
    let age = since.map_or(0, |since| now.duration_since(since).as_secs());
    u64::try_from(age).unwrap_or(0).checked_ilog2().map_or(0, |log| log + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-02T00:00:00Z";

    fn pod(name: &str, extra: Value) -> Arc<Pod> {
        let since = extra["since"].as_str().unwrap_or("2026-01-01T00:00:00Z").to_owned();
        let ready = extra["ready"].as_bool().unwrap_or(true);
        let pod = json!({
            "metadata": {
                "name": name, "uid": name,
                "creationTimestamp": extra["created"].as_str().unwrap_or("2026-01-01T00:00:00Z"),
                "annotations": { DELETION_COST: extra["cost"].as_str().unwrap_or("0") },
            },
            "spec": { "containers": [], "nodeName": extra["node"].as_str().unwrap_or("n") },
            "status": {
                "phase": extra["phase"].as_str().unwrap_or("Running"),
                "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" },
                                 "lastTransitionTime": since }],
                "containerStatuses": [{ "name": "c", "ready": ready, "image": "", "imageID": "",
                                        "restartCount": extra["restarts"].as_i64().unwrap_or(0) }],
            },
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn sorted(mut pods: Vec<Arc<Pod>>) -> Vec<String> {
        let related = pods.clone();
        sort_for_deletion(&mut pods, &related, NOW.parse().expect("a time"));
        pods.iter().map(|pod| pod.metadata.name.clone().unwrap_or_default()).collect()
    }

    #[test]
    fn each_rule_decides_where_the_ones_before_it_do_not() {
        let cases = [
            ("no node first", json!({ "node": "" }), json!({ "phase": "Pending", "ready": false })),
            ("pending first", json!({ "phase": "Pending" }), json!({ "ready": false })),
            ("not ready first", json!({ "ready": false }), json!({ "cost": "-5" })),
            ("cheaper first", json!({ "cost": "-1" }), json!({ "restarts": 9 })),
            (
                "newly ready first",
                json!({ "since": "2026-01-01T23:59:50Z" }),
                json!({ "restarts": 9 }),
            ),
            (
                "restarted first",
                json!({ "restarts": 9 }),
                json!({ "created": "2026-01-01T23:59:00Z" }),
            ),
            ("younger first", json!({ "created": "2026-01-01T23:59:00Z" }), json!({})),
        ];
        for (case, first, second) in cases {
            // The last rule, by uid, would reverse the order.
            let order = sorted(vec![pod("b", first), pod("a", second)]);
            assert_eq!(order, ["b", "a"], "{case}");
        }
    }

    #[test]
    fn a_pod_on_the_node_with_most_related_pods_is_deleted_first() {
        let pods = vec![
            pod("a", json!({ "node": "one" })),
            pod("b", json!({ "node": "two" })),
            pod("c", json!({ "node": "two" })),
        ];
        assert_eq!(sorted(pods), ["b", "c", "a"]);
    }
}
