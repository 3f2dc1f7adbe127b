//! A pod's priority comes from a class, and classes from the administrator: a pod that states its own would be
//! placed before all others.

use coffer_testkit::Attacks;
use serde_json::{Value, json};

use crate::cluster::{Caller, Cluster, Reply};

const PODS: &str = "/api/v1/namespaces/a/pods";
const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "c", "image": "i" }] },
    });
    for (field, value) in spec.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

fn class(name: &str, value: i64) -> Value {
    json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": { "name": name }, "value": value,
    })
}

async fn apply(caller: &Caller, path: &str, body: &Value) -> Reply {
    let content = [("content-type", "application/apply-patch+yaml")];
    caller
        .request_as("PATCH", &format!("{path}?fieldManager=m&force=true"), Some(body), &content)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_the_priority_of_its_class_and_no_other() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let mut attacks = Attacks::group("a pod with a priority that no class gives it");
    admin.make(CLASSES, class("high", 1000)).await;
    let app = cluster.account("a/app", "a", "app").await;

    let wanted = [
        ("a number", json!({ "priority": 2_000_001_000 })),
        ("a negative number", json!({ "priority": -1 })),
        ("more than its class", json!({ "priority": 1001, "priorityClassName": "high" })),
        ("none of its class", json!({ "priority": 0, "priorityClassName": "high" })),
        ("a class that does not exist", json!({ "priorityClassName": "higher" })),
        ("another spelling", json!({ "priorityClassName": "HIGH" })),
        ("another policy", json!({ "preemptionPolicy": "Never" })),
        (
            "another policy than its class",
            json!({ "priorityClassName": "high", "preemptionPolicy": "Never" }),
        ),
    ];
    for (at, (what, spec)) in wanted.iter().enumerate() {
        let name = format!("p{at}");
        let body = pod(&name, spec.clone());
        for (who, caller) in [("admin", admin), ("edit", &app)] {
            let reply = caller.request("POST", PODS, Some(&body)).await;
            attacks.attempt(&format!("POST of {what} by {who}"), reply.code == 403, &reply);
        }
        let dry = format!("{PODS}?dryRun=All");
        let reply = admin.request("POST", &dry, Some(&body)).await;
        attacks.attempt(&format!("dry run of {what}"), reply.code == 403, &reply);
        let reply = apply(admin, &format!("{PODS}/{name}"), &body).await;
        attacks.attempt(&format!("apply of {what}"), reply.code == 403, &reply);
        let mut mirror = body.clone();
        mirror["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" });
        mirror["spec"]["nodeName"] = "node-a".into();
        let reply = admin.request("POST", PODS, Some(&mirror)).await;
        attacks.attempt(&format!("a mirror pod of {what}"), reply.code == 403, &reply);
    }

    // A pod that exists keeps what it got, through every endpoint.
    let made = admin.make(PODS, pod("low", json!({}))).await;
    let changes = [
        ("priority", json!(1000)),
        ("priorityClassName", json!("high")),
        ("preemptionPolicy", json!("Never")),
    ];
    let path = format!("{PODS}/low");
    for (field, value) in changes {
        let change = json!({ "spec": { field: value } });
        let reply = admin.request("PATCH", &path, Some(&change)).await;
        attacks.attempt(&format!("merge patch of {field}"), reply.code == 422, &reply);
        let strategic = "application/strategic-merge-patch+json";
        let reply = admin.request_typed("PATCH", &path, &change, strategic).await;
        attacks.attempt(&format!("strategic patch of {field}"), reply.code == 422, &reply);
        let op = json!([{ "op": "add", "path": format!("/spec/{field}"), "value": value }]);
        let reply = admin.request_typed("PATCH", &path, &op, "application/json-patch+json").await;
        attacks.attempt(&format!("JSON patch of {field}"), reply.code == 422, &reply);
        let mut whole = made.clone();
        whole["metadata"]["resourceVersion"] = Value::Null;
        whole["spec"][field] = value.clone();
        let reply = admin.request("PUT", &path, Some(&whole)).await;
        attacks.attempt(&format!("PUT of {field}"), reply.code == 422, &reply);
        let reply = apply(admin, &path, &pod("low", json!({ field: value }))).await;
        attacks.attempt(&format!("apply of {field}"), reply.code == 422, &reply);
        for sub in ["status", "ephemeralcontainers"] {
            let reply = admin.request("PUT", &format!("{path}/{sub}"), Some(&whole)).await;
            let after = admin.request("GET", &path, None).await.body["spec"][field].clone();
            attacks.attempt(&format!("PUT of {field} through {sub}"), after != value, &reply);
        }
    }
    // To leave them out changes nothing.
    let mut bare = pod("low", json!({}));
    bare["spec"]["serviceAccountName"] = made["spec"]["serviceAccountName"].clone();
    bare["spec"]["volumes"] = made["spec"]["volumes"].clone();
    bare["spec"]["containers"] = made["spec"]["containers"].clone();
    bare["spec"]["tolerations"] = made["spec"]["tolerations"].clone();
    let reply = admin.request("PUT", &path, Some(&bare)).await;
    assert_eq!(reply.code, 200, "{}", reply.message());
    for field in ["priority", "preemptionPolicy"] {
        assert_eq!(reply.body["spec"][field], made["spec"][field]);
    }
    attacks.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_are_the_administrators_and_the_systems_stay() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let mut attacks = Attacks::group("priority classes that are not their writer's to write");
    admin.make(CLASSES, class("high", 1000)).await;
    let mut default = class("default", 10);
    default["globalDefault"] = json!(true);
    admin.make(CLASSES, default.clone()).await;

    let app = cluster.account("a/app", "a", "app").await;
    let node = cluster.node("node-a").await;
    let scheduler = cluster.user("sched", "system:kube-scheduler", &[]).await;
    for caller in [&app, &node, &scheduler] {
        let name = caller.name;
        let reply = caller.request("POST", CLASSES, Some(&class("mine", 1))).await;
        attacks.attempt(&format!("POST by {name}"), reply.code == 403, &reply);
        let change = json!({ "globalDefault": true });
        let reply = caller.request("PATCH", &format!("{CLASSES}/high"), Some(&change)).await;
        attacks.attempt(&format!("PATCH by {name}"), reply.code == 403, &reply);
        let reply = caller.request("DELETE", &format!("{CLASSES}/high"), None).await;
        attacks.attempt(&format!("DELETE by {name}"), reply.code == 403, &reply);
    }
    for (what, body) in [
        ("a value above a billion", class("huge", 1_000_000_001)),
        ("a system name", class("system-mine", 1)),
        ("a system class with another value", class("system-node-critical", 1)),
    ] {
        let reply = admin.request("POST", CLASSES, Some(&body)).await;
        attacks.attempt(&format!("POST of {what}"), reply.code == 422 || reply.code == 409, &reply);
        let path = format!("{CLASSES}/{}", body["metadata"]["name"].as_str().unwrap());
        let reply = apply(admin, &path, &body).await;
        attacks.attempt(&format!("apply of {what}"), reply.code == 422, &reply);
    }
    for (field, value) in [("value", json!(1_000_000_000)), ("preemptionPolicy", json!("Never"))] {
        let path = format!("{CLASSES}/high");
        let reply = admin.request("PATCH", &path, Some(&json!({ field: value }))).await;
        attacks.attempt(&format!("PATCH of {field}"), reply.code == 422, &reply);
        let mut whole = class("high", 1000);
        whole[field] = value;
        let reply = admin.request("PUT", &path, Some(&whole)).await;
        attacks.attempt(&format!("PUT of {field}"), reply.code == 422, &reply);
        let reply = apply(admin, &path, &whole).await;
        attacks.attempt(&format!("apply of {field}"), reply.code == 422, &reply);
    }
    // One default, by every kind of write; its own may be written again.
    let second = "is forbidden: PriorityClass default is already marked as default. Only one default can exist";
    let refused = |reply: &Reply| reply.code == 403 && reply.message().ends_with(second);
    let mut other = class("other", 1);
    other["globalDefault"] = json!(true);
    let reply = admin.request("POST", CLASSES, Some(&other)).await;
    attacks.attempt("POST of a second default", refused(&reply), &reply);
    let reply = apply(admin, &format!("{CLASSES}/other"), &other).await;
    attacks.attempt("apply of a second default", refused(&reply), &reply);
    let path = format!("{CLASSES}/high");
    let reply = admin.request("PATCH", &path, Some(&json!({ "globalDefault": true }))).await;
    attacks.attempt("PATCH to a second default", refused(&reply), &reply);
    let mut whole = class("high", 1000);
    whole["globalDefault"] = json!(true);
    let reply = admin.request("PUT", &path, Some(&whole)).await;
    attacks.attempt("PUT of a second default", refused(&reply), &reply);
    let reply = admin.request("PUT", &format!("{CLASSES}/default"), Some(&default)).await;
    assert_eq!(reply.code, 200, "{}", reply.message());

    let system = ["system-cluster-critical", "system-node-critical"];
    for name in system {
        let path = format!("{CLASSES}/{name}");
        let reply = admin.request("DELETE", &path, None).await;
        let message = format!(
            "priorityclasses.scheduling.k8s.io \"{name}\" is forbidden: this is a system priority class and cannot be deleted"
        );
        let refused = reply.code == 403 && reply.message() == message;
        attacks.attempt(&format!("DELETE of {name}"), refused, &reply);
    }
    let reply = admin.request("DELETE", CLASSES, None).await;
    for name in system {
        let found = admin.request("GET", &format!("{CLASSES}/{name}"), None).await;
        attacks.attempt(&format!("DELETE of all with {name}"), found.code == 200, &reply);
    }
    attacks.finish();
}
