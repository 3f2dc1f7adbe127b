//! Wanda writes secrets and may not read them: no response to a write shows her what they hold.

use coffer_testkit::Attacks;
use serde_json::{Value, json};

use crate::cluster::{Caller, Cluster, RBAC};

const SECRETS: &str = "/api/v1/namespaces/a/secrets";
/// In base64 no character of it is special, so that it would be a valid label as well.
const CANARY: &str = "canary";
const CANARY_BASE64: &str = "Y2FuYXJ5";

async fn wanda(cluster: &Cluster) -> Caller {
    let verbs = ["create", "update", "patch", "delete", "deletecollection"];
    let role = json!({
        "metadata": { "name": "publisher" },
        "rules": [{ "apiGroups": [""], "verbs": verbs, "resources": ["secrets"] }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/namespaces/a/roles"), role).await;
    let binding = json!({
        "metadata": { "name": "publisher" },
        "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": "publisher" },
        "subjects": [{ "kind": "User", "name": "wanda", "apiGroup": RBAC }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/namespaces/a/rolebindings"), binding).await;
    cluster.user("wanda", "wanda", &[]).await
}

fn secret(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": name, "labels": { "own": "x" }, "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"data\":{{\"k\":\"{CANARY_BASE64}\"}}}}"),
        } },
        "data": { "password": CANARY_BASE64 },
    })
}

