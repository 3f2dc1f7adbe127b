//! Which pods have to be removed because no kubelet will. Pure.

use std::sync::Arc;
use std::time::Duration;

use coffer_api::condition::{ConditionStatus, ConditionType};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::{Pod, is_terminal, node_name};

/// Ended pods that are kept for users to look at; upstream's `--terminated-pod-gc-threshold`.
pub(crate) const ENDED_MAX: usize = 12_500;

/// Why a pod is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its node no longer exists.
    Orphaned,
    /// It is to be deleted, and was never bound to a node that would do it.
    Unscheduled,
    /// It ended, and too many others did since.
    Ended,
}

/// Whether a pod was deleted before it had a node, so that no kubelet will end it.
pub(crate) fn is_unscheduled(pod: &Pod) -> bool {
    node_name(pod).is_none() && pod.metadata.deletion_timestamp.is_some() && !is_terminal(pod)
}

/// The oldest of the pods that ended, so many that `ended_max` are left.
pub(crate) fn surplus(mut ended: Vec<Arc<Pod>>, ended_max: usize) -> Vec<Arc<Pod>> {
    let surplus = ended.len().saturating_sub(ended_max);
    ended.sort_by_cached_key(|pod| pod.metadata.creation_timestamp.clone());
    ended.truncate(surplus);
    ended
}

/// How long a node that is missing since a time still has to come back, because one that is registered
/// again keeps its pods; `None` if its time is over.
pub(crate) fn time_left(since: Timestamp, patience: Duration, now: Timestamp) -> Option<Duration> {
    let missing = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    patience.checked_sub(missing).filter(|left| !left.is_zero())
}

/// The condition that says why, as upstream writes it before an orphaned pod goes.
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
    fn the_oldest_of_too_many_ended_pods_go() {
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
    fn a_missing_node_gets_time_to_come_back() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let patience = Duration::from_secs(40);
        assert_eq!(time_left(at(100), patience, at(139)), Some(Duration::from_secs(1)));
        assert_eq!(time_left(at(100), patience, at(140)), None);
    }
}
