//! How many pods more, or fewer, than requested a Deployment may have during a rollout.

use coffer_api::share::{self, Rounding};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The requested number of replicas.
pub(crate) fn desired(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Whether pods are replaced gradually: the strategy is not `Recreate`.
pub(crate) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate")
}

/// How many pods more than requested a rollout may have.
pub(crate) fn surge_max(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) { resolved(deployment).0 } else { 0 }
}

/// How many pods fewer than requested may be available during a rollout.
pub(crate) fn unavailable_max(deployment: &Deployment) -> i32 {
    let desired = desired(deployment);
    if is_rolling(deployment) && desired != 0 { resolved(deployment).1.min(desired) } else { 0 }
}

/// Surge is rounded up and unavailability down. If both are zero, no step would be possible, so one pod may
/// be unavailable.
fn resolved(deployment: &Deployment) -> (i32, i32) {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let (surge, unavailable) = match rolling {
        Some(rolling) => (rolling.max_surge.as_ref(), rolling.max_unavailable.as_ref()),
        None => (None, None),
    };
    let desired = desired(deployment);
    let surge = scaled(surge, desired, Rounding::Up);
    match (surge, scaled(unavailable, desired, Rounding::Down)) {
        (0, 0) => (0, 1),
        both => both,
    }
}

/// A number, or a percentage of the requested pods. The default is 25 %.
fn scaled(bound: Option<&IntOrString>, of: i32, rounding: Rounding) -> i32 {
    let quarter = || IntOrString::String("25%".to_owned());
    share::scaled(&bound.cloned().unwrap_or_else(quarter), of, rounding)
}

/// The requested number of a ReplicaSet's replicas.
pub(crate) fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The sum of numbers of pods. Clients may write any numbers: a sum is at most the largest there is.
pub(crate) fn total(numbers: impl IntoIterator<Item = i32>) -> i32 {
    numbers.into_iter().fold(0, i32::saturating_add)
}

/// The pods of a ReplicaSet that are available.
pub(crate) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// The pods that a ReplicaSet has.
pub(crate) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn bounds(replicas: i32, surge: Value, unavailable: Value) -> (i32, i32) {
        let deployment: Deployment = serde_json::from_value(json!({ "spec": {
            "replicas": replicas, "selector": {}, "template": {},
            "strategy": { "type": "RollingUpdate",
                "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } } } }))
        .expect("a deployment");
        (surge_max(&deployment), unavailable_max(&deployment))
    }

    #[test]
    fn percentages_are_rounded_so_that_a_rollout_can_always_proceed() {
        assert_eq!(bounds(10, json!("25%"), json!("25%")), (3, 2));
        assert_eq!(bounds(1, json!("25%"), json!("25%")), (1, 0));
        assert_eq!(bounds(1, json!("0%"), json!("25%")), (0, 1));
        assert_eq!(bounds(10, json!(0), json!(1)), (0, 1));
        assert_eq!(bounds(3, json!(1), json!(9)), (1, 3));
        assert_eq!(bounds(0, json!("25%"), json!("25%")), (0, 0));
        assert_eq!(bounds(4, json!(null), json!(null)), (1, 1));
        assert_eq!(bounds(3, json!("9223372036854775807%"), json!("0%")).1, 0);
    }
}
