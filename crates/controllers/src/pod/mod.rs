//! Pods as controllers keep them, and their properties.

mod object;

use std::time::Duration;

use coffer_api::condition::{Condition as _, ConditionType};
use coffer_api::phase::PodPhase;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) use self::object::{Pod, SharedSpecs, Spec};

/// The annotation with the relative cost of deleting a pod.
pub(crate) const DELETION_COST: &str = coffer_api::well_known::annotation::POD_DELETION_COST;

/// The node that the pod is bound to.
pub(crate) fn node_name(pod: &Pod) -> Option<&str> {
    pod.node_name.as_deref().filter(|name| !name.is_empty())
}

/// The phase. None before the first status.
pub(crate) fn phase(pod: &Pod) -> Option<PodPhase> {
    pod.status.as_ref()?.phase.as_deref().and_then(PodPhase::parse)
}

/// Whether the pod has ended, and will not run again.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    phase(pod).is_some_and(PodPhase::is_terminal)
}

/// Whether its controller counts the pod: it has not ended and is not being deleted.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether the pod is ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some()
}

/// Since when the pod is ready, if it is.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    ready_condition(pod)?.last_transition_time.as_ref().map(|Time(at)| *at)
}

/// Whether the pod has been ready for at least `min_ready_seconds`.
pub(crate) fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod) && available_in(pod, min_ready_seconds, now).is_none()
}

/// How long a ready pod must remain ready until it is available. `None` if it is available or not ready.
pub(crate) fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if min_ready_seconds == 0 {
        return None;
    }
    let since = ready_since(pod)?;
    // The time is the node's to write, and may be the last one there is.
    let due = since.saturating_add(SignedDuration::from_secs(min_ready_seconds.into()));
    let due = due.unwrap_or(Timestamp::MAX);
    Duration::try_from(due.duration_since(now)).ok().filter(|left| !left.is_zero())
}

/// Restarts of the container that restarted most.
pub(crate) fn restarts_max(pod: &Pod) -> i32 {
    pod.status.as_ref().map_or(0, |status| status.restarts_max)
}

fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|condition| condition.is(ConditionType::Ready) && condition.holds())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ready_at(time: &str) -> Pod {
        let ready = json!({ "type": "Ready", "status": "True", "lastTransitionTime": time });
        serde_json::from_value(json!({ "spec": { "containers": [] },
            "status": { "phase": "Running", "conditions": [ready] } }))
        .expect("a pod")
    }

    #[test]
    fn a_pod_is_available_after_its_ready_seconds() {
        let now = "2026-01-01T00:01:00Z".parse().expect("a time");
        let left = |time, seconds| available_in(&ready_at(time), seconds, now);
        assert_eq!(left("2026-01-01T00:00:50Z", 30), Some(Duration::from_secs(20)));
        assert_eq!(left("2026-01-01T00:00:50Z", 10), None);
    }

    /// A node writes the time into the status of its pods; one that no addition fits after ended all
    /// controllers, at every start again.
    #[test]
    fn a_pod_that_says_any_time_is_judged() {
        for time in ["9999-12-30T22:00:00Z", "-009999-01-02T01:59:59Z", "0000-01-01T00:00:00Z"] {
            for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
                for seconds in [0, 1, i32::MAX, i32::MIN] {
                    let pod = ready_at(time);
                    let waits = available_in(&pod, seconds, now).is_some();
                    assert_eq!(is_available(&pod, seconds, now), !waits, "{time} {now} {seconds}");
                }
            }
        }
    }
}
