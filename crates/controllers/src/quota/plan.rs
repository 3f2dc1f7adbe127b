//! The status a quota should have. Pure.

use std::collections::BTreeMap;

use coffer_api::quota::{Amounts, used};
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus};

/// The status a quota should have, if it differs from the present one. `of_pods` is the usage of pods;
/// `count` returns the number of objects of a resource (`secrets.`, `deployments.apps`), if that resource is
/// served.
pub(crate) fn plan(
    quota: &ResourceQuota,
    of_pods: &Amounts,
    count: impl Fn(&str) -> Option<usize>,
) -> Option<ResourceQuotaStatus> {
    let no_spec = ResourceQuotaSpec::default();
    let spec = quota.spec.as_ref().unwrap_or(&no_spec);
    let names = spec.hard.iter().flat_map(BTreeMap::keys);
    let mut used = used(spec, names, &[], count);
    for (name, amount) in &mut used {
        if let Some(of_pods) = of_pods.get(name) {
            amount.add(of_pods);
        }
    }
    let used = used.into_iter().map(|(name, amount)| (name, amount.to_text())).collect();
    let hard = spec.hard.clone().unwrap_or_default();
    let status = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
    (quota.status.as_ref() != Some(&status)).then_some(status)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::tally::Tally;
    use super::*;
    use crate::pod::Pod;

    fn quota(spec: Value) -> ResourceQuota {
        serde_json::from_value(json!({ "metadata": { "name": "q" }, "spec": spec }))
            .expect("a quota")
    }

    fn counted(quota: &ResourceQuota, pods: &[Arc<Pod>]) -> Amounts {
        Tally::of(quota.spec.clone().unwrap_or_default(), pods).total().clone()
    }

    fn pod(cpu: &str, extra: Value, phase: &str) -> Arc<Pod> {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut spec = json!({ "containers": [{ "name": "c", "resources": {
            "requests": { "cpu": cpu }, "limits": { "cpu": "1" } } }] });
        for (key, value) in extra.as_object().expect("a spec") {
            spec[key] = value.clone();
        }
        let qos = json!({ "phase": phase, "qosClass": "Burstable" });
        let meta = json!({ "name": format!("p{number}") });
        Arc::new(
            serde_json::from_value(json!({ "metadata": meta, "spec": spec, "status": qos }))
                .expect("a pod"),
        )
    }

    fn used(spec: Value, pods: &[Arc<Pod>]) -> Value {
        let count = |resource: &str| match resource {
            "secrets." => Some(3),
            "deployments.apps" => Some(2),
            _ => None,
        };
        let quota = quota(spec);
        let status = plan(&quota, &counted(&quota, pods), count).expect("a first status");
        serde_json::to_value(status.used).expect("amounts")
    }

    #[test]
    fn objects_are_counted_and_requests_summed_up() {
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
    fn a_scope_selects_pods() {
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
    fn a_correct_status_is_not_written() {
        let mut quota = quota(json!({ "hard": { "pods": "4" } }));
        let pods = [pod("1", json!({}), "Running")];
        let of_pods = counted(&quota, &pods);
        quota.status = plan(&quota, &of_pods, |_| None);
        assert!(quota.status.is_some());
        assert_eq!(plan(&quota, &of_pods, |_| None), None);
    }
}
