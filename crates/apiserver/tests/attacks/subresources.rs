//! Subresources, and annotations of other objects, that could change what pods get.

use coffer_testkit::Attacks;
use serde_json::{Value, json};

use crate::cluster::{Caller, Cluster, RBAC, pod};

const PODS: &str = "/api/v1/namespaces/a/pods";
const SECRETS: &str = "/api/v1/namespaces/a/secrets";
const MOUNT_PATH: &str = "coffer.dev/mount-path";
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// Mallory may write all of this, and use no secret but `other`.
async fn mallory(cluster: &Cluster) -> Caller {
    let all = |groups: Value, resources: Value| json!({ "apiGroups": groups, "resources": resources, "verbs": ["*"] });
    let role = json!({
        "metadata": { "name": "mallory" },
        "rules": [
            all(json!([""]), json!(["pods/binding", "pods/eviction"])),
            all(json!([""]), json!(["namespaces/status", "namespaces/finalize"])),
            { "apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "patch", "update"] },
            { "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["other"], "verbs": ["use"] },
            { "apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"] },
        ],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/namespaces/a/roles"), role).await;
    let binding = json!({
        "metadata": { "name": "mallory" },
        "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": "mallory" },
        "subjects": [{ "kind": "User", "name": "mallory", "apiGroup": RBAC }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/namespaces/a/rolebindings"), binding).await;
    cluster.user("mallory", "mallory", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn subresources_change_nothing_that_decides_what_pods_get() {
    let cluster = Cluster::start().await;
    let mallory = mallory(&cluster).await;
    let mut attacks = Attacks::group("what pods get, through other endpoints and annotations");

    // Where a secret is mounted is seen by pods that have others.
    let moved = json!({ "metadata": { "annotations": { MOUNT_PATH: "/etc" } } });
    let made = json!({ "metadata": { "name": "new", "annotations": { MOUNT_PATH: "/etc" } } });
    for (what, method, path, body) in [
        ("a secret without use", "PATCH", format!("{SECRETS}/db"), &moved),
        ("a secret of one's own", "PATCH", format!("{SECRETS}/other"), &moved),
        ("a new secret", "POST", SECRETS.to_owned(), &made),
    ] {
        let reply = mallory.request(method, &path, Some(body)).await;
        attacks.attempt(what, reply.code == 403, &reply);
    }

    // A pod that waits for its gates cannot be bound.
    let mut gated = pod("gated", "db");
    gated["spec"]["schedulingGates"] = json!([{ "name": "a/b" }]);
    cluster.admin.make(PODS, gated).await;
    let target = json!({ "kind": "Node", "name": "node-a" });
    let binding = json!({ "metadata": { "name": "gated" }, "target": target });
    let reply = mallory.request("POST", &format!("{PODS}/gated/binding"), Some(&binding)).await;
    let why = "Operation cannot be fulfilled on pods/binding \"gated\": pod gated has non-empty .spec.schedulingGates";
    attacks.attempt("binding a gated pod", (reply.code, reply.message()) == (409, why), &reply);

    // An eviction that does not come says nothing of the pod.
    for (what, preconditions) in [
        ("another uid", json!({ "uid": "x" })),
        ("another version", json!({ "resourceVersion": "1" })),
    ] {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "pa" },
            "deleteOptions": { "preconditions": preconditions },
        });
        let reply = mallory.request("POST", &format!("{PODS}/pa/eviction"), Some(&eviction)).await;
        let left = cluster.admin.request("GET", &format!("{PODS}/pa"), None).await;
        let is_marked = left.body["status"]["conditions"].to_string().contains("DisruptionTarget");
        attacks.attempt(what, reply.code == 409 && !is_marked, (&reply, &left));
    }

    // A namespace's level is not its status.
    let path = "/api/v1/namespaces/a";
    for sub in ["status", "finalize"] {
        let mut namespace = cluster.admin.request("GET", path, None).await.body;
        namespace["metadata"]["labels"][ENFORCE] = "privileged".into();
        let reply = mallory.request("PUT", &format!("{path}/{sub}"), Some(&namespace)).await;
        let now = cluster.admin.request("GET", path, None).await;
        let failed = now.body["metadata"]["labels"].get(ENFORCE).is_none();
        attacks.attempt(&format!("a level by namespaces/{sub}"), failed, (&reply, &now));
    }

    // The right to impersonate accounts does not include users.
    for user in
        ["system:serviceaccount:a:", "system:serviceaccount:a:b:c", "system:serviceaccount::x"]
    {
        let headers = [("impersonate-user", user)];
        let reply = mallory.request_as("GET", "/api/v1/namespaces/a", None, &headers).await;
        let is_refused =
            reply.code == 403 && reply.message().contains("cannot impersonate resource \"users\"");
        attacks.attempt(user, is_refused, &reply);
    }
    attacks.finish();

    // An eviction of the current version succeeds.
    let there = cluster.admin.request("GET", &format!("{PODS}/gated"), None).await.body;
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "gated" },
        "deleteOptions": { "preconditions": {
            "resourceVersion": there["metadata"]["resourceVersion"] } },
    });
    let reply = mallory.request("POST", &format!("{PODS}/gated/eviction"), Some(&eviction)).await;
    assert_eq!(reply.code, 201, "{}", reply.message());
}
