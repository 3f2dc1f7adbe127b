//! The scheduler against a real API server.

mod cluster;

use cluster::{Cluster, within};
use coffer_testkit::eventually;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({ "metadata": { "name": name },
                          "spec": { "containers": [{ "name": "c", "image": "redis" }] } });
    cluster::merge(&mut pod, json!({ "spec": spec }));
    pod
}

fn node_of(pod: Option<&Pod>) -> Option<&str> {
    pod?.spec.as_ref()?.node_name.as_deref()
}

fn condition(pod: Option<&Pod>) -> Option<(String, String, String)> {
    let conditions = pod?.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Some((found.status.clone(), text(&found.reason), text(&found.message)))
}

/// Waits for an event about an object in the default namespace.
async fn event(cluster: &Cluster, reason: &str, object: &str) -> Event {
    let api = cluster.namespaced::<Event>();
    let fields = format!("reason={reason},involvedObject.name={object}");
    eventually(format!("the event {reason}"), async || {
        let found = api.list(&ListParams::default().fields(&fields)).await.unwrap();
        found.items.into_iter().next()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_bound_to_the_node_with_an_event() {
    let cluster = Cluster::start().await.with_scheduler().await;
    cluster.node("node1", json!({})).await;
    let pods = cluster.namespaced::<Pod>();
    cluster.create(&pods, pod("mypod", json!({}))).await;
    within(
        "bound",
        await_condition(pods.clone(), "mypod", |pod: Option<&Pod>| node_of(pod) == Some("node1")),
    )
    .await;
    let bound = pods.get("mypod").await.unwrap();
    assert_eq!(condition(Some(&bound)).unwrap().0, "True");
    let event = event(&cluster, "Scheduled", "mypod").await;
    assert_eq!(event.message.as_deref(), Some("Successfully assigned default/mypod to node1"),);
    assert_eq!(event.reporting_component.as_deref(), Some("default-scheduler"));
    let described = cluster.kubectl(&["describe", "pod", "mypod"], "").await;
    let line = described.lines().find(|line| line.contains("  Scheduled ")).unwrap_or_default();
    assert!(line.contains("default-scheduler"), "{described}");
    cluster.stop().await;
}

/// The pod exists before any node. Then a node is created that does not fit, and then the node's labels
/// change.
#[tokio::test(flavor = "multi_thread")]
async fn an_unschedulable_pod_has_the_reason_and_is_bound_when_a_node_changes() {
    let cluster = Cluster::start().await.with_scheduler().await;
    let pods = cluster.namespaced::<Pod>();
    cluster.create(&pods, pod("mypod", json!({ "nodeSelector": { "disk": "ssd" } }))).await;
    let says = |message: &'static str| {
        move |pod: Option<&Pod>| {
            condition(pod) == Some(("False".into(), "Unschedulable".into(), message.into()))
        }
    };
    let none = says("no nodes available to schedule pods");
    within("no nodes", await_condition(pods.clone(), "mypod", none)).await;

    cluster.node("node1", json!({})).await;
    let unfit = says(
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. \
         preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
    within("does not fit", await_condition(pods.clone(), "mypod", unfit)).await;
    let event = event(&cluster, "FailedScheduling", "mypod").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));

    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let label = Patch::Merge(json!({ "metadata": { "labels": { "disk": "ssd" } } }));
    nodes.patch("node1", &PatchParams::default(), &label).await.unwrap();
    let bound = |pod: Option<&Pod>| node_of(pod) == Some("node1");
    within("bound", await_condition(pods, "mypod", bound)).await;
    cluster.stop().await;
}

/// Four nodes with ten pods each at most, and 41 pods that are created concurrently.
#[tokio::test(flavor = "multi_thread")]
async fn concurrently_created_pods_do_not_exceed_the_limits_of_nodes() {
    let cluster = Cluster::start().await.with_scheduler().await;
    for name in ["a", "b", "c", "d"] {
        cluster.node(name, json!({ "status": { "allocatable": { "pods": "10" } } })).await;
    }
    let pods = cluster.namespaced::<Pod>();
    let names: Vec<String> = (0..41).map(|at| format!("p{at}")).collect();
    let asks = json!({ "containers": [{ "name": "c", "image": "redis",
        "resources": { "requests": { "cpu": "400m" } } }] });
    let creations = names.iter().map(|name| cluster.create(&pods, pod(name, asks.clone())));
    futures::future::join_all(creations).await;
    let settled = |pod: Option<&Pod>| {
        node_of(pod).is_some() || condition(pod).is_some_and(|(status, ..)| status == "False")
    };
    for name in &names {
        within(name, await_condition(pods.clone(), name, settled)).await;
    }
    let mut counts = std::collections::BTreeMap::<_, usize>::new();
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        *counts.entry(node_of(Some(&pod)).map(str::to_owned)).or_default() += 1;
    }
    let expected = [(None, 1), (Some("a"), 10), (Some("b"), 10), (Some("c"), 10), (Some("d"), 10)];
    assert_eq!(counts, expected.map(|(node, count)| (node.map(str::to_owned), count)).into());
    cluster.stop().await;
}

/// One node for one pod. Two pods without a class were created before the one with the higher class.
#[tokio::test(flavor = "multi_thread")]
async fn the_pod_with_the_higher_priority_class_is_bound_first() {
    let cluster = Cluster::start().await;
    let classes: Api<PriorityClass> = Api::all(cluster.client.clone());
    cluster.create(&classes, json!({ "metadata": { "name": "high" }, "value": 1000 })).await;
    let pods = cluster.namespaced::<Pod>();
    cluster.create(&pods, pod("first", json!({}))).await;
    cluster.create(&pods, pod("second", json!({ "priorityClassName": "" }))).await;
    let high = cluster.create(&pods, pod("third", json!({ "priorityClassName": "high" }))).await;
    assert_eq!(high.spec.and_then(|spec| spec.priority), Some(1000));
    cluster.node("node1", json!({ "status": { "allocatable": { "pods": "1" } } })).await;
    let cluster = cluster.with_scheduler().await;
    let settled = |pod: Option<&Pod>| {
        node_of(pod).is_some() || condition(pod).is_some_and(|(status, ..)| status == "False")
    };
    for name in ["first", "second", "third"] {
        within(name, await_condition(pods.clone(), name, settled)).await;
    }
    let placed = pods.list(&ListParams::default()).await.unwrap();
    let placed = placed.iter().filter(|pod| node_of(Some(pod)).is_some());
    let placed: Vec<_> = placed.filter_map(|pod| pod.metadata.name.as_deref()).collect();
    assert_eq!(placed, ["third"]);
    cluster.stop().await;
}
