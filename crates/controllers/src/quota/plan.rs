//! The status a quota should have. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_api::quota::used;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus};

/// The status a quota should have, if it should have another one. `count` answers how many objects
/// of a resource (`secrets.`, `deployments.apps`) there are, if that resource is served.
pub fn plan(
    quota: &ResourceQuota,
    pods: &[Arc<Pod>],
    count: impl Fn(&str) -> Option<usize>,
) -> Option<ResourceQuotaStatus> {
    let no_spec = ResourceQuotaSpec::default();
    let spec = quota.spec.as_ref().unwrap_or(&no_spec);
    let pods: Vec<&Pod> = pods.iter().map(|pod| &**pod).collect();
    let names = spec.hard.iter().flat_map(BTreeMap::keys);
    let used = used(spec, names, &pods, count);
    let used = used.into_iter().map(|(name, amount)| (name, amount.to_text())).collect();
    let hard = spec.hard.clone().unwrap_or_default();
    let status = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
    (quota.status.as_ref() != Some(&status)).then_some(status)
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
