//! Taints keep pods off nodes; tolerations exempt pods from taints.

use coffer_api::condition::{self, ConditionStatus, ConditionType};
use coffer_api::well_known::taint::{NOT_READY, UNREACHABLE, UNSCHEDULABLE};
use coffer_api::well_known::taint_effect::{NO_EXECUTE, NO_SCHEDULE, PREFER_NO_SCHEDULE};
use k8s_openapi::api::core::v1::{Node, PodSpec, Taint, Toleration};

/// The taints that keep pods off a node.
///
/// A node that is not ready counts as tainted before the node lifecycle controller has written its taint, so
/// that no pod is bound to it in between.
pub(crate) fn hard(node: &Node) -> Vec<Taint> {
    let written = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).cloned();
    let all = written.chain(readiness_taint(node));
    all.filter(|taint| taint.effect == NO_SCHEDULE || taint.effect == NO_EXECUTE).collect()
}

/// The first taint that the pod does not tolerate.
pub(crate) fn untolerated<'a>(spec: &PodSpec, taints: &'a [Taint]) -> Option<&'a Taint> {
    taints.iter().find(|taint| !is_tolerated(spec, taint))
}

/// Whether the pod may be bound to a cordoned node.
pub(crate) fn tolerates_unschedulable(spec: &PodSpec) -> bool {
    is_tolerated(spec, &no_schedule(UNSCHEDULABLE))
}

/// The number of taints with the effect `PreferNoSchedule` that the pod does not tolerate.
pub(crate) fn untolerated_preferences(spec: &PodSpec, node: &Node) -> i64 {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let count = taints
        .filter(|taint| taint.effect == PREFER_NO_SCHEDULE && !is_tolerated(spec, taint))
        .count();
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn readiness_taint(node: &Node) -> Option<Taint> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = condition::find(conditions, ConditionType::Ready);
    match ready.and_then(|ready| ConditionStatus::parse(&ready.status)) {
        Some(ConditionStatus::True) => None,
        Some(ConditionStatus::Unknown) => Some(no_schedule(UNREACHABLE)),
        _ => Some(no_schedule(NOT_READY)),
    }
}

fn no_schedule(key: &str) -> Taint {
    Taint { key: key.to_owned(), effect: NO_SCHEDULE.to_owned(), value: None, time_added: None }
}

fn is_tolerated(spec: &PodSpec, taint: &Taint) -> bool {
    spec.tolerations.iter().flatten().any(|toleration| tolerates(toleration, taint))
}

/// Whether a toleration tolerates a taint. An empty key or effect matches all.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    fn text(field: &Option<String>) -> &str {
        field.as_deref().unwrap_or_default()
    }
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => text(&toleration.value) == text(&taint.value),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(tolerations: Value) -> PodSpec {
        serde_json::from_value(json!({ "containers": [], "tolerations": tolerations }))
            .expect("a pod spec")
    }

    fn node(taints: Value, ready: Option<&str>) -> Node {
        let conditions: Vec<Value> =
            ready.iter().map(|status| json!({ "type": "Ready", "status": status })).collect();
        serde_json::from_value(json!({
            "spec": { "taints": taints }, "status": { "conditions": conditions } }))
        .expect("a node")
    }

    fn kept_off(spec: &PodSpec, node: &Node) -> Option<Taint> {
        untolerated(spec, &hard(node)).cloned()
    }

    #[test]
    fn a_toleration_matches_key_value_and_effect() {
        let taint = json!({ "key": "gpu", "value": "a100", "effect": "NoSchedule" });
        for (toleration, expected) in [
            (json!({ "key": "gpu", "operator": "Equal", "value": "a100" }), true),
            (json!({ "key": "gpu", "value": "a100", "effect": "NoSchedule" }), true),
            (json!({ "key": "gpu", "operator": "Exists" }), true),
            (json!({ "operator": "Exists" }), true),
            (json!({ "key": "gpu", "value": "t4" }), false),
            (json!({ "key": "gpu", "value": "a100", "effect": "NoExecute" }), false),
            (json!({ "key": "tpu", "operator": "Exists" }), false),
        ] {
            let kept_off =
                kept_off(&spec(json!([toleration])), &node(json!([taint]), Some("True")));
            assert_eq!(kept_off.is_none(), expected, "{toleration}");
        }
    }

    #[test]
    fn a_node_that_is_not_ready_counts_as_tainted_before_the_taint_is_written() {
        let key = |ready| kept_off(&spec(json!([])), &node(json!([]), ready)).map(|t| t.key);
        assert_eq!(key(Some("True")), None);
        assert_eq!(key(Some("False")).as_deref(), Some(NOT_READY));
        assert_eq!(key(Some("Unknown")).as_deref(), Some(UNREACHABLE));
        assert_eq!(key(None).as_deref(), Some(NOT_READY));
        let tolerant = spec(json!([{ "key": NOT_READY, "operator": "Exists" }]));
        assert_eq!(kept_off(&tolerant, &node(json!([]), Some("False"))), None);
    }

    #[test]
    fn a_prefer_no_schedule_taint_does_not_keep_a_pod_off() {
        let taints = json!([{ "key": "old", "effect": "PreferNoSchedule" }]);
        let node = node(taints, Some("True"));
        assert_eq!(kept_off(&spec(json!([])), &node), None);
        assert_eq!(untolerated_preferences(&spec(json!([])), &node), 1);
        assert_eq!(untolerated_preferences(&spec(json!([{ "operator": "Exists" }])), &node), 0);
    }
}
