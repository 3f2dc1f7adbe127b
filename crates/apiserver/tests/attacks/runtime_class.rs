//! A pod runs with a handler that the administrator gave a name, and with no other: an unknown
//! handler would turn off what the usual one does for secrets.

use coffer_testkit::Attacks;
use serde_json::{Value, json};

use crate::cluster::{Caller, Cluster, Reply};

const PODS: &str = "/api/v1/namespaces/a/pods";
const CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";

fn pod(name: &str, class: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "runtimeClassName": class, "containers": [{ "name": "c", "image": "i" }] },
    })
}

fn class(name: &str, handler: &str) -> Value {
    json!({ "metadata": { "name": name }, "handler": handler })
}

async fn stored(admin: &Caller, path: &str) -> Value {
    let reply = admin.request("GET", path, None).await;
    assert_eq!(reply.code, 200, "{path}: {}", reply.message());
    reply.body
}

async fn apply(caller: &Caller, path: &str, body: &Value) -> Reply {
    let content = [("content-type", "application/apply-patch+yaml")];
    caller.request_as("PATCH", &format!("{path}?fieldManager=m"), Some(body), &content).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_names_a_class_that_exists_or_is_not_made() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let mut attacks = Attacks::group("a runtime handler without its RuntimeClass");
    admin.make(CLASSES, class("sandbox", "runsc")).await;

    let message = |name: &str, class: &str| {
        format!("pods \"{name}\" is forbidden: pod rejected: RuntimeClass \"{class}\" not found")
    };
    // A handler is not a class, for any user and any kind of write.
    for (at, name) in ["runc", "runsc", "crun", "kata", "x.y"].into_iter().enumerate() {
        let reply = admin.request("POST", PODS, Some(&pod(&format!("h{at}"), name))).await;
        let refused = reply.code == 403 && reply.message() == message(&format!("h{at}"), name);
        attacks.attempt(&format!("POST of a pod of {name}"), refused, &reply);
    }
    let reply = apply(admin, &format!("{PODS}/applied"), &pod("applied", "runc")).await;
    attacks.attempt("server-side apply", reply.code == 403, &reply);
    let reply = admin.request("PUT", &format!("{PODS}/put"), Some(&pod("put", "runc"))).await;
    attacks.attempt("PUT of a pod that does not exist", reply.code == 404, &reply);
    let mirror = json!({ "kubernetes.io/config.mirror": "x" });
    let mut fixed = pod("mirror", "runc");
    fixed["metadata"]["annotations"] = mirror;
    fixed["spec"]["nodeName"] = "node-a".into();
    let reply = admin.request("POST", PODS, Some(&fixed)).await;
    attacks.attempt("a mirror pod", reply.code == 403, &reply);
    let mut empty = pod("empty", "runc");
    empty["spec"]["runtimeClassName"] = "".into();
    let reply = admin.request("POST", PODS, Some(&empty)).await;
    attacks.attempt("an empty name", reply.code == 403, &reply);
    let reply = admin.request("POST", PODS, Some(&pod("path", "../runc"))).await;
    attacks.attempt("a path as name", matches!(reply.code, 403 | 422), &reply);

    // A pod that exists keeps its handler.
    admin.make(PODS, pod("kept", "sandbox")).await;
    admin
        .make(PODS, json!({ "metadata": { "name": "plain" }, "spec": pod("", "")["spec"]["containers"].as_array().map(|it| json!({ "containers": it })) }))
        .await;
    for (name, to) in [("plain", json!("sandbox")), ("plain", json!("runc")), ("kept", json!(null))]
    {
        let path = format!("{PODS}/{name}");
        let change = json!({ "spec": { "runtimeClassName": to } });
        let reply = admin.request("PATCH", &path, Some(&change)).await;
        attacks.attempt(&format!("PATCH of {name} to {to}"), reply.code == 422, &reply);
        let mut whole = stored(admin, &path).await;
        whole["spec"]["runtimeClassName"] = to.clone();
        let status = admin.request("PUT", &format!("{path}/status"), Some(&whole)).await;
        let after = stored(admin, &path).await["spec"]["runtimeClassName"].clone();
        attacks.attempt(&format!("PUT of {name}'s status with {to}"), after != to, &status);
    }
    // A class keeps its handler; who may not write classes makes none.
    let reply = admin
        .request("PATCH", &format!("{CLASSES}/sandbox"), Some(&json!({ "handler": "runc" })))
        .await;
    attacks.attempt("PATCH of a class's handler", reply.code == 422, &reply);
    let app = cluster.account("a/app", "a", "app").await;
    let reply = app.request("POST", CLASSES, Some(&class("mine", "runc"))).await;
    attacks.attempt("a class made by a user with edit", reply.code == 403, &reply);
    let node = cluster.node("node-a").await;
    let reply = node.request("POST", CLASSES, Some(&class("mine", "runc"))).await;
    attacks.attempt("a class made by a node", reply.code == 403, &reply);
    // A template may name what does not exist; its pods may not.
    let deployment = json!({
        "metadata": { "name": "d" },
        "spec": {
            "selector": { "matchLabels": { "a": "b" } },
            "template": { "metadata": { "labels": { "a": "b" } }, "spec": pod("", "runc")["spec"] },
        },
    });
    admin.make("/apis/apps/v1/namespaces/a/deployments", deployment).await;
    let controller = cluster.user("control", "system:kube-controller-manager", &[]).await;
    let reply = controller.request("POST", PODS, Some(&pod("d-1", "runc"))).await;
    attacks.attempt("a pod made by a controller", reply.code == 403, &reply);
    attacks.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_a_class_gets_its_overhead_and_its_nodes() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let mut sandbox = class("sandbox", "runsc");
    sandbox["overhead"] = json!({ "podFixed": { "cpu": "0.25" } });
    sandbox["scheduling"] = json!({
        "nodeSelector": { "sandbox": "yes" },
        "tolerations": [{ "key": "sandbox", "operator": "Exists" }],
    });
    admin.make(CLASSES, sandbox).await;
    let made = admin.make(PODS, pod("p", "sandbox")).await;
    assert_eq!(made["spec"]["overhead"], json!({ "cpu": "250m" }));
    assert_eq!(made["spec"]["nodeSelector"], json!({ "sandbox": "yes" }));
    let tolerations = made["spec"]["tolerations"].as_array().unwrap();
    assert!(tolerations.contains(&json!({ "key": "sandbox", "operator": "Exists" })));
    let mut other = pod("q", "sandbox");
    other["spec"]["nodeSelector"] = json!({ "sandbox": "no" });
    let reply = admin.request("POST", PODS, Some(&other)).await;
    assert_eq!(
        (reply.code, reply.message()),
        (
            403,
            "pods \"q\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[sandbox] = yes; pod.spec.nodeSelector[sandbox] = no"
        )
    );
    let mut unasked = pod("r", "sandbox");
    unasked["spec"].as_object_mut().unwrap().remove("runtimeClassName");
    unasked["spec"]["overhead"] = json!({ "cpu": "1m" });
    let reply = admin.request("POST", PODS, Some(&unasked)).await;
    assert_eq!(
        reply.message(),
        "pods \"r\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
    );
    // Nodes read classes.
    let node = cluster.node("node-a").await;
    assert_eq!(node.request("GET", &format!("{CLASSES}/sandbox"), None).await.code, 200);
    assert_eq!(node.request("GET", CLASSES, None).await.code, 200);
}
