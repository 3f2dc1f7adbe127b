//! Decisions for nodes and pods from manifests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::*;

fn node(name: &str, extra: Value) -> Node {
    let mut node = json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "spec": {},
        "status": {
            "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "3" },
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    });
    merge(&mut node, extra);
    serde_json::from_value(node).expect("a node")
}

fn pod(name: &str, spec: Value) -> Pod {
    let mut pod = json!({
        "metadata": { "name": name, "uid": name },
        "spec": { "containers": [{ "name": "c" }] },
    });
    merge(&mut pod, json!({ "spec": spec }));
    serde_json::from_value(pod).expect("a pod")
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn asks(cpu: &str) -> Value {
    json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] })
}

fn cluster(nodes: &[Node], pods: &[(&str, Pod)]) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(Arc::new(node.clone()));
    }
    for (node, pod) in pods {
        cluster.assume(pod, node);
    }
    cluster
}

fn refusal(pod: &Pod, cluster: &Cluster) -> String {
    match plan(pod, cluster, 0).0 {
        Decision::Unschedulable(message) => message,
        Decision::Bind(node) => panic!("bound to {node}"),
    }
}

fn bound(pod: &Pod, cluster: &Cluster) -> String {
    match plan(pod, cluster, 0).0 {
        Decision::Bind(node) => node,
        Decision::Unschedulable(message) => panic!("refused: {message}"),
    }
}

#[test]
fn a_pod_is_bound_to_the_only_node() {
    let cluster = cluster(&[node("node1", json!({}))], &[]);
    assert_eq!(bound(&pod("p", json!({})), &cluster), "node1");
}

#[test]
fn without_nodes_the_message_says_so() {
    let refusal = refusal(&pod("p", json!({})), &Cluster::default());
    assert_eq!(refusal, "no nodes available to schedule pods");
}

#[test]
fn a_node_selector_that_no_node_matches_is_reported() {
    let cluster = cluster(&[node("node1", json!({}))], &[]);
    assert_eq!(
        refusal(&pod("p", json!({ "nodeSelector": { "disk": "ssd" } })), &cluster),
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. \
         preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
}

#[test]
fn insufficient_resources_are_reported() {
    let nodes = [node("node1", json!({}))];
    let hungry = cluster(&nodes, &[("node1", pod("a", asks("1500m")))]);
    assert_eq!(
        refusal(&pod("p", asks("1")), &hungry),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
         1 No preemption victims found for incoming pod.",
    );
    assert_eq!(bound(&pod("p", asks("500m")), &hungry), "node1");
    // More than an empty node has: no eviction would help.
    assert_eq!(
        refusal(&pod("p", asks("3")), &hungry),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
         1 Preemption is not helpful for scheduling.",
    );
    let mut never = asks("1");
    never["preemptionPolicy"] = json!("Never");
    assert_eq!(
        refusal(&pod("p", never), &hungry),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to \
         preemptionPolicy=Never.",
    );
    let pods = ["a", "b", "c"].map(|name| ("node1", pod(name, json!({}))));
    assert_eq!(
        refusal(&pod("p", json!({})), &cluster(&nodes, &pods)),
        "0/1 nodes are available: 1 Too many pods. preemption: 0/1 nodes are available: \
         1 No preemption victims found for incoming pod.",
    );
}

#[test]
fn nodes_are_counted_by_reason() {
    let cluster = cluster(
        &[
            node("a", json!({ "spec": { "unschedulable": true } })),
            node(
                "b",
                json!({ "spec": { "taints": [
                { "key": "gpu", "value": "a100", "effect": "NoSchedule" }] } }),
            ),
            node(
                "c",
                json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }),
            ),
            node("d", json!({ "status": { "allocatable": { "cpu": "500m" } } })),
            node("e", json!({ "status": { "allocatable": { "cpu": "500m" } } })),
        ],
        &[],
    );
    assert_eq!(
        refusal(&pod("p", asks("1")), &cluster),
        "0/5 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu, \
         2 node(s) had untolerated taint(s). preemption: 0/5 nodes are available: \
         5 Preemption is not helpful for scheduling.",
    );
}

