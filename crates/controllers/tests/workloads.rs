//! Deployments, ReplicaSets and ReplicationControllers against a real API server, with kubectl and fake
//! kubelets.

mod cluster;

use cluster::{Cluster, within};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kube::api::{DeleteParams, ListParams, Patch};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::json;

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: 'redis:1'}]}
";

async fn cluster() -> Cluster {
    let cluster = Cluster::start().await.with_scheduler().await.with_kubelets();
    cluster.node("node1", json!({})).await;
    cluster
}

async fn images(cluster: &Cluster) -> Vec<String> {
    let pods = cluster.namespaced::<Pod>().list(&ListParams::default()).await.unwrap();
    let live = pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    live.map(|pod| pod.spec.unwrap().containers[0].image.clone().unwrap()).collect()
}

async fn rolled_out(cluster: &Cluster) {
    let arguments = ["rollout", "status", "deployment/web", "--timeout=30s"];
    let output = cluster.kubectl(&arguments, "").await;
    assert!(output.contains("successfully rolled out"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_rolled_out_rolled_back_and_scaled() {
    let cluster = cluster().await;
    cluster.kubectl(&["apply", "-f", "-"], DEPLOYMENT).await;
    rolled_out(&cluster).await;
    assert_eq!(images(&cluster).await, ["redis:1"; 3]);

    cluster.kubectl(&["set", "image", "deployment/web", "c=redis:2"], "").await;
    rolled_out(&cluster).await;
    assert_eq!(images(&cluster).await, ["redis:2"; 3]);
    let history = cluster.kubectl(&["rollout", "history", "deployment/web"], "").await;
    assert!(history.contains("1 ") && history.contains("2 "), "{history}");

    cluster.kubectl(&["rollout", "undo", "deployment/web"], "").await;
    rolled_out(&cluster).await;
    assert_eq!(images(&cluster).await, ["redis:1"; 3]);
    let sets = cluster.namespaced::<ReplicaSet>().list(&ListParams::default()).await.unwrap();
    assert_eq!(sets.items.len(), 2, "the first one is used again");

    cluster.kubectl(&["scale", "deployment/web", "--replicas=5"], "").await;
    rolled_out(&cluster).await;
    assert_eq!(images(&cluster).await.len(), 5);
    let table = cluster.kubectl(&["get", "deployment", "web", "--no-headers"], "").await;
    let cells: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(cells[..4], ["web", "5/5", "5", "5"], "{table}");
    cluster.stop().await;
}

/// The controller writes statuses from objects that it has read before. It must not revert what other clients
/// have written since.
#[tokio::test(flavor = "multi_thread")]
async fn writes_of_other_clients_during_a_rollout_are_kept() {
    let cluster = cluster().await;
    cluster.kubectl(&["apply", "-f", "-"], DEPLOYMENT).await;
    let api = cluster.namespaced::<Deployment>();
    let wanted: Vec<String> = (0..100).map(|number| format!("note-{number}")).collect();
    for (number, note) in wanted.iter().enumerate() {
        let mut change = json!({"metadata": {"annotations": {note: "kept"}}});
        if number % 10 == 0 {
            change["spec"]["replicas"] = json!(1 + number / 10 % 4);
            change["metadata"]["finalizers"] = json!([format!("example.com/{note}")]);
        }
        api.patch("web", &Default::default(), &Patch::Merge(change)).await.unwrap();
    }
    rolled_out(&cluster).await;
    let meta = api.get("web").await.unwrap().metadata;
    let annotations = meta.annotations.unwrap_or_default();
    let lost: Vec<_> = wanted.iter().filter(|note| !annotations.contains_key(*note)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(meta.finalizers, Some(vec!["example.com/note-90".to_owned()]));
    cluster.stop().await;
}

/// One pod of the new image is created, and all pods of the old image are kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_image_does_not_replace_working_pods() {
    let cluster = cluster().await;
    cluster.kubectl(&["apply", "-f", "-"], DEPLOYMENT).await;
    rolled_out(&cluster).await;
    cluster.kubectl(&["set", "image", "deployment/web", "c=broken"], "").await;
    let stuck = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.is_some_and(|status| {
            status.updated_replicas == Some(1) && status.unavailable_replicas == Some(1)
        })
    };
    let deployments = cluster.namespaced::<Deployment>();
    within("one broken pod", await_condition(deployments, "web", stuck)).await;
    let mut images = images(&cluster).await;
    images.sort();
    assert_eq!(images, ["broken", "redis:1", "redis:1", "redis:1"]);
    cluster.stop().await;
}

/// The garbage collector deletes the replica sets and pods of a deleted deployment.
#[tokio::test(flavor = "multi_thread")]
async fn the_pods_of_a_deleted_deployment_are_deleted() {
    let cluster = cluster().await;
    cluster.kubectl(&["apply", "-f", "-"], DEPLOYMENT).await;
    rolled_out(&cluster).await;
    let pods = cluster.namespaced::<Pod>();
    let all = pods.list(&ListParams::default()).await.unwrap().items;
    cluster.kubectl(&["delete", "deployment", "web", "--cascade=foreground"], "").await;
    for pod in all {
        let (name, uid) = (pod.metadata.name.unwrap(), pod.metadata.uid.unwrap());
        let deleted = conditions::is_deleted(&uid);
        within(&name, await_condition(pods.clone(), &name, deleted)).await;
    }
    let sets = cluster.namespaced::<ReplicaSet>().list(&ListParams::default()).await.unwrap();
    assert!(sets.items.is_empty());
    cluster.stop().await;
}

/// A selected pod without an owner is adopted, and a deleted one is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_replication_controller_adopts_and_replaces_pods() {
    let cluster = cluster().await;
    let pods = cluster.namespaced::<Pod>();
    let stray = json!({ "metadata": { "name": "stray", "labels": { "app": "db" } },
                        "spec": { "containers": [{ "name": "c", "image": "redis" }] } });
    cluster.create(&pods, stray).await;
    let controllers = cluster.namespaced::<ReplicationController>();
    let controller = json!({ "metadata": { "name": "db" }, "spec": { "replicas": 3,
        "selector": { "app": "db" }, "template": { "metadata": { "labels": { "app": "db" } },
            "spec": { "containers": [{ "name": "c", "image": "redis" }] } } } });
    cluster.create(&controllers, controller).await;
    let complete = |controller: Option<&ReplicationController>| {
        let status = controller.and_then(|controller| controller.status.as_ref());
        status.is_some_and(|status| status.replicas == 3 && status.available_replicas == Some(3))
    };
    within("three", await_condition(controllers.clone(), "db", complete)).await;
    let stray = pods.get("stray").await.unwrap();
    assert_eq!(stray.metadata.owner_references.unwrap()[0].kind, "ReplicationController");
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 3);

    let uid = stray.metadata.uid.unwrap();
    pods.delete("stray", &DeleteParams::default()).await.unwrap();
    within("deleted", await_condition(pods.clone(), "stray", conditions::is_deleted(&uid))).await;
    within("three again", await_condition(controllers, "db", complete)).await;
    cluster.stop().await;
}
