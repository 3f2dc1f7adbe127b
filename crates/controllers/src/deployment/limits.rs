//! How many pods a Deployment may have too many, or too few, while it changes.

use coffer_api::share::{self, Rounding};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The replicas asked for.
pub(crate) fn desired(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Whether pods are replaced step by step, not all at once.
pub(crate) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate")
}

/// Pods above the number asked for that a rollout may have.
pub(crate) fn surge_max(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) { resolved(deployment).0 } else { 0 }
}

/// Pods below the number asked for that a rollout may have.
pub(crate) fn unavailable_max(deployment: &Deployment) -> i32 {
    let desired = desired(deployment);
    if is_rolling(deployment) && desired != 0 { resolved(deployment).1.min(desired) } else { 0 }
}

/// Surge rounds up and unavailability down; if both come to nothing, no step could be made, so one
/// pod may be missing.
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

/// A number, or a percentage of the pods asked for; absent is 25 %, as defaulting has it.
fn scaled(bound: Option<&IntOrString>, of: i32, rounding: Rounding) -> i32 {
    let quarter = || IntOrString::String("25%".to_owned());
    share::scaled(&bound.cloned().unwrap_or_else(quarter), of, rounding)
}

/// The replicas a ReplicaSet is asked for.
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

/// The pods of a ReplicaSet that are there.
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
    fn percentages_round_so_that_a_rollout_can_always_step() {
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
