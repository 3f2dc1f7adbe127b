//! What a node's silence, conditions and cordon mean for its conditions and taints. Pure.

use std::time::Duration;

use coffer_api::condition::{self, Condition, ConditionStatus, ConditionType};
use coffer_api::well_known::taint::{self, NOT_READY, UNREACHABLE, UNSCHEDULABLE};
use coffer_api::well_known::taint_effect::{NO_EXECUTE, NO_SCHEDULE};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Conditions that keep new pods off a node while they are true, with their taints.
const PRESSURES: [(ConditionType, &str); 4] = [
    (ConditionType::MemoryPressure, taint::MEMORY_PRESSURE),
    (ConditionType::DiskPressure, taint::DISK_PRESSURE),
    (ConditionType::PidPressure, taint::PID_PRESSURE),
    (ConditionType::NetworkUnavailable, taint::NETWORK_UNAVAILABLE),
];
/// What becomes unknown when a node falls silent, in upstream's order.
const UNKNOWN_WHEN_SILENT: [ConditionType; 4] = [
    ConditionType::Ready,
    ConditionType::MemoryPressure,
    ConditionType::DiskPressure,
    ConditionType::PidPressure,
];

/// How long a node has been silent, against how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It was heard of lately.
    Tolerable,
    /// It was not heard of for the whole grace period.
    TooLong,
}

impl Silence {
    /// Judges a time since the last sign of life.
    pub(crate) fn of(quiet: Duration, grace: Duration) -> Self {
        if quiet < grace { Self::Tolerable } else { Self::TooLong }
    }
}

/// The node's conditions as they should be, if they should be other ones.
pub(crate) fn conditions(
    node: &Node,
    silence: Silence,
    now: Timestamp,
) -> Option<Vec<NodeCondition>> {
    if silence == Silence::Tolerable {
        return None;
    }
    let mut all = node.status.as_ref().and_then(|status| status.conditions.clone());
    let all = all.get_or_insert_default();
    let before = all.clone();
    for type_ in UNKNOWN_WHEN_SILENT {
        match all.iter_mut().find(|condition| condition.is(type_)) {
            Some(condition) if condition.status == ConditionStatus::Unknown.as_str() => {}
            Some(condition) => {
                condition.status = ConditionStatus::Unknown.into();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(Time(now));
            }
            None => all.push(NodeCondition {
                type_: type_.into(),
                status: ConditionStatus::Unknown.into(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    (*all != before).then(|| all.clone())
}

/// The node's taints as they should be, if they should be other ones. Taints of others stay.
pub(crate) fn taints(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let before = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let wanted = wanted(node);
    let mut after: Vec<Taint> = before
        .iter()
        .filter(|taint| !is_ours(taint) || wanted.contains(&(&*taint.key, &*taint.effect)))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !after.iter().any(|taint| taint.key == key && taint.effect == effect) {
            after.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                // Eviction counts from here.
                time_added: Some(Time(now)),
            });
        }
    }
    (after != before).then_some(after)
}

fn wanted(node: &Node) -> Vec<(&'static str, &'static str)> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let status = |type_| {
        let found = condition::find(conditions.clone(), type_)?;
        ConditionStatus::parse(&found.status)
    };
    let mut wanted = Vec::new();
    match status(ConditionType::Ready) {
        Some(ConditionStatus::False) => wanted.extend([(NOT_READY, NO_SCHEDULE), (NOT_READY, NO_EXECUTE)]),
        Some(ConditionStatus::Unknown) => {
            wanted.extend([(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)]);
        }
        _ => {}
    }
    let pressing =
        PRESSURES.iter().filter(|(type_, _)| status(*type_) == Some(ConditionStatus::True));
    wanted.extend(pressing.map(|(_, taint)| (*taint, NO_SCHEDULE)));
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    wanted
}

/// Whether a taint is this controller's to add and to remove.
fn is_ours(taint: &Taint) -> bool {
    let pressure = PRESSURES.iter().any(|(_, key)| *key == taint.key);
    match taint.effect.as_str() {
        NO_SCHEDULE => {
            pressure || [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
        }
        NO_EXECUTE => [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()),
        _ => false,
    }
}

/// Whether nothing about a node concerns its pods: no taint makes them leave, and what they last said
/// can be believed.
pub(crate) fn is_left_alone(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    pods_are_ready(node) && !taints.any(|taint| taint.effect == NO_EXECUTE)
}

/// Whether what the pods of a node last said of themselves can still be believed.
pub(crate) fn pods_are_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    condition::find(conditions, ConditionType::Ready).is_none_or(Condition::holds)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a time")
    }

    fn node(conditions: Value, spec: Value) -> Node {
        serde_json::from_value(json!({ "metadata": { "name": "n" }, "spec": spec,
                                       "status": { "conditions": conditions } }))
        .expect("a node")
    }

    fn ready(status: &str) -> Value {
        json!([{ "type": "Ready", "status": status, "reason": "KubeletReady" },
               { "type": "MemoryPressure", "status": "False" }])
    }

    #[test]
    fn a_silent_node_is_unknown_and_only_once() {
        let mut node = node(ready("True"), json!({}));
        assert_eq!(conditions(&node, Silence::Tolerable, now()), None);
        let unknown = conditions(&node, Silence::TooLong, now()).expect("conditions");
        let shown: Vec<_> = unknown
            .iter()
            .map(|one| (&*one.type_, &*one.status, one.reason.as_deref().unwrap_or_default()))
            .collect();
        assert_eq!(
            shown,
            [
                ("Ready", "Unknown", "NodeStatusUnknown"),
                ("MemoryPressure", "Unknown", "NodeStatusUnknown"),
                ("DiskPressure", "Unknown", "NodeStatusNeverUpdated"),
                ("PIDPressure", "Unknown", "NodeStatusNeverUpdated"),
            ],
        );
        node.status.as_mut().expect("a status").conditions = Some(unknown);
        assert_eq!(conditions(&node, Silence::TooLong, now()), None);
    }

    #[test]
    fn taints_follow_conditions_and_leave_others_alone() {
        let keys = |node: &Node| -> Option<Vec<String>> {
            let taints = taints(node, now())?;
            Some(taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect())
        };
        assert_eq!(keys(&node(ready("True"), json!({}))), None);
        assert_eq!(
            keys(&node(ready("Unknown"), json!({}))).expect("taints"),
            [
                "node.kubernetes.io/unreachable:NoSchedule",
                "node.kubernetes.io/unreachable:NoExecute"
            ],
        );
        let cordoned = json!({ "unschedulable": true, "taints": [
            { "key": "gpu", "effect": "NoSchedule" },
            { "key": "node.kubernetes.io/unreachable", "effect": "NoExecute" }] });
        assert_eq!(
            keys(&node(ready("True"), cordoned)).expect("taints"),
            ["gpu:NoSchedule", "node.kubernetes.io/unschedulable:NoSchedule"],
        );
        let pressed = json!([{ "type": "Ready", "status": "False" },
                             { "type": "DiskPressure", "status": "True" }]);
        assert_eq!(
            keys(&node(pressed, json!({}))).expect("taints"),
            [
                "node.kubernetes.io/not-ready:NoSchedule",
                "node.kubernetes.io/not-ready:NoExecute",
                "node.kubernetes.io/disk-pressure:NoSchedule",
            ],
        );
        let done = json!({ "taints": [
            { "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" },
            { "key": "node.kubernetes.io/not-ready", "effect": "NoExecute" }] });
        assert_eq!(keys(&node(ready("False"), done)), None, "a taint keeps its time");
    }
}
