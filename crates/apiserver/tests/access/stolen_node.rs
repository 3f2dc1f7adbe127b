//! An attacker has node A's key: what they try against node B, one by one, and the responses.

use serde_json::{Value, json};

use crate::cluster::{Cluster, bind, pod};

fn mirror(node: &str) -> Value {
    json!({
        "metadata": {
            "name": "m", "annotations": { "kubernetes.io/config.mirror": "x" },
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Node", "name": node, "uid": "?", "controller": true
            }],
        },
        "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "i" }] },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_nodes_key_gives_no_access_to_another_node() {
    let cluster = Cluster::start().await;
    let thief = cluster.node("node-a").await;
    let uid_of = |path: &'static str| {
        let admin = &cluster.admin;
        async move {
            let found = admin.request("GET", path, None).await;
            found.body["metadata"]["uid"].as_str().unwrap().to_owned()
        }
    };
    let pod_b = uid_of("/api/v1/namespaces/b/pods/pb").await;
    let node_a = uid_of("/api/v1/nodes/node-a").await;
    let token = |name: &str, uid: &str| {
        let reference = json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid });
        json!({ "spec": { "boundObjectRef": reference } })
    };
    let with = |mut value: Value, change: &dyn Fn(&mut Value)| {
        value["metadata"]["ownerReferences"][0]["uid"] = node_a.clone().into();
        change(&mut value);
        value
    };
    let secret_volume = json!([{ "name": "v", "secret": { "secretName": "other" } }]);
    let (pods_a, pods_b) = ("/api/v1/namespaces/a/pods", "/api/v1/namespaces/b/pods");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let tries: Vec<(&str, &str, String, Option<Value>, &str)> = vec![
        (
            "reads a secret of node B's pod",
            "GET",
            "/api/v1/namespaces/b/secrets/db".into(),
            None,
            "no relationship found between node 'node-a' and this object",
        ),
        (
            "watches it",
            "GET",
            "/api/v1/namespaces/b/secrets?watch=true&fieldSelector=metadata.name=db".into(),
            None,
            "no relationship found between node 'node-a' and this object",
        ),
        (
            "reads a secret that no pod uses",
            "GET",
            "/api/v1/namespaces/a/secrets/other".into(),
            None,
            "no relationship found between node 'node-a' and this object",
        ),
        (
            "names two secrets with one selector",
            "GET",
            "/api/v1/namespaces/b/secrets?fieldSelector=metadata.name!=db".into(),
            None,
            "No Object name found",
        ),
        (
            "writes the secret it may read",
            "PATCH",
            "/api/v1/namespaces/a/secrets/db".into(),
            Some(json!({ "data": {} })),
            "can only read resources of this type",
        ),
        (
            "lists pods of node B",
            "GET",
            "/api/v1/pods?fieldSelector=spec.nodeName=node-b".into(),
            None,
            "can only list/watch pods with spec.nodeName field selector",
        ),
        (
            "reports node B's pod failed",
            "PATCH",
            format!("{pods_b}/pb/status"),
            Some(json!({ "status": { "phase": "Failed" } })),
            "node \"node-a\" can only update pod status for pods with spec.nodeName set to itself",
        ),
        (
            "relabels its own pod",
            "PATCH",
            format!("{pods_a}/pa/status"),
            Some(json!({ "metadata": { "labels": { "app": "bank" } } })),
            "node \"node-a\" cannot update labels through pod status",
        ),
        (
            "deletes node B's pod",
            "DELETE",
            format!("{pods_b}/pb"),
            None,
            "node \"node-a\" can only delete pods with spec.nodeName set to itself",
        ),
        (
            "makes a pod that mounts a secret",
            "POST",
            pods_a.into(),
            Some(pod("x", "other")),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"node-a\" can only create mirror pods",
        ),
        (
            "makes a mirror pod that mounts a secret",
            "POST",
            pods_a.into(),
            Some(with(mirror("node-a"), &|it| it["spec"]["volumes"] = secret_volume.clone())),
            "node \"node-a\" can not create pods that reference secrets",
        ),
        (
            "makes a mirror pod with an account",
            "POST",
            pods_a.into(),
            Some(with(mirror("node-a"), &|it| it["spec"]["serviceAccountName"] = "app".into())),
            "node \"node-a\" can not create pods that reference a service account",
        ),
        (
            "makes a mirror pod on node B",
            "POST",
            pods_a.into(),
            Some(mirror("node-b")),
            "node \"node-a\" can only create pods with spec.nodeName set to itself",
        ),
        (
            "binds a pod to itself",
            "POST",
            format!("{pods_b}/pb/binding"),
            Some(json!({ "metadata": { "name": "pb" }, "target": { "name": "node-a" } })),
            "cannot create resource \"pods/binding\"",
        ),
        (
            "labels its node as trusted",
            "PATCH",
            "/api/v1/nodes/node-a".into(),
            Some(
                json!({ "metadata": { "labels": { "node-restriction.kubernetes.io/pci": "1" } } }),
            ),
            "is not allowed to modify labels: node-restriction.kubernetes.io/pci",
        ),
        (
            "takes its taints off",
            "PATCH",
            "/api/v1/nodes/node-a".into(),
            Some(json!({ "spec": { "taints": [{ "key": "k", "effect": "NoSchedule" }] } })),
            "node \"node-a\" is not allowed to modify taints",
        ),
        (
            "changes node B",
            "PATCH",
            "/api/v1/nodes/node-b/status".into(),
            Some(json!({ "status": { "addresses": [] } })),
            "node \"node-a\" is not allowed to modify node \"node-b\"",
        ),
        (
            "renews node B's lease",
            "POST",
            leases.into(),
            Some(json!({ "metadata": { "name": "node-b" }, "spec": {} })),
            "can only access node lease with the same name as the requesting node",
        ),
        (
            "asks for a token of an account none of its pods has",
            "POST",
            "/api/v1/namespaces/b/serviceaccounts/app/token".into(),
            Some(token("pb", &pod_b)),
            "no relationship found between node 'node-a' and this object",
        ),
        (
            "asks for a token bound to nothing",
            "POST",
            "/api/v1/namespaces/a/serviceaccounts/app/token".into(),
            Some(json!({})),
            "node requested token not bound to a pod",
        ),
        (
            "asks for a token bound to an earlier pod",
            "POST",
            "/api/v1/namespaces/a/serviceaccounts/app/token".into(),
            Some(token("pa", "another")),
            "does not match the UID in record",
        ),
        (
            "gives itself a role",
            "POST",
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings".into(),
            Some(json!({})),
            "cannot create resource \"clusterrolebindings\"",
        ),
        (
            "opens a shell in node B's pod",
            "POST",
            format!("{pods_b}/pb/exec?command=sh"),
            None,
            "cannot create resource \"pods/exec\"",
        ),
    ];
    for (what, method, path, body, why) in tries {
        let reply = thief.request(method, &path, body.as_ref()).await;
        assert_eq!(reply.code, 403, "{what}: {}", reply.message());
        assert!(reply.message().contains(why), "{what}: {}", reply.message());
    }
    let headers =
        [("impersonate-user", "system:node:node-b"), ("impersonate-group", "system:nodes")];
    let reply = thief.request_as("GET", "/api/v1/namespaces/b/secrets/db", None, &headers).await;
    assert_eq!(reply.code, 403);
    assert_eq!(
        reply.message(),
        "users \"system:node:node-b\" is forbidden: User \"system:node:node-a\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
}

