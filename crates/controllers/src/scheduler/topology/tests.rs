//! Pod affinity, anti-affinity and spread constraints on four nodes in two zones.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::plan::{Decision, plan};
use super::*;

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")] {
        let node = json!({
            "metadata": { "name": name, "labels": { "zone": zone, "host": name } },
            "status": { "allocatable": { "cpu": "8", "memory": "8Gi", "pods": "9" },
                        "conditions": [{ "type": "Ready", "status": "True" }] } });
        cluster.set_node(Arc::new(serde_json::from_value(node).expect("a node")));
    }
    cluster
}

fn pod(name: &str, app: &str, spec: Value) -> Pod {
    let mut all = json!({ "containers": [] });
    for (key, value) in spec.as_object().expect("a spec") {
        all[key] = value.clone();
    }
    let meta = json!({ "name": name, "uid": name, "namespace": "ns", "labels": { "app": app } });
    serde_json::from_value(json!({ "metadata": meta, "spec": all })).expect("a pod")
}

fn term(app: &str, key: &str) -> Value {
    json!({ "topologyKey": key, "labelSelector": { "matchLabels": { "app": app } } })
}

fn near(term: Value) -> Value {
    json!({ "affinity": { "podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term] } } })
}

fn away(term: Value) -> Value {
    json!({ "affinity": { "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term] } } })
}

fn refused(pod: &Pod, cluster: &Cluster) -> String {
    match plan(pod, cluster, 0).0 {
        Decision::Bind(node) => panic!("bound to {node}"),
        Decision::Unschedulable(message) => message,
    }
}

/// Places the pod and returns its node.
fn place(pod: &Pod, cluster: &mut Cluster) -> String {
    match plan(pod, cluster, 0).0 {
        Decision::Bind(node) => {
            cluster.assume(pod, &node);
            node
        }
        Decision::Unschedulable(message) => panic!("refused: {message}"),
    }
}

#[test]
fn anti_affinity_by_host_allows_one_pod_per_host() {
    let mut cluster = cluster();
    let one = |name: &str| pod(name, "db", away(term("db", "host")));
    let mut nodes = ["1", "2", "3", "4"].map(|name| place(&one(name), &mut cluster));
    nodes.sort();
    assert_eq!(nodes, ["a1", "a2", "b1", "b2"]);
    assert_eq!(
        refused(&one("5"), &cluster),
        "0/4 nodes are available: 4 node(s) didn't match pod anti-affinity rules. preemption: \
         0/4 nodes are available: 4 No preemption victims found for incoming pod.",
    );
}

#[test]
fn the_anti_affinity_of_a_placed_pod_applies_to_others() {
    let mut cluster = cluster();
    cluster.assume(&pod("isolated", "isolated", away(term("web", "zone"))), "a1");
    let web = pod("web", "web", json!({}));
    assert!(place(&web, &mut cluster).starts_with('b'));
    let pinned = pod("p", "web", json!({ "nodeSelector": { "zone": "a" } }));
    assert_eq!(
        refused(&pinned, &cluster),
        "0/4 nodes are available: 2 node(s) didn't match Pod's node affinity/selector, \
         2 node(s) didn't satisfy existing pods anti-affinity rules. preemption: 0/4 nodes are \
         available: 2 No preemption victims found for incoming pod, 2 Preemption is not helpful \
         for scheduling.",
    );
}

#[test]
fn a_pod_is_bound_to_the_domain_of_the_pod_that_its_affinity_selects() {
    let mut cluster = cluster();
    let web = pod("web", "web", near(term("db", "zone")));
    assert_eq!(
        refused(&web, &cluster),
        "0/4 nodes are available: 4 node(s) didn't match pod affinity rules. preemption: \
         0/4 nodes are available: 4 Preemption is not helpful for scheduling.",
    );
    cluster.assume(&pod("db", "db", json!({})), "b2");
    assert!(place(&web, &mut cluster).starts_with('b'));
    // A term selects pods in the pod's own namespace only, unless it has namespaces.
    let mut elsewhere = pod("elsewhere", "web", near(term("db", "zone")));
    elsewhere.metadata.namespace = Some("other".to_owned());
    assert!(matches!(plan(&elsewhere, &cluster, 0).0, Decision::Unschedulable(_)));
    let mut term = term("db", "zone");
    term["namespaces"] = json!(["ns"]);
    let mut named = pod("named", "web", near(term.clone()));
    named.metadata.namespace = Some("other".to_owned());
    assert!(matches!(plan(&named, &cluster, 0).0, Decision::Bind(_)));
    term["namespaces"] = json!([]);
    term["namespaceSelector"] = json!({ "matchLabels": { "team": "x" } });
    let mut selected = pod("selected", "web", near(term));
    selected.metadata.namespace = Some("other".to_owned());
    assert!(matches!(plan(&selected, &cluster, 0).0, Decision::Unschedulable(_)));
    cluster.set_namespace("ns", Some([("team".to_owned(), "x".to_owned())].into()));
    assert!(matches!(plan(&selected, &cluster, 0).0, Decision::Bind(_)));
}

/// Pods with affinity to each other must not wait for each other forever.
#[test]
fn the_first_pod_with_affinity_to_itself_fits_anywhere() {
    let mut cluster = cluster();
    let replica = |name: &str| pod(name, "replica", near(term("replica", "zone")));
    let first = place(&replica("1"), &mut cluster);
    let others = ["2", "3"].map(|name| place(&replica(name), &mut cluster));
    assert!(others.iter().all(|node| node[..1] == first[..1]), "{first} {others:?}");
}

#[test]
fn a_hard_spread_constraint_spreads_pods_over_zones() {
    let mut cluster = cluster();
    let constraint = json!({ "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "web" } } }] });
    cluster.assume(&pod("1", "web", json!({})), "a1");
    let second = place(&pod("2", "web", constraint.clone()), &mut cluster);
    assert!(second.starts_with('b'), "{second}");
    cluster.assume(&pod("3", "web", json!({})), "b1");
    let mut in_b = constraint.clone();
    in_b["affinity"] = json!({ "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": "host", "operator": "In",
                                     "values": ["a1", "b1", "b2"] }] }] } } });
    let fourth = place(&pod("4", "web", in_b), &mut cluster);
    assert_eq!(fourth, "a1", "zone b has one more already");
    let labelless = json!({ "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "rack",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "web" } } }] });
    assert_eq!(
        refused(&pod("5", "web", labelless), &cluster),
        "0/4 nodes are available: 4 node(s) didn't match pod topology spread constraints \
         (missing required label). preemption: 0/4 nodes are available: 4 Preemption is not \
         helpful for scheduling.",
    );
}

#[test]
fn a_soft_spread_constraint_is_a_preference() {
    let mut cluster = cluster();
    let soft = json!({ "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": { "matchLabels": { "app": "web" } } }] });
    cluster.assume(&pod("1", "web", json!({})), "a1");
    assert!(place(&pod("2", "web", soft.clone()), &mut cluster).starts_with('b'));
    let mut pinned = soft;
    pinned["nodeSelector"] = json!({ "zone": "a" });
    assert!(place(&pod("3", "web", pinned), &mut cluster).starts_with('a'));
}

fn preferred(kind: &str, weight: i64, term: Value) -> Value {
    json!({ "affinity": { kind: { "preferredDuringSchedulingIgnoredDuringExecution": [
        { "weight": weight, "podAffinityTerm": term }] } } })
}

#[test]
fn preferred_affinity_and_anti_affinity_are_weighed_by_domain() {
    let mut cluster = cluster();
    cluster.assume(&pod("1", "db", json!({})), "b1");
    let near = preferred("podAffinity", 100, term("db", "host"));
    assert_eq!(place(&pod("2", "web", near), &mut cluster), "b1");
    let away = preferred("podAntiAffinity", 100, term("db", "zone"));
    assert!(place(&pod("3", "web", away.clone()), &mut cluster).starts_with('a'));
    // It is only a preference.
    let mut pinned = away;
    pinned["nodeSelector"] = json!({ "zone": "b" });
    assert!(place(&pod("4", "web", pinned), &mut cluster).starts_with('b'));
}

#[test]
fn preferences_of_placed_pods_weigh_for_pods_that_they_select() {
    let mut cluster = cluster();
    cluster.assume(&pod("1", "db", preferred("podAffinity", 100, term("web", "host"))), "b2");
    assert_eq!(place(&pod("2", "web", json!({})), &mut cluster), "b2");
    cluster
        .assume(&pod("3", "cache", preferred("podAntiAffinity", 100, term("job", "zone"))), "a1");
    assert!(place(&pod("4", "job", json!({})), &mut cluster).starts_with('b'));
    // A pod that they do not select is placed as before.
    assert!(place(&pod("5", "other", json!({})), &mut cluster).starts_with('a'));
    cluster.remove_pod("3");
    let mut pods: Vec<_> = cluster.with_preferences().map(|pod| pod.namespace).collect();
    pods.dedup();
    assert_eq!(pods, ["ns"]);
}