#[test]
fn a_pod_that_tolerates_all_taints_is_bound_to_a_tainted_node() {
    let tainted = node(
        "a",
        json!({ "spec": { "unschedulable": true, "taints": [
        { "key": "gpu", "value": "a100", "effect": "NoSchedule" },
        { "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" }] } }),
    );
    let cluster = cluster(&[tainted], &[]);
    let all = json!({ "tolerations": [{ "operator": "Exists" }] });
    assert_eq!(bound(&pod("p", all), &cluster), "a");
}

#[test]
fn two_pods_with_the_same_host_port_are_bound_to_different_nodes() {
    let web = json!({ "containers": [{ "name": "c",
        "ports": [{ "containerPort": 80, "hostPort": 80 }] }] });
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let one = cluster(&nodes, &[("a", pod("first", web.clone()))]);
    assert_eq!(bound(&pod("p", web.clone()), &one), "b");
    let both =
        cluster(&nodes, &[("a", pod("first", web.clone())), ("b", pod("second", web.clone()))]);
    assert_eq!(
        refusal(&pod("p", web), &both),
        "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports. \
         preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.",
    );
}

#[test]
fn the_node_with_more_free_resources_is_chosen() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let cluster = cluster(&nodes, &[("a", pod("first", asks("1")))]);
    assert_eq!(bound(&pod("p", json!({})), &cluster), "b");
}

/// Replicas of one controller are spread over the nodes, even if one of them has more free resources.
#[test]
fn pods_of_one_controller_are_spread() {
    let sibling = |name: &str| {
        let mut pod = pod(name, json!({}));
        pod.metadata.owner_references = Some(
            serde_json::from_value(json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet",
                "name": "rs", "uid": "rs", "controller": true }]))
            .expect("owners"),
        );
        pod
    };
    let roomy =
        json!({ "status": { "allocatable": { "cpu": "8", "memory": "32Gi", "pods": "9" } } });
    let nodes = [node("a", roomy), node("b", json!({}))];
    let cluster = cluster(&nodes, &[("a", sibling("1"))]);
    assert_eq!(bound(&sibling("2"), &cluster), "b");
    assert_eq!(bound(&pod("other", json!({})), &cluster), "a");
}

#[test]
fn a_preferred_node_is_chosen_over_one_with_more_free_resources() {
    let nodes =
        [node("a", json!({ "metadata": { "labels": { "disk": "ssd" } } })), node("b", json!({}))];
    let cluster = cluster(&nodes, &[("a", pod("first", asks("1")))]);
    let prefers = json!({ "affinity": { "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 10, "preference": {
            "matchExpressions": [{ "key": "disk", "operator": "In", "values": ["ssd"] }] } }] } } });
    assert_eq!(bound(&pod("p", prefers), &cluster), "a");
}

/// Of a thousand nodes as many are checked as upstream checks, and the next pod begins where this one ended.
#[test]
fn in_a_large_cluster_only_a_part_of_the_nodes_is_checked() {
    let nodes: Vec<Node> = (0..1_000).map(|at| node(&format!("n{at:04}"), json!({}))).collect();
    let cluster = cluster(&nodes, &[]);
    let (Decision::Bind(first), visited) = plan(&pod("p", json!({})), &cluster, 0) else {
        panic!("every node fits")
    };
    assert_eq!(visited, 420, "50 % less 1,000 / 125");
    let (Decision::Bind(second), _) = plan(&pod("q", json!({})), &cluster, visited) else {
        panic!("every node fits")
    };
    assert!(first < second, "{first} {second}");
    assert_eq!([5_000, 20_000, 99, 250].map(fitting_max), [500, 1_000, 100, 120]);
    // For a pod that fits on no node all are checked.
    let refusal = refusal(&pod("p", asks("64")), &cluster);
    assert!(refusal.starts_with("0/1000 nodes are available: 1000 Insufficient cpu."), "{refusal}");
}

#[test]
fn the_only_node_that_fits_is_found_from_every_start() {
    let mut nodes: Vec<Node> = (0..300).map(|at| node(&format!("n{at:04}"), json!({}))).collect();
    nodes[150] = node("big", json!({ "status": { "allocatable": { "cpu": "64" } } }));
    let cluster = cluster(&nodes, &[]);
    for start in [0, 149, 150, 151, 299, 1_000_000] {
        let (decision, _) = plan(&pod("p", asks("32")), &cluster, start);
        assert_eq!(decision, Decision::Bind("big".to_owned()));
    }
}
