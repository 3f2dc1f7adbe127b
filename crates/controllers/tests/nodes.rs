//! Nodes without heartbeats, deleted nodes and their pods; usage of quotas.

mod cluster;

use std::time::Duration;

use cluster::{Cluster, within};
use coffer_controllers::Options;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, ResourceQuota, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::json;

fn bound_pod(node: &str, tolerations: serde_json::Value) -> serde_json::Value {
    json!({ "metadata": { "name": "mypod" }, "spec": { "nodeName": node,
        "tolerations": tolerations, "containers": [{ "name": "c", "image": "redis" }] } })
}

fn ready(node: Option<&Node>) -> Option<(String, String)> {
    let conditions = node?.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    Some((found.status.clone(), found.reason.clone().unwrap_or_default()))
}

fn taints(node: Option<&Node>) -> Vec<String> {
    let taints = node.and_then(|node| node.spec.as_ref()).and_then(|spec| spec.taints.clone());
    let shown =
        |taint: &k8s_openapi::api::core::v1::Taint| format!("{}:{}", taint.key, taint.effect);
    taints.iter().flatten().map(shown).collect()
}

/// Without heartbeats a node becomes unknown and tainted, and its pod is evicted. After a heartbeat the
/// taints are removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_heartbeats_is_tainted_and_its_pods_are_evicted() {
    let grace = Duration::from_secs(1);
    let options = Options { node_monitor_grace_period: grace, ..Options::default() };
    let cluster = Cluster::with(options).await;
    cluster.node("node1", json!({})).await;
    let pods = cluster.namespaced::<Pod>();
    let soon = json!([{ "key": "node.kubernetes.io/unreachable", "operator": "Exists",
                        "effect": "NoExecute", "tolerationSeconds": 1 }]);
    let pod = cluster.create(&pods, bound_pod("node1", soon)).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let unreachable = |node: Option<&Node>| {
        ready(node) == Some(("Unknown".into(), "NodeStatusUnknown".into()))
            && taints(node)
                == [
                    "node.kubernetes.io/unreachable:NoSchedule",
                    "node.kubernetes.io/unreachable:NoExecute",
                ]
    };
    within("unknown", await_condition(nodes.clone(), "node1", unreachable)).await;
    let evicted =
        |pod: Option<&Pod>| pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
    within("evicted", await_condition(pods.clone(), "mypod", evicted)).await;
    let uid = pod.metadata.uid.unwrap();
    let now = DeleteParams::default().grace_period(0);
    pods.delete("mypod", &now).await.unwrap();
    within("deleted", await_condition(pods, "mypod", conditions::is_deleted(&uid))).await;

    let alive = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True",
        "reason": "KubeletReady", "lastHeartbeatTime": "2026-01-01T00:00:00Z" }] } });
    let params = PatchParams::default();
    nodes.patch_status("node1", &params, &Patch::Strategic(alive)).await.unwrap();
    let untainted = |node: Option<&Node>| node.is_some() && taints(node).is_empty();
    within("no taints", await_condition(nodes, "node1", untainted)).await;
    cluster.stop().await;
}

/// Of two nodes that do not update their status, the one that renews its Lease stays ready until the other is
/// unknown, although Leases are listed and not watched. For the same reason the deletion of its Lease is
/// tested.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_lease_is_a_heartbeat_and_is_deleted_with_its_node() {
    let options =
        Options { node_monitor_grace_period: Duration::from_secs(4), ..Options::default() };
    let cluster = Cluster::with(options).await;
    let alive = cluster.node("alive", json!({})).await;
    cluster.node("unresponsive", json!({})).await;
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), "kube-node-lease");
    let owner = json!([{ "apiVersion": "v1", "kind": "Node", "name": "alive",
                         "uid": alive.metadata.uid }]);
    let lease = json!({ "metadata": { "name": "alive", "ownerReferences": owner }, "spec": {} });
    let lease = cluster.create(&leases, lease).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let renew = async {
        for count in 0_u32.. {
            let time = format!("2026-01-01T00:00:00.{count:06}Z");
            let patch = Patch::Merge(json!({ "spec": { "renewTime": time } }));
            leases.patch("alive", &PatchParams::default(), &patch).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let unknown = |node: Option<&Node>| ready(node).is_some_and(|(status, _)| status == "Unknown");
    tokio::select! {
        () = renew => {}
        () = async {
            within("unknown", await_condition(nodes.clone(), "unresponsive", unknown)).await;
        } => {}
    }
    let node = nodes.get("alive").await.unwrap();
    assert_eq!(ready(Some(&node)), Some(("True".into(), "KubeletReady".into())));
    nodes.delete("alive", &DeleteParams::default()).await.unwrap();
    let uid = lease.metadata.uid.unwrap();
    within("deleted", await_condition(leases.clone(), "alive", conditions::is_deleted(&uid))).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_of_a_deleted_node_are_deleted() {
    let grace = Duration::from_secs(1);
    let options = Options { missing_node_grace_period: grace, ..Options::default() };
    let cluster = Cluster::with(options).await;
    cluster.node("node1", json!({})).await;
    let pods = cluster.namespaced::<Pod>();
    let pod = cluster.create(&pods, bound_pod("node1", json!([]))).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    nodes.delete("node1", &DeleteParams::default()).await.unwrap();
    let uid = pod.metadata.uid.unwrap();
    within("deleted", await_condition(pods, "mypod", conditions::is_deleted(&uid))).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_reports_the_usage_of_its_namespace() {
    let cluster = Cluster::start().await;
    let quotas = cluster.namespaced::<ResourceQuota>();
    let hard = json!({ "hard": { "secrets": "10", "pods": "4", "requests.cpu": "2" } });
    cluster.create(&quotas, json!({ "metadata": { "name": "q" }, "spec": hard })).await;
    let secrets = cluster.namespaced::<Secret>();
    for name in ["a", "b"] {
        cluster.create(&secrets, json!({ "metadata": { "name": name } })).await;
    }
    let asks = json!({ "requests": { "cpu": "250m" } });
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [
        { "name": "c", "image": "redis", "resources": asks }] } });
    cluster.create(&cluster.namespaced::<Pod>(), pod).await;
    let used = |expected: [&'static str; 3]| {
        move |quota: Option<&ResourceQuota>| {
            let used = quota.and_then(|quota| quota.status.as_ref()?.used.as_ref());
            used.is_some_and(|used| {
                let keys = ["pods", "requests.cpu", "secrets"];
                keys.map(|key| used.get(key).map_or("", |amount| &amount.0)) == expected
            })
        }
    };
    // The namespace's default account has a token, which counts too.
    let full = await_condition(quotas.clone(), "q", used(["1", "250m", "3"]));
    within("counted", full).await;
    secrets.delete("a", &DeleteParams::default()).await.unwrap();
    within("one less", await_condition(quotas, "q", used(["1", "250m", "2"]))).await;
    cluster.stop().await;
}
