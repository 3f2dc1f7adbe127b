//! The conditions and taints of a node, by its heartbeat, its conditions and whether it is cordoned. Pure.

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
/// Conditions that become unknown without heartbeats, in upstream's order.
const UNKNOWN_WITHOUT_HEARTBEAT: [ConditionType; 4] = [
    ConditionType::Ready,
    ConditionType::MemoryPressure,
    ConditionType::DiskPressure,
    ConditionType::PidPressure,
];

/// The age of a node's last heartbeat, compared with the grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// Younger than the grace period.
    Recent,
    /// At least as old as the grace period.
    Overdue,
}

impl Heartbeat {
    /// Compares an age with a grace period.
    pub(crate) fn of(age: Duration, grace: Duration) -> Self {
        if age < grace { Self::Recent } else { Self::Overdue }
    }
}

/// The conditions that the node should have, if they differ from those that it has.
pub(crate) fn conditions(
    node: &Node,
    heartbeat: Heartbeat,
    now: Timestamp,
) -> Option<Vec<NodeCondition>> {
    if heartbeat == Heartbeat::Recent {
        return None;
    }
    let mut all = node.status.as_ref().and_then(|status| status.conditions.clone());
    let all = all.get_or_insert_default();
    let before = all.clone();
    for type_ in UNKNOWN_WITHOUT_HEARTBEAT {
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

/// The taints that the node should have, if they differ from those that it has. Taints of other clients are
/// kept.
pub(crate) fn taints(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let before = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let wanted = wanted(node);
    let mut after: Vec<Taint> = before
        .iter()
        .filter(|taint| !is_managed(taint) || wanted.contains(&(&*taint.key, &*taint.effect)))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !after.iter().any(|taint| taint.key == key && taint.effect == effect) {
            after.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                // Tolerated times count from here.
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
        Some(ConditionStatus::False) => {
            wanted.extend([(NOT_READY, NO_SCHEDULE), (NOT_READY, NO_EXECUTE)])
        }
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

/// Whether this controller adds and removes the taint.
fn is_managed(taint: &Taint) -> bool {
    let pressure = PRESSURES.iter().any(|(_, key)| *key == taint.key);
    match taint.effect.as_str() {
        NO_SCHEDULE => {
            pressure || [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
        }
        NO_EXECUTE => [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()),
        _ => false,
    }
}

/// Whether the pods of a node may have to be evicted or marked as not ready.
pub(crate) fn affects_pods(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    !pod_statuses_are_current(node) || taints.any(|taint| taint.effect == NO_EXECUTE)
}

/// Whether the statuses that a node's kubelet has reported for its pods are current: the node is ready, or
/// has no status yet.
pub(crate) fn pod_statuses_are_current(node: &Node) -> bool {
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
    fn the_conditions_of_a_node_without_heartbeats_become_unknown_once() {
        let mut node = node(ready("True"), json!({}));
        assert_eq!(conditions(&node, Heartbeat::Recent, now()), None);
        let unknown = conditions(&node, Heartbeat::Overdue, now()).expect("conditions");
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
        assert_eq!(conditions(&node, Heartbeat::Overdue, now()), None);
    }

    #[test]
    fn taints_follow_conditions_and_other_taints_are_kept() {
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