/// A node learns of its pod and reads its secrets in the same instant; when the pod no longer exists it may
/// not read them any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_reads_secrets_from_binding_to_deletion_and_not_an_instant_longer() {
    let cluster = Cluster::start().await;
    let node = cluster.node("node-a").await;
    let path = "/api/v1/namespaces/a/secrets/other";
    for round in 0..20 {
        let name = format!("q{round}");
        cluster.admin.make("/api/v1/namespaces/a/pods", pod(&name, "other")).await;
        assert_eq!(node.request("GET", path, None).await.code, 403, "before the binding");
        bind(&cluster.admin, "a", &name, "node-a").await;
        assert_eq!(node.request("GET", path, None).await.code, 200, "after the binding");
        let pod = format!("/api/v1/namespaces/a/pods/{name}?gracePeriodSeconds=0");
        assert_eq!(cluster.admin.request("DELETE", &pod, None).await.code, 200);
        // A denial is never given by an old state; an approval may be, for as long as the cache
        // takes to hear of the deletion: the admin's read waits for it.
        cluster.admin.request("GET", path, None).await;
        assert_eq!(node.request("GET", path, None).await.code, 403, "after the deletion");
    }
}

/// A watch that was opened while a pod needed the secret ends when none does any more, before the
/// next state of the secret is delivered; a user's ends with the binding that gave it.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_the_right_to_it() {
    let cluster = Cluster::start().await;
    let (node, admin) = (cluster.node("node-a").await, &cluster.admin);
    let app = cluster.account("app", "a", "app").await;
    let path = "/api/v1/namespaces/a/secrets?watch=true&fieldSelector=metadata.name=db";
    let (mut for_node, mut for_app) = (node.watch(path).await, app.watch(path).await);
    assert_eq!(for_node.next().await.unwrap()["type"], "ADDED");
    assert_eq!(for_app.next().await.unwrap()["type"], "ADDED");
    let change = |value: &str| json!({ "metadata": { "labels": { "round": value } } });
    let secret = "/api/v1/namespaces/a/secrets/db";
    admin.request("PATCH", secret, Some(&change("1"))).await;
    assert_eq!(for_node.next().await.unwrap()["type"], "MODIFIED");
    assert_eq!(for_app.next().await.unwrap()["type"], "MODIFIED");

    admin.request("DELETE", "/api/v1/namespaces/a/pods/pa?gracePeriodSeconds=0", None).await;
    admin.request("PATCH", secret, Some(&change("2"))).await;
    assert_eq!(for_node.next().await, None);
    assert_eq!(for_app.next().await.unwrap()["type"], "MODIFIED");

    let binding = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings/app";
    admin.request("DELETE", binding, None).await;
    admin.request("PATCH", secret, Some(&change("3"))).await;
    assert_eq!(for_app.next().await, None);
}
