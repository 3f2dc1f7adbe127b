//! The deny matrix: every sort of caller, every sort of request, and the response to each.
//!
//! `matrix.txt` has the expected responses. A change of it changes permissions, and is to be
//! reviewed as such; `COFFER_BLESS=1` writes it again.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::cluster::{Caller, Cluster, RBAC, pod, secret};

const RUNTIME_CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";
const PRIORITY_CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const LIMIT_RANGES: &str = "/api/v1/namespaces/a/limitranges";

/// A request, dry where it would write.
fn requests() -> Vec<(&'static str, String, Option<Value>)> {
    let get = |path: &str| ("GET", path.to_owned(), None);
    let dry = |method: &'static str, path: &str, body: Value| {
        (method, format!("{path}?dryRun=All"), Some(body))
    };
    let labels = json!({ "metadata": { "labels": { "x": "y" } } });
    let binding = json!({
        "metadata": { "name": "x" },
        "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "User", "name": "eve", "apiGroup": RBAC }],
    });
    let event = |namespace: &str| {
        json!({
            "metadata": { "name": "e" }, "reason": "Test", "message": "m", "type": "Normal",
            "involvedObject": { "kind": "Pod", "namespace": namespace, "name": "pa" },
        })
    };
    let lease = |name: &str| json!({ "metadata": { "name": name }, "spec": {} });
    let status = json!({ "status": { "message": "m" } });
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let review =
        json!({ "spec": { "user": "x", "nonResourceAttributes": { "verb": "get", "path": "/" } } });
    vec![
        get("/healthz"),
        get("/version"),
        get("/api"),
        get("/apis/apps/v1"),
        get("/openapi/v3"),
        get("/openid/v1/jwks"),
        get("/api/v1/namespaces"),
        get("/api/v1/namespaces/a"),
        get("/api/v1/secrets"),
        get("/api/v1/namespaces/a/secrets"),
        get("/api/v1/namespaces/a/secrets?watch=true"),
        get("/api/v1/namespaces/a/secrets/db"),
        get("/api/v1/namespaces/a/secrets/other"),
        get("/api/v1/namespaces/a/secrets?fieldSelector=metadata.name=db"),
        get("/api/v1/namespaces/a/secrets?fieldSelector=metadata.name=db&watch=true"),
        get("/api/v1/namespaces/a/secrets?fieldSelector=metadata.name=other&watch=true"),
        get("/api/v1/namespaces/b/secrets/db"),
        dry("POST", "/api/v1/namespaces/a/secrets", secret("new")),
        dry("PATCH", "/api/v1/namespaces/a/secrets/db", labels.clone()),
        dry("DELETE", "/api/v1/namespaces/a/secrets/db", json!({})),
        get("/api/v1/namespaces/a/configmaps"),
        get("/api/v1/pods"),
        get("/api/v1/pods?fieldSelector=spec.nodeName=node-a"),
        get("/api/v1/pods?fieldSelector=spec.nodeName=node-b&watch=true"),
        get("/api/v1/namespaces/a/pods"),
        get("/api/v1/namespaces/a/pods/pa"),
        get("/api/v1/namespaces/b/pods/pb"),
        dry("POST", "/api/v1/namespaces/a/pods", pod("new", "db")),
        dry("PATCH", "/api/v1/namespaces/a/pods/pa", labels.clone()),
        dry("PATCH", "/api/v1/namespaces/a/pods/pa/status", status.clone()),
        dry("PATCH", "/api/v1/namespaces/b/pods/pb/status", status),
        dry("DELETE", "/api/v1/namespaces/a/pods/pa", json!({})),
        get("/api/v1/nodes"),
        get("/api/v1/nodes/node-a"),
        get("/api/v1/nodes/node-b"),
        dry("PATCH", "/api/v1/nodes/node-a", labels.clone()),
        dry(
            "PATCH",
            "/api/v1/nodes/node-b/status",
            json!({ "metadata": { "labels": { "x": "y" } } }),
        ),
        dry("POST", leases, lease("node-a")),
        dry("POST", leases, lease("node-b")),
        dry("POST", "/api/v1/namespaces/a/events", event("a")),
        ("POST", "/api/v1/namespaces/a/serviceaccounts/app/token".to_owned(), Some(json!({}))),
        get("/api/v1/namespaces/a/serviceaccounts"),
        get(RUNTIME_CLASSES),
        dry("POST", RUNTIME_CLASSES, json!({ "metadata": { "name": "x" }, "handler": "x" })),
        get(PRIORITY_CLASSES),
        dry("POST", PRIORITY_CLASSES, json!({ "metadata": { "name": "x" }, "value": 1 })),
        get(LIMIT_RANGES),
        dry("POST", LIMIT_RANGES, json!({ "metadata": { "name": "x" }, "spec": { "limits": [] } })),
        get(&format!("/apis/{RBAC}/v1/clusterroles")),
        dry("POST", &format!("/apis/{RBAC}/v1/clusterrolebindings"), binding.clone()),
        dry("POST", &format!("/apis/{RBAC}/v1/namespaces/a/rolebindings"), binding),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews".to_owned(),
            Some(review.clone()),
        ),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(), Some(review)),
        ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews".to_owned(), Some(json!({}))),
    ]
}

