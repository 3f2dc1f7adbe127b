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
    let due = since + SignedDuration::from_secs(min_ready_seconds.into());
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
