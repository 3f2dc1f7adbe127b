//! Reviews, impersonation, and kubectl's `auth` verbs against them.

use serde_json::json;

use crate::cluster::Cluster;

const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";

#[tokio::test(flavor = "multi_thread")]
async fn a_review_predicts_what_the_request_gets() {
    let cluster = Cluster::start().await;
    let asked = |resource: &str, name: &str, namespace: &str| json!({ "verb": "get", "resource": resource, "name": name, "namespace": namespace });
    for (user, groups, attributes, allowed, reason) in [
        ("alice", vec![], asked("pods", "pa", "a"), true, ""),
        ("alice", vec![], asked("secrets", "db", "a"), false, ""),
        ("x", vec!["system:masters"], asked("secrets", "db", "a"), true, ""),
        ("system:node:node-a", vec!["system:nodes"], asked("secrets", "db", "a"), true, ""),
        (
            "system:node:node-a",
            vec!["system:nodes"],
            asked("secrets", "db", "b"),
            false,
            "no relationship found between node 'node-a' and this object",
        ),
        ("system:serviceaccount:a:app", vec![], asked("secrets", "db", "a"), true, ""),
    ] {
        let spec = json!({ "user": user, "groups": groups, "resourceAttributes": attributes });
        let path = format!("{AUTHORIZATION}/subjectaccessreviews");
        let found = cluster.admin.make(&path, json!({ "spec": spec })).await;
        assert_eq!(found["status"]["allowed"], allowed, "{user} {attributes}");
        assert_eq!(found["status"]["reason"].as_str().unwrap_or_default(), reason);
    }
    let spec = json!({ "user": "alice", "resourceAttributes": asked("pods", "pa", "b") });
    let path = format!("{AUTHORIZATION}/namespaces/a/localsubjectaccessreviews");
    let reply = cluster.admin.request("POST", &path, Some(&json!({ "spec": spec }))).await;
    assert_eq!(reply.code, 422, "{}", reply.message());
    let path = format!("{AUTHORIZATION}/subjectaccessreviews");
    assert_eq!(cluster.admin.request("GET", &path, None).await.code, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_whoami_can_i_and_create_token_work() {
    let cluster = Cluster::start().await;
    let run = |arguments: &'static [&'static str]| cluster.server.kubectl(arguments, "");
    let text = |output: &std::process::Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let whoami = text(&run(&["auth", "whoami"]).await);
    assert!(whoami.contains("kubernetes-admin") && whoami.contains("system:masters"), "{whoami}");

    let alice = run(&["auth", "can-i", "get", "pods", "-n", "a", "--as", "alice"]).await;
    assert_eq!(text(&alice).trim(), "yes");
    let alice = run(&["auth", "can-i", "get", "secrets", "-n", "a", "--as", "alice"]).await;
    assert_eq!(String::from_utf8_lossy(&alice.stdout).trim(), "no");

    let list = text(&run(&["auth", "can-i", "--list", "-n", "a", "--as", "alice"]).await);
    assert!(list.contains("selfsubjectaccessreviews.authorization.k8s.io"), "{list}");
    assert!(list.contains("configmaps"), "{list}");
    assert!(!list.contains("secrets"), "{list}");

    let token = text(&run(&["create", "token", "app", "-n", "a", "--duration", "1h"]).await);
    let app = crate::cluster::Caller::new("app", cluster.server.bearer(Some(token.trim())));
    assert_eq!(app.request("GET", "/api/v1/namespaces/a/secrets/db", None).await.code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_users_who_may_impersonate_become_another_user() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/a/secrets/db";
    let as_alice = [("impersonate-user", "alice")];
    let reply = cluster.admin.request_as("GET", path, None, &as_alice).await;
    assert_eq!(
        reply.message(),
        "secrets \"db\" is forbidden: User \"alice\" cannot get resource \"secrets\" in API group \"\" in the namespace \"a\""
    );
    let eve = cluster.user("eve", "eve", &[]).await;
    let as_admin = [("impersonate-user", "x"), ("impersonate-group", "system:masters")];
    let reply = eve.request_as("GET", path, None, &as_admin).await;
    assert_eq!(
        reply.message(),
        "users \"x\" is forbidden: User \"eve\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
    // `edit` may act as the accounts of its namespace, and as no group.
    let app = cluster.account("app", "a", "app").await;
    let as_default = [("impersonate-user", "system:serviceaccount:a:default")];
    let reply = app.request_as("GET", path, None, &as_default).await;
    assert!(reply.message().contains("User \"system:serviceaccount:a:default\" cannot get"));
    let with_group = [
        ("impersonate-user", "system:serviceaccount:a:default"),
        ("impersonate-group", "system:masters"),
    ];
    let reply = app.request_as("GET", path, None, &with_group).await;
    assert!(
        reply.message().contains("cannot impersonate resource \"groups\""),
        "{}",
        reply.message()
    );
}
