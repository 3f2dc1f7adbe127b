//! Which pods to delete because no kubelet deletes them. Pure.

use std::sync::Arc;
use std::time::Duration;

use coffer_api::condition::{ConditionStatus, ConditionType};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::{Pod, is_terminal, node_name};

/// Ended pods that are kept: upstream's `--terminated-pod-gc-threshold`.
pub(crate) const ENDED_MAX: usize = 12_500;

/// Why a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its node no longer exists.
    Orphaned,
    /// It was deleted before it was bound to a node.
    Unscheduled,
    /// It has ended, and there are too many ended pods.
    Ended,
}

/// Whether a pod was deleted before it had a node, so that no kubelet ends it.
pub(crate) fn is_unscheduled(pod: &Pod) -> bool {
    node_name(pod).is_none() && pod.metadata.deletion_timestamp.is_some() && !is_terminal(pod)
}

/// The oldest ended pods beyond `ended_max`.
pub(crate) fn surplus(mut ended: Vec<Arc<Pod>>, ended_max: usize) -> Vec<Arc<Pod>> {
    let surplus = ended.len().saturating_sub(ended_max);
    ended.sort_by_cached_key(|pod| pod.metadata.creation_timestamp.clone());
    ended.truncate(surplus);
    ended
}

/// The rest of the grace period of a node that has been missing since `since`; a node that is registered
/// again in that time keeps its pods. `None` if the period is over.
pub(crate) fn time_left(since: Timestamp, grace: Duration, now: Timestamp) -> Option<Duration> {
    let missing = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    grace.checked_sub(missing).filter(|left| !left.is_zero())
}

/// The condition that upstream writes before it deletes an orphaned pod.
pub(crate) fn disruption(now: Timestamp) -> serde_json::Value {
    serde_json::json!({
        "type": ConditionType::DisruptionTarget.as_str(), "status": ConditionStatus::True.as_str(),
        "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists", "lastTransitionTime": Time(now),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, node: Option<&str>, phase: &str, extra: Value) -> Arc<Pod> {
        let mut meta = json!({ "name": name });
        for (key, value) in extra.as_object().expect("metadata") {
            meta[key] = value.clone();
        }
        let pod = json!({ "metadata": meta, "spec": { "nodeName": node, "containers": [] },
                          "status": { "phase": phase } });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn a_pod_deleted_before_it_had_a_node_is_unscheduled() {
        let deleted = || json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" });
        assert!(is_unscheduled(&pod("never-bound", None, "Pending", deleted())));
        assert!(!is_unscheduled(&pod("waits", None, "Pending", json!({}))));
        assert!(!is_unscheduled(&pod("ends-on-its-node", Some("n"), "Running", deleted())));
    }

    #[test]
    fn the_oldest_ended_pods_beyond_the_limit_are_surplus() {
        let at = |time: &str| json!({ "creationTimestamp": time });
        let ended = vec![
            pod("late", Some("n"), "Succeeded", at("2026-01-01T00:00:02Z")),
            pod("early", Some("n"), "Failed", at("2026-01-01T00:00:01Z")),
        ];
        let names = |pods: Vec<Arc<Pod>>| -> Vec<String> {
            pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect()
        };
        assert_eq!(names(surplus(ended.clone(), 1)), ["early"]);
        assert!(surplus(ended, 2).is_empty());
    }

    #[test]
    fn a_missing_node_has_a_grace_period() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let grace = Duration::from_secs(40);
        assert_eq!(time_left(at(100), grace, at(139)), Some(Duration::from_secs(1)));
        assert_eq!(time_left(at(100), grace, at(140)), None);
    }
}