fn shows(reply: &crate::cluster::Reply) -> bool {
    let text = format!("{} {:?}", reply.body, reply.warnings);
    text.contains(CANARY) || text.contains(CANARY_BASE64) || text.contains("f:password")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_returns_a_secret_to_a_caller_without_get() {
    let mut attacks = Attacks::group("a secret's payload in the response to a write");
    let cluster = Cluster::start().await;
    let wanda = wanda(&cluster).await;
    cluster.admin.make(SECRETS, secret("s")).await;
    let at = format!("{SECRETS}/s");
    let merge = "application/merge-patch+json";
    let strategic = "application/strategic-merge-patch+json";
    let (patch, apply) = ("application/json-patch+json", "application/apply-patch+yaml");
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let labels = json!({ "metadata": { "labels": { "x": "y" } } });
    let intent = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s", "labels": { "x": "y" } } });
    let json_labels = json!([{ "op": "add", "path": "/metadata/labels/x", "value": "z" }]);
    for query in ["", "?dryRun=All"] {
        let mut writes = Vec::new();
        for (media, body) in [
            (merge, json!({})),
            (merge, labels.clone()),
            (strategic, json!({})),
            (strategic, labels.clone()),
            (patch, json!([])),
            (patch, json_labels.clone()),
        ] {
            writes.push((media, format!("{at}{query}"), body));
        }
        let join = if query.is_empty() { "?" } else { "&" };
        writes.push((apply, format!("{at}{query}{join}fieldManager=w&force=true"), intent.clone()));
        for (media, path, body) in writes {
            let reply = wanda.request_typed("PATCH", &path, &body, media).await;
            let has_metadata = reply.code == 200
                && reply.body["metadata"]["name"] == "s"
                && reply.body["type"] == "Opaque";
            attacks.attempt(
                &format!("{media} {body} {query}"),
                has_metadata && !shows(&reply),
                &reply,
            );
            let accept = [("accept", table), ("content-type", media)];
            let reply = wanda
                .request_as(
                    "PATCH",
                    &format!(
                        "{path}{}includeObject=Object",
                        if path.contains('?') { "&" } else { "?" }
                    ),
                    Some(&body),
                    &accept[..1],
                )
                .await;
            attacks.attempt(&format!("{media} {body} {query} as a table"), !shows(&reply), &reply);
        }
    }
    // What a patch may look at or copy to where it is shown.
    for (what, operations) in [
        (
            "copied to a label",
            json!([{ "op": "copy", "from": "/data/password", "path": "/metadata/labels/y" }]),
        ),
        (
            "moved to a label",
            json!([{ "op": "move", "from": "/data/password", "path": "/metadata/labels/y" }]),
        ),
        (
            "copied to the type",
            json!([{ "op": "copy", "from": "/data/password", "path": "/type" }]),
        ),
        (
            "copied to the name",
            json!([{ "op": "copy", "from": "/data/password", "path": "/metadata/name" }]),
        ),
        (
            "copied to the kind",
            json!([{ "op": "copy", "from": "/data/password", "path": "/kind" }]),
        ),
        (
            "copied as a whole",
            json!([{ "op": "copy", "from": "/data", "path": "/metadata/labels" }]),
        ),
        (
            "copied past a name before the pointer",
            json!([{ "op": "copy", "from": "x/data/password", "path": "/metadata/labels/y" }]),
        ),
        ("the root copied", json!([{ "op": "copy", "from": "", "path": "/metadata/labels/y" }])),
        (
            "guessed right",
            json!([{ "op": "test", "path": "/data/password", "value": CANARY_BASE64 }]),
        ),
        ("guessed wrong", json!([{ "op": "test", "path": "/data/password", "value": "eA==" }])),
        (
            "an annotation copied",
            json!([{ "op": "copy", "from": "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration", "path": "/metadata/labels/y" }]),
        ),
    ] {
        let reply =
            wanda.request_typed("PATCH", &format!("{at}?dryRun=All"), &operations, patch).await;
        attacks.attempt(what, reply.code == 403 && !shows(&reply), &reply);
    }
    // A replacement, also a refused one, shows its writer nothing of the object before.
    let mut other = secret("s");
    other["metadata"]["annotations"] = Value::Null;
    other["data"] = json!({ "other": "eA==" });
    let reply = wanda.request("PUT", &format!("{at}?dryRun=All"), Some(&other)).await;
    attacks.attempt("PUT", reply.code == 200 && !shows(&reply), &reply);
    other["type"] = "kubernetes.io/tls".into();
    let reply = wanda.request("PUT", &at, Some(&other)).await;
    attacks.attempt("a PUT that is refused", reply.code == 422 && !shows(&reply), &reply);
    let mut named = secret("s");
    named["metadata"]["name"] = "made".into();
    let reply = wanda.request("POST", SECRETS, Some(&named)).await;
    attacks.attempt("POST", reply.code == 201 && !shows(&reply), &reply);
    // A deletion that waits returns the object, and that of a collection all of them.
    let mut held = secret("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.admin.make(SECRETS, held).await;
    for query in ["?dryRun=All", ""] {
        let reply = wanda.request("DELETE", &format!("{SECRETS}/held{query}"), None).await;
        attacks.attempt(
            &format!("DELETE of a held one {query}"),
            reply.code == 200 && !shows(&reply),
            &reply,
        );
        let reply = wanda.request("DELETE", &format!("{SECRETS}{query}"), None).await;
        let listed = reply.body["items"].as_array().is_some_and(|items| !items.is_empty());
        attacks.attempt(
            &format!("deletecollection {query}"),
            reply.code == 200 && listed && !shows(&reply),
            &reply,
        );
        let reply = wanda
            .request_as(
                "DELETE",
                &format!("{SECRETS}?dryRun=All&includeObject=Object"),
                None,
                &[("accept", table)],
            )
            .await;
        attacks.attempt(&format!("deletecollection {query} as a table"), !shows(&reply), &reply);
    }
    attacks.finish();
}

/// A user who may read sees what was written, and a reader of one secret does not see the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_with_get_sees_the_secret_in_the_response() {
    let cluster = Cluster::start().await;
    let wanda = wanda(&cluster).await;
    for name in ["s", "t"] {
        cluster.admin.make(SECRETS, secret(name)).await;
    }
    let role = json!({
        "metadata": { "name": "reader" },
        "rules": [{ "apiGroups": [""], "verbs": ["get"], "resources": ["secrets"], "resourceNames": ["s"] }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/namespaces/a/roles"), role).await;
    let binding = json!({
        "metadata": { "name": "reader" },
        "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": "reader" },
        "subjects": [{ "kind": "User", "name": "wanda", "apiGroup": RBAC }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/namespaces/a/rolebindings"), binding).await;
    let reply = wanda.request("PATCH", &format!("{SECRETS}/s"), Some(&json!({}))).await;
    assert_eq!(reply.body["data"]["password"], CANARY_BASE64);
    let reply = wanda.request("PATCH", &format!("{SECRETS}/t"), Some(&json!({}))).await;
    assert_eq!(reply.body["data"], Value::Null);
    let reply = wanda.request("DELETE", &format!("{SECRETS}?dryRun=All"), None).await;
    let of = |name: &str| {
        let items = reply.body["items"].as_array().unwrap();
        items.iter().find(|item| item["metadata"]["name"] == name).unwrap()["data"].clone()
    };
    assert_eq!((of("s")["password"].as_str(), of("t")), (Some(CANARY_BASE64), Value::Null));
    // A patch that names a version still works.
    let version = cluster.admin.request("GET", &format!("{SECRETS}/t"), None).await.body;
    let operations = json!([
        { "op": "test", "path": "/metadata/resourceVersion", "value": version["metadata"]["resourceVersion"] },
        { "op": "add", "path": "/data/more", "value": "eA==" },
    ]);
    let reply = wanda
        .request_typed("PATCH", &format!("{SECRETS}/t"), &operations, "application/json-patch+json")
        .await;
    assert_eq!(reply.code, 200, "{}", reply.message());
}
