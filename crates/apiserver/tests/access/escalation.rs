//! A user can grant only what they have.

use serde_json::{Value, json};

use crate::cluster::{Caller, Cluster, RBAC};

fn role(rules: Value) -> Value {
    json!({ "metadata": { "name": "r" }, "rules": rules })
}

fn binding(name: &str, kind: &str, role: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": RBAC, "kind": kind, "name": role },
        "subjects": [{ "kind": "User", "name": "friend", "apiGroup": RBAC }],
    })
}

/// `admin` of namespace a, who may write roles and bindings there.
async fn ada(cluster: &Cluster) -> Caller {
    let path = format!("/apis/{RBAC}/v1/namespaces/a/rolebindings");
    let mut given = binding("ada", "ClusterRole", "admin");
    given["subjects"][0]["name"] = "ada".into();
    cluster.admin.make(&path, given).await;
    cluster.user("ada", "ada", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespaces_admin_gives_what_they_have_and_no_more() {
    let cluster = Cluster::start().await;
    let ada = ada(&cluster).await;
    let roles = format!("/apis/{RBAC}/v1/namespaces/a/roles");
    let bindings = format!("/apis/{RBAC}/v1/namespaces/a/rolebindings");
    let own = role(json!([{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] }]));
    ada.make(&roles, own).await;
    ada.make(&bindings, binding("one", "Role", "r")).await;
    ada.make(&bindings, binding("two", "ClusterRole", "edit")).await;

    let more = json!({
        "metadata": { "name": "more" },
        "rules": [
            { "apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "delete"] },
            { "apiGroups": [""], "resources": ["secrets"], "verbs": ["use", "get"] },
        ],
    });
    let reply = ada.request("POST", &roles, Some(&more)).await;
    assert_eq!(reply.code, 403);
    assert_eq!(
        reply.message(),
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"ada\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"delete\"]}"
    );
    let reply =
        ada.request("POST", &bindings, Some(&binding("x", "ClusterRole", "cluster-admin"))).await;
    assert_eq!(
        reply.message(),
        "rolebindings.rbac.authorization.k8s.io \"x\" is forbidden: user \"ada\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n\
         {NonResourceURLs:[\"*\"], Verbs:[\"*\"]}"
    );
    let reply = ada.request("POST", &bindings, Some(&binding("x", "ClusterRole", "deleted"))).await;
    assert_eq!(
        (reply.code, reply.message()),
        (404, "clusterroles.rbac.authorization.k8s.io \"deleted\" not found")
    );
    // Nor by adding rules to an existing role.
    let widened = json!({ "rules": [{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }] });
    let reply = ada.request("PATCH", &format!("{roles}/r"), Some(&widened)).await;
    assert_eq!(reply.code, 403, "{}", reply.message());
}

/// Without it people would be given `get`, which shows the secret. (`kubectl create role` knows the
/// verb for pod security policies only, whatever discovery lists: the role is a manifest.)
#[tokio::test(flavor = "multi_thread")]
async fn a_namespaces_admin_lets_others_use_a_secret_with_kubectl() {
    let cluster = Cluster::start().await;
    ada(&cluster).await;
    let role = "apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: use-db}
rules: [{apiGroups: [''], resources: [secrets], resourceNames: [db], verbs: [use]}]
";
    for (arguments, input) in [
        (&["create", "-f", "-"][..], role),
        (&["create", "rolebinding", "use-db", "--role=use-db", "--user=dave"][..], ""),
    ] {
        let arguments = [&["--as=ada", "-n", "a"][..], arguments].concat();
        let output = cluster.server.kubectl(&arguments, input).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for (secret, verb, may) in [("db", "use", "yes"), ("other", "use", "no"), ("db", "get", "no")] {
        let subject = format!("secrets/{secret}");
        let asked = ["--as=dave", "-n", "a", "auth", "can-i", verb, &subject];
        let output = cluster.server.kubectl(&asked, "").await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            said.trim(),
            may,
            "{verb} {secret}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bind_and_escalate_are_rights_of_their_own() {
    let cluster = Cluster::start().await;
    let ada = ada(&cluster).await;
    let roles = format!("/apis/{RBAC}/v1/namespaces/a/roles");
    let bindings = format!("/apis/{RBAC}/v1/namespaces/a/rolebindings");
    let powers = json!({
        "metadata": { "name": "powers" },
        "rules": [
            { "apiGroups": [RBAC], "resources": ["clusterroles"], "verbs": ["bind"], "resourceNames": ["cluster-admin"] },
            { "apiGroups": [RBAC], "resources": ["roles"], "verbs": ["escalate"], "resourceNames": ["any"] },
        ],
    });
    cluster.admin.make(&roles, powers).await;
    let mut given = binding("powers", "Role", "powers");
    given["subjects"][0]["name"] = "ada".into();
    cluster.admin.make(&bindings, given).await;
    ada.make(&bindings, binding("x", "ClusterRole", "cluster-admin")).await;
    let any = json!({
        "metadata": { "name": "any" },
        "rules": [{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }],
    });
    ada.make(&roles, any).await;
    let friend = cluster.user("friend", "friend", &[]).await;
    assert_eq!(friend.request("GET", "/api/v1/namespaces/a/secrets/db", None).await.code, 200);
    assert_eq!(friend.request("GET", "/api/v1/namespaces/b/secrets/db", None).await.code, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_the_label_becomes_part_of_view() {
    let cluster = Cluster::start().await;
    let alice = cluster.user("alice", "alice", &[]).await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/a/leases";
    assert_eq!(alice.request("GET", path, None).await.code, 403);
    let part = json!({
        "metadata": {
            "name": "lease-viewer",
            "labels": { format!("{RBAC}/aggregate-to-view"): "true" },
        },
        "rules": [{ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["list"] }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/clusterroles"), part).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while alice.request("GET", path, None).await.code != 200 {
        assert!(std::time::Instant::now() < deadline, "the role was never aggregated");
        tokio::task::yield_now().await;
    }
    let view =
        cluster.admin.request("GET", &format!("/apis/{RBAC}/v1/clusterroles/edit"), None).await;
    assert!(view.body["rules"].to_string().contains("leases"));
}

/// With autoupdate off, removed rules stay removed; otherwise missing rules come back. Added ones stay.
#[tokio::test(flavor = "multi_thread")]
async fn default_roles_are_reconciled_at_the_next_start() {
    let cluster = Cluster::start().await;
    let roles = format!("/apis/{RBAC}/v1/clusterroles");
    let rules = json!({ "rules": [{ "apiGroups": ["x"], "resources": ["y"], "verbs": ["z"] }] });
    cluster.admin.request("PATCH", &format!("{roles}/system:auth-delegator"), Some(&rules)).await;
    cluster.admin.request("DELETE", &format!("{roles}/system:kube-scheduler"), None).await;
    let mut own = rules.clone();
    own["metadata"] =
        json!({ "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "false" } });
    cluster.admin.request("PATCH", &format!("{roles}/system:basic-user"), Some(&own)).await;

    let dir = cluster.server.stop().await;
    let server = crate::support::TestServer::start_in(dir).await;
    let admin = Caller::new("admin", server.admin().await);
    let count = |name: &'static str| {
        let (admin, roles) = (&admin, &roles);
        async move {
            let found = admin.request("GET", &format!("{roles}/{name}"), None).await;
            found.body["rules"].as_array().map_or(0, Vec::len)
        }
    };
    assert_eq!(count("system:auth-delegator").await, 3);
    assert!(count("system:kube-scheduler").await > 5);
    assert_eq!(count("system:basic-user").await, 1);
}