async fn callers(cluster: &Cluster) -> Vec<Caller> {
    vec![
        cluster.anonymous(),
        cluster.user("eve", "eve", &[]).await,
        cluster.user("alice", "alice", &[]).await,
        cluster.account("a/app", "a", "app").await,
        cluster.account("b/app", "b", "app").await,
        cluster.node("node-a").await,
        cluster.node("node-b").await,
        cluster.user("sched", "system:kube-scheduler", &[]).await,
        cluster.user("control", "system:kube-controller-manager", &[]).await,
        cluster.user("master", "root", &["system:masters"]).await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_gets_the_response_of_the_matrix() {
    let cluster = Cluster::start().await;
    let callers = callers(&cluster).await;
    let mut table = format!("{:<92}", "");
    for caller in &callers {
        write!(table, " {:>9}", caller.name).unwrap();
    }
    table.push('\n');
    for (method, path, body) in requests() {
        let mut shown = path.replace("?dryRun=All", "");
        // Two leases differ in their bodies only.
        if let Some(body) = body.as_ref().filter(|_| shown.ends_with("/leases")) {
            write!(shown, " ({})", body["metadata"]["name"].as_str().unwrap()).unwrap();
        }
        write!(table, "{:<92}", format!("{method} {shown}")).unwrap();
        for caller in &callers {
            let reply = caller.request(method, &path, body.as_ref()).await;
            let response = match reply.code {
                403 => "-".to_owned(),
                200 | 201 => "yes".to_owned(),
                other => format!("{other}"),
            };
            write!(table, " {response:>9}").unwrap();
        }
        table.push('\n');
    }
    let book = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/access/matrix.txt");
    if std::env::var_os("COFFER_BLESS").is_some() {
        std::fs::write(book, &table).unwrap();
    }
    let wanted = std::fs::read_to_string(book).unwrap_or_default();
    let differences: Vec<String> = wanted
        .lines()
        .zip(table.lines())
        .filter(|(wanted, found)| wanted != found)
        .map(|(wanted, found)| format!("wanted {wanted}\nfound  {found}"))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(wanted.lines().count(), table.lines().count(), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_says_what_upstreams_says() {
    let cluster = Cluster::start().await;
    let (eve, node) = (cluster.user("eve", "eve", &[]).await, cluster.node("node-a").await);
    for (caller, path, message) in [
        (
            &cluster.anonymous(),
            "/api/v1/namespaces/a/secrets/db",
            "secrets \"db\" is forbidden: User \"system:anonymous\" cannot get resource \"secrets\" in API group \"\" in the namespace \"a\"",
        ),
        (
            &eve,
            "/apis/apps/v1/deployments",
            "deployments.apps is forbidden: User \"eve\" cannot list resource \"deployments\" in API group \"apps\" at the cluster scope",
        ),
        (&eve, "/metrics", "forbidden: User \"eve\" cannot get path \"/metrics\""),
        (
            &node,
            "/api/v1/namespaces/b/secrets/db",
            "secrets \"db\" is forbidden: User \"system:node:node-a\" cannot get resource \"secrets\" in API group \"\" in the namespace \"b\": no relationship found between node 'node-a' and this object",
        ),
        (
            &node,
            "/api/v1/secrets",
            "secrets is forbidden: User \"system:node:node-a\" cannot list resource \"secrets\" in API group \"\" at the cluster scope: can only read namespaced object of this type",
        ),
        (
            &node,
            "/api/v1/namespaces/a/secrets",
            "secrets is forbidden: User \"system:node:node-a\" cannot list resource \"secrets\" in API group \"\" in the namespace \"a\": No Object name found",
        ),
        (
            &node,
            "/api/v1/nodes/node-b",
            "nodes \"node-b\" is forbidden: User \"system:node:node-a\" cannot get resource \"nodes\" in API group \"\" at the cluster scope: node 'node-a' cannot read 'node-b', only its own Node object",
        ),
        (
            &node,
            "/api/v1/pods",
            "pods is forbidden: User \"system:node:node-a\" cannot list resource \"pods\" in API group \"\" at the cluster scope: can only list/watch pods with spec.nodeName field selector",
        ),
    ] {
        let reply = caller.request("GET", path, None).await;
        assert_eq!((reply.code, reply.message()), (403, message), "{path}");
        assert_eq!(reply.body["reason"], "Forbidden");
    }
}
