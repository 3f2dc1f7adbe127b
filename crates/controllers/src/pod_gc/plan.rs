//! Which pods nobody will ever remove. Pure.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::{is_terminal, node_name};

/// Ended pods that are kept for people to look at; upstream's `--terminated-pod-gc-threshold`.
pub const ENDED_MAX: usize = 12_500;

/// Why a pod is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its node does not exist any more.
    Orphaned,
    /// It is to be deleted, and was never given to a node that would do it.
    Unscheduled,
    /// It ended, and so did too many others since.
    Ended,
}

/// Chooses the pods to remove now. `gone` are the nodes that are known not to exist.
pub fn plan(pods: &[Arc<Pod>], gone: &HashSet<String>, ended_max: usize) -> Vec<(Arc<Pod>, Why)> {
    let mut chosen: Vec<(Arc<Pod>, Why)> = Vec::new();
    let mut ended: Vec<&Arc<Pod>> = Vec::new();
    for pod in pods {
        match node_name(pod) {
            Some(node) if gone.contains(node) => chosen.push((pod.clone(), Why::Orphaned)),
            None if pod.metadata.deletion_timestamp.is_some() => {
                chosen.push((pod.clone(), Why::Unscheduled));
            }
            _ if is_terminal(pod) => ended.push(pod),
            _ => {}
        }
    }
    let surplus = ended.len().saturating_sub(ended_max);
    ended.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
    chosen.extend(ended.into_iter().take(surplus).map(|pod| (pod.clone(), Why::Ended)));
    chosen
}

/// Nodes that pods name and that are missing: they are given some time to appear, because a node
/// that is registered again keeps its pods. Answers those whose time is over, and the next check.
pub fn missing_long_enough(
    missing_since: impl IntoIterator<Item = (String, Timestamp)>,
    patience: Duration,
    now: Timestamp,
) -> (HashSet<String>, Option<Duration>) {
    let mut gone = HashSet::new();
    let mut next: Option<Duration> = None;
    for (node, since) in missing_since {
        let quiet = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        match patience.checked_sub(quiet).filter(|left| !left.is_zero()) {
            None => {
                gone.insert(node);
            }
            Some(left) => next = Some(next.map_or(left, |next| next.min(left))),
        }
    }
    (gone, next)
}

/// The condition that says why, as upstream writes it before an orphaned pod goes.
pub fn disruption(now: Timestamp) -> serde_json::Value {
    serde_json::json!({
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
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
    fn only_pods_that_nobody_else_removes_are_chosen() {
        let deleted = json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" });
        let at = |time: &str| json!({ "creationTimestamp": time });
        let pods = [
            pod("runs", Some("n"), "Running", json!({})),
            pod("orphan", Some("gone"), "Running", json!({})),
            pod("waits", None, "Pending", json!({})),
            pod("never-placed", None, "Pending", deleted.clone()),
            pod("ends-on-its-node", Some("n"), "Running", deleted),
            pod("ended-late", Some("n"), "Succeeded", at("2026-01-01T00:00:02Z")),
            pod("ended-early", Some("n"), "Failed", at("2026-01-01T00:00:01Z")),
        ];
        let gone = HashSet::from(["gone".to_owned()]);
        let chosen: Vec<_> = plan(&pods, &gone, 1)
            .into_iter()
            .map(|(pod, why)| (pod.metadata.name.clone().unwrap_or_default(), why))
            .collect();
        let expected = [
            ("orphan".to_owned(), Why::Orphaned),
            ("never-placed".to_owned(), Why::Unscheduled),
            ("ended-early".to_owned(), Why::Ended),
        ];
        assert_eq!(chosen, expected);
    }

    #[test]
    fn a_missing_node_gets_time_to_come_back() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let missing = || [("a".to_owned(), at(100)), ("b".to_owned(), at(130))];
        let (gone, next) = missing_long_enough(missing(), Duration::from_secs(40), at(141));
        assert_eq!(gone, ["a".to_owned()].into());
        assert_eq!(next, Some(Duration::from_secs(29)));
    }
}
