//! Disruption budgets against a real API server, with evictions and kubectl.

mod cluster;

use cluster::{Cluster, within};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kube::api::{EvictParams, ListParams, Patch};
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};
use serde_json::json;

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: 'redis:1'}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec:
  maxUnavailable: 1
  selector: {matchLabels: {app: web}}
";

/// Waits for a status with these numbers: expected, desired, healthy, allowed.
async fn counted(cluster: &Cluster, name: &str, wanted: [i32; 4]) -> PodDisruptionBudgetStatus {
    let budgets: Api<PodDisruptionBudget> = cluster.namespaced();
    let says = move |budget: Option<&PodDisruptionBudget>| {
        let Some(budget) = budget else { return false };
        let status = budget.status.clone().unwrap_or_default();
        let found = [
            status.expected_pods,
            status.desired_healthy,
            status.current_healthy,
            status.disruptions_allowed,
        ];
        found == wanted && status.observed_generation == budget.metadata.generation
    };
    let found = within("the count", await_condition(budgets, name, says)).await;
    found.and_then(|budget| budget.status).expect("it was counted")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_counts_its_pods_and_follows_evictions_and_scales() {
    let cluster = Cluster::start().await.with_scheduler().await.with_kubelets();
    cluster.node("node1", json!({})).await;
    cluster.kubectl(&["apply", "-f", "-"], WEB).await;
    let status = counted(&cluster, "web", [3, 2, 3, 1]).await;
    let condition = &status.conditions.expect("one")[0];
    assert_eq!((&*condition.type_, &*condition.status), ("DisruptionAllowed", "True"));
    assert_eq!(condition.reason, "SufficientPods");
    let table = cluster.kubectl(&["get", "pdb", "web", "--no-headers"], "").await;
    let cells: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(cells[..4], ["web", "N/A", "1", "1"], "{table}");

    // One pod is evicted and replaced. Then the budget allows the next eviction.
    let pods = cluster.namespaced::<Pod>();
    let evicted = pods.list(&ListParams::default()).await.unwrap().items[0].name_any();
    pods.evict(&evicted, &EvictParams::default()).await.unwrap();
    let status = counted(&cluster, "web", [3, 2, 3, 1]).await;
    assert!(status.disrupted_pods.is_none_or(|pods| pods.is_empty()));

    let scale = |replicas: i32| Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    let deployments = cluster.namespaced::<Deployment>();
    deployments.patch("web", &Default::default(), &scale(5)).await.unwrap();
    counted(&cluster, "web", [5, 4, 5, 1]).await;

    let half = json!({ "spec": { "maxUnavailable": null, "minAvailable": "50%" } });
    let budgets: Api<PodDisruptionBudget> = cluster.namespaced();
    budgets.patch("web", &Default::default(), &Patch::Merge(half)).await.unwrap();
    counted(&cluster, "web", [5, 3, 5, 2]).await;
    deployments.patch("web", &Default::default(), &scale(0)).await.unwrap();
    counted(&cluster, "web", [0, 0, 0, 0]).await;
    cluster.stop().await;
}

/// The pods' controller has no scale.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_whose_pods_cannot_be_counted_allows_no_eviction_and_reports_the_reason() {
    let cluster = Cluster::start().await;
    let node = cluster.node("node1", json!({})).await;
    let owner = json!({ "apiVersion": "v1", "kind": "Node", "name": "node1",
        "uid": node.metadata.uid, "controller": true });
    let pod = json!({
        "metadata": { "name": "p", "labels": { "app": "web" }, "ownerReferences": [owner] },
        "spec": { "containers": [{ "name": "c", "image": "redis" }] } });
    cluster.create(&cluster.namespaced::<Pod>(), pod).await;
    let budget = json!({ "metadata": { "name": "web" }, "spec": { "minAvailable": "50%",
        "selector": { "matchLabels": { "app": "web" } } } });
    let budgets: Api<PodDisruptionBudget> = cluster.namespaced();
    cluster.create(&budgets, budget).await;
    let why = "nodes does not implement the scale subresource";
    let says = move |budget: Option<&PodDisruptionBudget>| {
        let status = budget.and_then(|budget| budget.status.as_ref());
        let conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|one| one.reason == "SyncFailed" && one.message == why)
    };
    within("the failure", await_condition(budgets, "web", says)).await;
    cluster.stop().await;
}

/// `kubectl drain` evicts one pod after the other, as the budget allows.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_evicts_one_pod_at_a_time() {
    let cluster = Cluster::start().await.with_scheduler().await.with_kubelets();
    cluster.node("node1", json!({})).await;
    cluster.kubectl(&["apply", "-f", "-"], WEB).await;
    counted(&cluster, "web", [3, 2, 3, 1]).await;
    cluster.node("node2", json!({})).await;
    let drained = cluster.kubectl(&["drain", "node1", "--timeout=60s"], "").await;
    assert!(drained.contains("node/node1 drained"), "{drained}");
    counted(&cluster, "web", [3, 2, 3, 1]).await;
    let all = cluster.namespaced::<Pod>().list(&ListParams::default()).await.unwrap().items;
    let stay = all.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let nodes: Vec<_> = stay.filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()).collect();
    assert_eq!(nodes, ["node2"; 3]);
    cluster.stop().await;
}
