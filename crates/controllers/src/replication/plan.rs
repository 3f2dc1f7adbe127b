//! The pods to create or delete, and the counts in the status. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::rank::sort_for_deletion;
use crate::pod::{Pod, is_active, is_available, is_ready};

/// Pods created or deleted in one reconcile at most: upstream's `BurstReplicas`.
pub(crate) const BURST_MAX: usize = 500;

/// What to do with the pods of a controller.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// The number is right.
    Nothing,
    /// Create this many.
    Create(usize),
    /// Delete these.
    Delete(Vec<Arc<Pod>>),
}

/// Compares the pods with the requested number. `related` finds the pods of all objects with the same owner;
/// it is called only if pods have to be deleted.
pub(crate) fn plan(
    desired: usize,
    pods: &[Arc<Pod>],
    related: impl FnOnce() -> Vec<Arc<Pod>>,
    now: Timestamp,
) -> Action {
    if pods.len() < desired {
        return Action::Create((desired - pods.len()).min(BURST_MAX));
    }
    let surplus_count = (pods.len() - desired).min(BURST_MAX);
    if surplus_count == 0 {
        return Action::Nothing;
    }
    let mut surplus = pods.to_vec();
    sort_for_deletion(&mut surplus, &related(), now);
    surplus.truncate(surplus_count);
    Action::Delete(surplus)
}

/// The counts in a status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// All pods.
    pub(crate) replicas: i32,
    /// Those with all labels of the template.
    pub(crate) fully_labeled: i32,
    /// Those that are ready.
    pub(crate) ready: i32,
    /// Those that have been ready long enough.
    pub(crate) available: i32,
}

/// Counts pods.
pub(crate) fn count(
    pods: &[Arc<Pod>],
    template: Option<&PodTemplateSpec>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Counts {
    let wanted = template.and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    let fully_labeled = |pod: &Pod| {
        wanted.into_iter().flatten().all(|(key, value)| {
            pod.metadata.labels.as_ref().and_then(|labels| labels.get(key)) == Some(value)
        })
    };
    let number = |holds: &dyn Fn(&Pod) -> bool| {
        let count = pods.iter().filter(|pod| holds(pod)).count();
        i32::try_from(count).unwrap_or(i32::MAX)
    };
    Counts {
        replicas: number(&|_| true),
        fully_labeled: number(&fully_labeled),
        ready: number(&is_ready),
        available: number(&|pod| is_available(pod, min_ready_seconds, now)),
    }
}

/// A new pod of a template. The API server generates its name.
pub(crate) fn pod_of(
    template: &PodTemplateSpec,
    owner: &str,
    reference: OwnerReference,
) -> v1::Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    v1::Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{owner}-")),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![reference]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The pods that count towards the requested number.
pub(crate) fn active(pods: impl IntoIterator<Item = Arc<Pod>>) -> Vec<Arc<Pod>> {
    pods.into_iter().filter(|pod| is_active(pod)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().expect("a time")
    }

    fn pod(name: &str, status: Value) -> Arc<Pod> {
        let pod = json!({ "metadata": { "name": name, "uid": name, "labels": { "app": "web" } },
                          "spec": { "nodeName": "n", "containers": [] }, "status": status });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn ready(since: &str) -> Value {
        json!({ "phase": "Running", "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": since }] })
    }

    #[test]
    fn missing_pods_are_created_and_surplus_ones_deleted() {
        let pods = vec![
            pod("a", ready("2026-01-01T00:00:00Z")),
            pod("b", json!({ "phase": "Pending" })),
            pod("c", ready("2026-01-01T00:00:00Z")),
        ];
        let none = || panic!("related pods are found only to choose what to delete");
        assert_eq!(plan(5, &pods, none, now()), Action::Create(2));
        assert_eq!(plan(3, &pods, none, now()), Action::Nothing);
        let Action::Delete(surplus) = plan(2, &pods, || pods.clone(), now()) else {
            panic!("no deletion")
        };
        assert_eq!(surplus.len(), 1);
        assert_eq!(surplus[0].metadata.name.as_deref(), Some("b"), "the one that is not ready");
        assert_eq!(plan(100_000, &[], none, now()), Action::Create(BURST_MAX));
    }

    #[test]
    fn pods_that_have_ended_or_are_being_deleted_do_not_count() {
        let mut deleted = Pod::clone(&pod("deleted", json!({ "phase": "Running" })));
        deleted.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
        let pods = [
            pod("ended", json!({ "phase": "Succeeded" })),
            pod("failed", json!({ "phase": "Failed" })),
            Arc::new(deleted),
            pod("pending", json!({ "phase": "Pending" })),
        ];
        let active = active(pods);
        assert_eq!(active.len(), 1);
        assert_eq!(active[0].metadata.name.as_deref(), Some("pending"));
    }

    #[test]
    fn a_status_counts_ready_and_available_pods() {
        let template: PodTemplateSpec = serde_json::from_value(json!({
            "metadata": { "labels": { "app": "web" } } }))
        .expect("a template");
        let pods = [
            pod("a", ready("2026-01-01T00:00:00Z")),
            pod("b", ready("2026-01-01T00:00:55Z")),
            pod("c", json!({ "phase": "Running" })),
        ];
        let counts = |min_ready| count(&pods, Some(&template), min_ready, now());
        assert_eq!(counts(0), Counts { replicas: 3, fully_labeled: 3, ready: 2, available: 2 });
        assert_eq!(counts(10), Counts { replicas: 3, fully_labeled: 3, ready: 2, available: 1 });
    }

    #[test]
    fn a_new_pod_has_the_fields_of_its_template_and_its_owner() {
        let template: PodTemplateSpec = serde_json::from_value(json!({
            "metadata": { "labels": { "app": "web" }, "annotations": { "a": "b" }, "name": "no" },
            "spec": { "containers": [{ "name": "c" }] } }))
        .expect("a template");
        let pod = pod_of(&template, "rs", OwnerReference::default());
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("rs-"));
        assert_eq!(pod.metadata.name, None);
        assert_eq!(pod.metadata.labels.as_ref().map(|labels| labels.len()), Some(1));
        assert_eq!(pod.spec, template.spec);
    }
}
