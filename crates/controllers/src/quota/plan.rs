//! What the objects of a namespace use of a quota. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{
    Pod, ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus, ScopedResourceSelectorRequirement,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::pod::is_terminal;
use crate::scheduler::demand::{Resources, limits, requests};

/// The status a quota should have, if it should have another one. `count` answers how many objects
/// of a resource (`secrets.`, `deployments.apps`) there are, if that resource is served.
pub fn plan(
    quota: &ResourceQuota,
    pods: &[Arc<Pod>],
    count: impl Fn(&str) -> Option<usize>,
) -> Option<ResourceQuotaStatus> {
    let no_spec = ResourceQuotaSpec::default();
    let spec = quota.spec.as_ref().unwrap_or(&no_spec);
    let matching: Vec<&Pod> =
        pods.iter().map(|pod| &**pod).filter(|pod| in_scope(spec, pod)).collect();
    let live: Vec<&Pod> = matching.iter().copied().filter(|pod| !is_terminal(pod)).collect();
    let (requested, limited) = (total(&live, requests), total(&live, limits));
    let mut used = BTreeMap::new();
    for resource in spec.hard.iter().flat_map(BTreeMap::keys) {
        let amount = match resource.as_str() {
            "pods" => Some(number(live.len())),
            "count/pods" => Some(number(matching.len())),
            "cpu" | "memory" | "ephemeral-storage" => Some(requested.get(resource)),
            other => match other.split_once('.') {
                Some(("requests", resource)) => Some(requested.get(resource)),
                Some(("limits", resource)) => Some(limited.get(resource)),
                _ => count(&qualified(other)).map(number),
            },
        };
        if let Some(amount) = amount {
            used.insert(resource.clone(), amount.to_text());
        }
    }
    let hard: BTreeMap<String, Text> = spec.hard.clone().unwrap_or_default();
    let status = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
    (quota.status.as_ref() != Some(&status)).then_some(status)
}

/// `secrets` and `count/deployments.apps` as the inventory names resources.
fn qualified(resource: &str) -> String {
    let resource = resource.strip_prefix("count/").unwrap_or(resource);
    if resource.contains('.') { resource.to_owned() } else { format!("{resource}.") }
}

fn number(count: usize) -> Quantity {
    Quantity::whole(i64::try_from(count).unwrap_or(i64::MAX))
}

fn total(pods: &[&Pod], of: fn(&k8s_openapi::api::core::v1::PodSpec) -> Resources) -> Resources {
    let mut total = Resources::default();
    for spec in pods.iter().filter_map(|pod| pod.spec.as_ref()) {
        total.add(&of(spec));
    }
    total
}

/// Whether a pod is one of those that the quota is about.
fn in_scope(spec: &ResourceQuotaSpec, pod: &Pod) -> bool {
    let plain = spec.scopes.iter().flatten();
    let selected = spec.scope_selector.iter();
    let selected = selected.flat_map(|selector| selector.match_expressions.iter().flatten());
    plain.into_iter().all(|scope| has_scope(scope, pod))
        && selected.into_iter().all(|requirement| matches(requirement, pod))
}

fn has_scope(scope: &str, pod: &Pod) -> bool {
    let deadline = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
    let best_effort = || {
        let class = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
        class == Some("BestEffort")
    };
    match scope {
        "Terminating" => deadline.is_some_and(|seconds| seconds >= 0),
        "NotTerminating" => deadline.is_none(),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => priority_class(pod).is_some(),
        _ => false,
    }
}

fn matches(requirement: &ScopedResourceSelectorRequirement, pod: &Pod) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed =
        || priority_class(pod).is_some_and(|class| values.iter().any(|value| value == class));
    match (requirement.scope_name.as_str(), requirement.operator.as_str()) {
        ("PriorityClass", "In") => listed(),
        ("PriorityClass", "NotIn") => !listed(),
        (scope, "Exists") => has_scope(scope, pod),
        (scope, "DoesNotExist") => !has_scope(scope, pod),
        _ => false,
    }
}

fn priority_class(pod: &Pod) -> Option<&str> {
    let class = pod.spec.as_ref()?.priority_class_name.as_deref();
    class.filter(|class| !class.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn quota(spec: Value) -> ResourceQuota {
        serde_json::from_value(json!({ "metadata": { "name": "q" }, "spec": spec }))
            .expect("a quota")
    }

    fn pod(cpu: &str, extra: Value, phase: &str) -> Arc<Pod> {
        let mut spec = json!({ "containers": [{ "name": "c", "resources": {
            "requests": { "cpu": cpu }, "limits": { "cpu": "1" } } }] });
        for (key, value) in extra.as_object().expect("a spec") {
            spec[key] = value.clone();
        }
        let qos = json!({ "phase": phase, "qosClass": "Burstable" });
        Arc::new(serde_json::from_value(json!({ "spec": spec, "status": qos })).expect("a pod"))
    }

    fn used(spec: Value, pods: &[Arc<Pod>]) -> Value {
        let count = |resource: &str| match resource {
            "secrets." => Some(3),
            "deployments.apps" => Some(2),
            _ => None,
        };
        let status = plan(&quota(spec), pods, count).expect("a first status");
        serde_json::to_value(status.used).expect("amounts")
    }

    #[test]
    fn objects_are_counted_and_requests_added_up() {
        let pods = [
            pod("250m", json!({}), "Running"),
            pod("500m", json!({}), "Pending"),
            pod("4", json!({}), "Succeeded"),
        ];
        let hard = json!({ "hard": { "pods": "4", "count/pods": "9", "requests.cpu": "2",
            "cpu": "2", "limits.cpu": "4", "secrets": "10", "count/deployments.apps": "5",
            "widgets.example.com": "1" } });
        assert_eq!(
            used(hard, &pods),
            json!({ "pods": "2", "count/pods": "3", "requests.cpu": "750m", "cpu": "750m",
                    "limits.cpu": "2", "secrets": "3", "count/deployments.apps": "2" }),
        );
    }

    #[test]
    fn a_scope_narrows_down_the_pods() {
        let pods = [
            pod("1", json!({ "activeDeadlineSeconds": 60 }), "Running"),
            pod("1", json!({ "priorityClassName": "high" }), "Running"),
            pod("1", json!({}), "Running"),
        ];
        let pods_of = |scopes: Value| {
            let mut spec = scopes;
            spec["hard"] = json!({ "pods": "9" });
            used(spec, &pods)["pods"].clone()
        };
        assert_eq!(pods_of(json!({ "scopes": ["Terminating"] })), "1");
        assert_eq!(pods_of(json!({ "scopes": ["NotTerminating"] })), "2");
        assert_eq!(pods_of(json!({ "scopes": ["BestEffort"] })), "0");
        assert_eq!(pods_of(json!({ "scopes": ["NotBestEffort", "NotTerminating"] })), "2");
        let class = |operator: &str, values: Value| {
            json!({ "scopeSelector": { "matchExpressions": [
                { "scopeName": "PriorityClass", "operator": operator, "values": values }] } })
        };
        assert_eq!(pods_of(class("In", json!(["high"]))), "1");
        assert_eq!(pods_of(class("NotIn", json!(["high"]))), "2");
        assert_eq!(pods_of(class("Exists", json!([]))), "1");
    }

    #[test]
    fn a_status_that_is_right_is_left_alone() {
        let mut quota = quota(json!({ "hard": { "pods": "4" } }));
        let pods = [pod("1", json!({}), "Running")];
        quota.status = plan(&quota, &pods, |_| None);
        assert!(quota.status.is_some());
        assert_eq!(plan(&quota, &pods, |_| None), None);
    }
}
