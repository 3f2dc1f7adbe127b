//! Mallory makes pods and templates with host paths that lead to the node's own directories. She
//! lacks `use` on `hostpaths` in `coffer.dev`; the mark that the kubelet asks for is the server's.

use coffer_testkit::Attacks;
use serde_json::{Value, json};

use crate::cluster::{Caller, Cluster, RBAC};

const PODS: &str = "/api/v1/namespaces/a/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/a/deployments";
const SETS: &str = "/apis/apps/v1/namespaces/a/replicasets";
const CONTROLLERS: &str = "/api/v1/namespaces/a/replicationcontrollers";
const GRANTED: &str = "coffer.dev/granted-host-paths";

/// A cluster whose namespace `a` takes host paths: by default no pod has any.
async fn unrestricted() -> Cluster {
    let cluster = Cluster::start().await;
    let label = json!({ "metadata": { "labels": {
        "pod-security.kubernetes.io/enforce": "privileged",
    } } });
    let reply = cluster.admin.request("PATCH", "/api/v1/namespaces/a", Some(&label)).await;
    assert_eq!(reply.code, 200, "{}", reply.message());
    cluster
}

async fn writer(cluster: &Cluster, name: &'static str, more: Value) -> Caller {
    let mut rules = vec![json!({ "apiGroups": ["", "apps"], "verbs": ["*"], "resources": [
        "pods", "pods/ephemeralcontainers", "pods/status", "pods/binding", "deployments",
        "deployments/scale", "replicasets", "replicationcontrollers",
    ] })];
    rules.extend(more.as_array().unwrap().clone());
    let role = json!({ "metadata": { "name": name }, "rules": rules });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/namespaces/a/roles"), role).await;
    let binding = json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": name },
        "subjects": [{ "kind": "User", "name": name, "apiGroup": RBAC }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/namespaces/a/rolebindings"), binding).await;
    cluster.user(name, name, &[]).await
}

fn spec(path: &str, kind: &str) -> Value {
    json!({
        "containers": [{ "name": "c", "image": "i", "volumeMounts": [{ "name": "h", "mountPath": "/h" }] }],
        "volumes": [{ "name": "h", "hostPath": { "path": path, "type": kind } }],
    })
}

fn pod(name: &str, path: &str, kind: &str) -> Value {
    json!({ "metadata": { "name": name, "annotations": { GRANTED: "true" } }, "spec": spec(path, kind) })
}

fn templated(name: &str, path: &str, selector: Value) -> Value {
    json!({
        "metadata": { "name": name, "annotations": { GRANTED: "true" } },
        "spec": { "replicas": 1, "selector": selector, "template": {
            "metadata": { "labels": { "app": name }, "annotations": { GRANTED: "true" } },
            "spec": spec(path, ""),
        } },
    })
}

fn set(name: &str, path: &str) -> Value {
    templated(name, path, json!({ "matchLabels": { "app": name } }))
}

/// The pod that the controller makes of a ReplicaSet.
fn made_from(set: &Value) -> Value {
    json!({
        "metadata": {
            "generateName": "made-", "labels": set["spec"]["template"]["metadata"]["labels"],
            "annotations": set["spec"]["template"]["metadata"]["annotations"],
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                "name": set["metadata"]["name"], "uid": set["metadata"]["uid"] }],
        },
        "spec": set["spec"]["template"]["spec"],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn host_paths_of_the_system_take_a_right() {
    let mut attacks = Attacks::group("host paths of the system, at the API server");
    let cluster = unrestricted().await;
    let mallory = writer(&cluster, "mallory", json!([])).await;
    let control = cluster.user("control", "system:kube-controller-manager", &[]).await;
    for path in [
        "/",
        "//",
        "/.",
        "/run",
        "/var",
        "/var/run/",
        "/var/lib",
        "/./var//lib",
        "/etc",
        "/proc",
        "/run/coffer-1",
        "/var/run/coffer-x/c.sock",
        "/run/containerd/containerd.sock",
        "/var/lib/containerd",
        "/var/lib/kubelet/pods",
        "/proc/1/root/var",
        "/var/run/docker.sock",
        "/etc/kubernetes/pki/ca.key",
        "/tmp/../run",
    ] {
        for kind in ["", "Directory", "DirectoryOrCreate", "FileOrCreate", "Socket"] {
            let reply = mallory.request("POST", PODS, Some(&pod("p", path, kind))).await;
            attacks.attempt(&format!("{path:?} {kind}"), matches!(reply.code, 403 | 422), &reply);
        }
        for (at, selector) in [
            (DEPLOYMENTS, json!({ "matchLabels": { "app": "t" } })),
            (SETS, json!({ "matchLabels": { "app": "t" } })),
            (CONTROLLERS, json!({ "app": "t" })),
        ] {
            let reply = mallory.request("POST", at, Some(&templated("t", path, selector))).await;
            attacks.attempt(
                &format!("{path:?} in a template at {at}"),
                matches!(reply.code, 403 | 422),
                &reply,
            );
        }
    }
    // The mark is the server's, whichever way it is sent: nothing is marked that she writes.
    let made = mallory.make(PODS, pod("log", "/var/log", "")).await;
    attacks.attempt("a mark of her own", made["metadata"]["annotations"][GRANTED].is_null(), made);
    let mark = json!({ "metadata": { "annotations": { GRANTED: "true" } } });
    for sub in ["", "/status", "/ephemeralcontainers"] {
        mallory.request("PATCH", &format!("{PODS}/log{sub}"), Some(&mark)).await;
        let found = cluster.admin.request("GET", &format!("{PODS}/log"), None).await;
        attacks.attempt(
            &format!("a mark by a patch of {sub:?}"),
            found.body["metadata"]["annotations"][GRANTED].is_null(),
            found,
        );
    }
    let binding = json!({ "metadata": { "name": "log", "annotations": { GRANTED: "true" } },
        "target": { "apiVersion": "v1", "kind": "Node", "name": "node-a" } });
    mallory.make(&format!("{PODS}/log/binding"), binding).await;
    let found = cluster.admin.request("GET", &format!("{PODS}/log"), None).await;
    attacks.attempt(
        "a mark by the binding",
        found.body["metadata"]["annotations"][GRANTED].is_null(),
        found,
    );
    let node = cluster.node("node-a").await;
    node.request("PATCH", &format!("{PODS}/log/status"), Some(&mark)).await;
    let found = cluster.admin.request("GET", &format!("{PODS}/log"), None).await;
    attacks.attempt(
        "a mark by a node",
        found.body["metadata"]["annotations"][GRANTED].is_null(),
        found,
    );
    let own = mallory.make(SETS, set("own", "/srv/data")).await;
    let pod_made = control.make(PODS, made_from(&own)).await;
    let clean = own["metadata"]["annotations"][GRANTED].is_null()
        && pod_made["metadata"]["annotations"][GRANTED].is_null();
    attacks.attempt("a mark in a template", clean, (own, pod_made));

    // The administrator's: another program in it, or another owner of it, loses the mark or is refused.
    let admins = cluster.admin.make(SETS, set("admins", "/srv/coffer-data")).await;
    let mut evil = set("admins", "/srv/coffer-data");
    evil["spec"]["template"]["spec"]["containers"][0]["image"] = "evil".into();
    let reply = mallory.request("PUT", &format!("{SETS}/admins"), Some(&evil)).await;
    let lost = reply.code == 403 || reply.body["metadata"]["annotations"][GRANTED].is_null();
    attacks.attempt("another program in the administrator's template", lost, &reply);
    let mut forged = made_from(&admins);
    forged["spec"]["containers"][0]["image"] = "evil".into();
    for (who, caller) in [("mallory", &mallory), ("a controller", &control)] {
        let reply = caller.request("POST", PODS, Some(&forged)).await;
        let lost = reply.code != 201 || reply.body["metadata"]["annotations"][GRANTED].is_null();
        attacks.attempt(
            &format!("a pod of the administrator's ReplicaSet, by {who}"),
            lost,
            &reply,
        );
    }
    cluster.admin.make(PODS, pod("marked", "/srv/coffer-data", "")).await;
    let image = json!({ "spec": { "containers": [{ "name": "c", "image": "evil" }] } });
    let ephemeral = json!({ "spec": { "ephemeralContainers": [{ "name": "e", "image": "evil", "volumeMounts": [{ "name": "h", "mountPath": "/h" }] }] } });
    for (sub, body) in [("", &image), ("/ephemeralcontainers", &ephemeral)] {
        let reply = mallory
            .request_typed(
                "PATCH",
                &format!("{PODS}/marked{sub}"),
                body,
                "application/strategic-merge-patch+json",
            )
            .await;
        attacks.attempt(
            &format!("another program in a marked pod {sub}"),
            reply.code == 403,
            &reply,
        );
    }
    attacks.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_marks_pods_and_what_pods_are_made_from() {
    let cluster = unrestricted().await;
    let right =
        json!([{ "apiGroups": ["coffer.dev"], "resources": ["hostpaths"], "verbs": ["use"] }]);
    let oscar = writer(&cluster, "oscar", right).await;
    let control = cluster.user("control", "system:kube-controller-manager", &[]).await;
    for caller in [&oscar, &cluster.admin] {
        let made = caller.make(PODS, pod(caller.name, "/run/containerd", "")).await;
        assert_eq!(made["metadata"]["annotations"][GRANTED], "true");
        let owner = caller.make(SETS, set(caller.name, "/var/lib/containerd")).await;
        assert_eq!(owner["metadata"]["annotations"][GRANTED], "true");
        let made = control.make(PODS, made_from(&owner)).await;
        assert_eq!(made["metadata"]["annotations"][GRANTED], "true");
    }
    // Without a host path there is nothing to mark.
    let plain = json!({ "metadata": { "name": "plain" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let made = oscar.make(PODS, plain).await;
    assert!(made["metadata"]["annotations"][GRANTED].is_null());
    let mallory = writer(&cluster, "mallory", json!([])).await;
    let reply = mallory.request("POST", PODS, Some(&pod("p", "/run/containerd", ""))).await;
    assert_eq!(
        reply.message(),
        "pods \"p\" is forbidden: User \"mallory\" cannot use host path \"/run/containerd\" in the namespace \"a\": this requires the verb \"use\" on \"hostpaths\" in the API group \"coffer.dev\""
    );
    // Others' workloads are scaled and restarted without it.
    let reply = mallory
        .request("PATCH", &format!("{SETS}/admin"), Some(&json!({ "spec": { "replicas": 2 } })))
        .await;
    assert_eq!(
        (reply.code, &reply.body["metadata"]["annotations"][GRANTED]),
        (200, &json!("true"))
    );
}
