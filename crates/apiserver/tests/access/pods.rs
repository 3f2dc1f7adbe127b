//! What a pod gets from its account, and who may reference which secrets.

use coffer_apiserver::{AccessConfig, SecretUseCheck};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Caller, Cluster, RBAC, pod};
use crate::support::{self, TestServer};

const PODS: &str = "/api/v1/namespaces/a/pods";
const ACCOUNTS: &str = "/api/v1/namespaces/a/serviceaccounts";

fn plain(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "c", "image": "i" }] } })
}

fn mounts(pod: &Value) -> Vec<(&str, &str)> {
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array();
    mounts
        .into_iter()
        .flatten()
        .map(|mount| (mount["name"].as_str().unwrap(), mount["mountPath"].as_str().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_its_account_and_the_accounts_credentials() {
    let cluster = Cluster::start().await;
    let made = cluster.admin.make(PODS, plain("p")).await;
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(made["spec"]["serviceAccount"], "default");
    let (volume, path) = mounts(&made)[0];
    assert_eq!(path, "/var/run/secrets/kubernetes.io/serviceaccount");
    assert!(volume.starts_with("kube-api-access-"));
    assert_eq!(made["spec"]["volumes"][0]["name"], volume);

    let mut without = plain("q");
    without["spec"]["automountServiceAccountToken"] = false.into();
    let made = cluster.admin.make(PODS, without).await;
    assert!(mounts(&made).is_empty());

    let mut unknown = plain("r");
    unknown["spec"]["serviceAccount"] = "x".into();
    let reply = cluster.admin.request("POST", PODS, Some(&unknown)).await;
    assert_eq!(
        (reply.code, reply.message()),
        (
            403,
            "pods \"r\" is forbidden: error looking up service account a/x: serviceaccount \"x\" not found"
        )
    );
}

/// The guide's first commands: a namespace, and immediately a pod in it. The default account comes a
/// moment later, from a controller; the pod waits for it, and not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_in_a_new_namespace_waits_for_its_default_account() {
    let cluster = Cluster::start().await;
    cluster.admin.make("/api/v1/namespaces", json!({ "metadata": { "name": "new" } })).await;
    let controller = Caller::new("admin", cluster.server.admin().await);
    let mut waiting = std::pin::pin!(cluster.admin.make("/api/v1/namespaces/new/pods", plain("p")));
    // A pod that is sent after it is created before it has its account.
    tokio::select! {
        biased;
        made = &mut waiting => panic!("a pod without an account: {made}"),
        _ = controller.make(PODS, plain("later")) => {}
    }
    let account = json!({ "metadata": { "name": "default" } });
    controller.make("/api/v1/namespaces/new/serviceaccounts", account).await;
    waiting.await;

    cluster.admin.make("/api/v1/namespaces", json!({ "metadata": { "name": "newer" } })).await;
    let reply =
        cluster.admin.request("POST", "/api/v1/namespaces/newer/pods", Some(&plain("p"))).await;
    assert_eq!(
        reply.message(),
        "pods \"p\" is forbidden: error looking up service account newer/default: serviceaccount \"default\" not found"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_get_the_secrets_that_their_account_lists() {
    let cluster = Cluster::start().await;
    let secrets = "/api/v1/namespaces/a/secrets";
    let registry = json!({
        "metadata": { "name": "registry" }, "type": "kubernetes.io/dockerconfigjson",
        "stringData": { ".dockerconfigjson": "{}" },
    });
    cluster.admin.make(secrets, registry).await;
    let account = json!({
        "metadata": {
            "name": "prod-db-client",
            "annotations": { "coffer.dev/mount-path": "db=/etc/secret-volume" },
        },
        "secrets": [{ "name": "db" }, { "name": "registry" }, { "name": "other" }],
    });
    cluster.admin.make(ACCOUNTS, account).await;
    // The guide's shortened pod.
    let short = json!({
        "metadata": { "name": "prod-db-client-pod", "labels": { "name": "prod-db-client" } },
        "spec": {
            "serviceAccount": "prod-db-client",
            "containers": [{ "name": "db-client-container", "image": "myClientImage" }],
        },
    });
    let made = cluster.admin.make(PODS, short.clone()).await;
    let found: Vec<_> = mounts(&made).into_iter().skip(1).collect();
    assert_eq!(
        found,
        [
            ("coffer-secret-db", "/etc/secret-volume"),
            ("coffer-secret-other", "/var/run/secrets/coffer.dev/other"),
        ]
    );
    assert_eq!(made["spec"]["volumes"][1]["secret"]["secretName"], "db");
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{ "name": "registry" }]));

    let mut without = short;
    without["metadata"] =
        json!({ "name": "without", "annotations": { "coffer.dev/attach-secrets": "false" } });
    let made = cluster.admin.make(PODS, without).await;
    assert_eq!(mounts(&made).len(), 1);
    assert_eq!(made["spec"]["imagePullSecrets"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_secret_is_filled_in_and_valid_until_it_is_deleted() {
    let cluster = Cluster::start().await;
    let secret = json!({
        "metadata": {
            "generateName": "app-token-",
            "annotations": { "kubernetes.io/service-account.name": "app" },
        },
        "type": "kubernetes.io/service-account-token",
    });
    let made = cluster.admin.make("/api/v1/namespaces/a/secrets", secret).await;
    let decode = |key: &str| {
        use base64::Engine as _;
        let text = made["data"][key].as_str().unwrap();
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
    };
    assert_eq!(decode("namespace"), "a");
    let app = Caller::new("app", cluster.server.bearer(Some(&decode("token"))));
    assert_eq!(app.request("GET", "/api/v1/namespaces/a/secrets/db", None).await.code, 200);
    let path =
        format!("/api/v1/namespaces/a/secrets/{}", made["metadata"]["name"].as_str().unwrap());
    assert_eq!(cluster.admin.request("DELETE", &path, None).await.code, 200);
    cluster.admin.request("GET", "/api/v1/namespaces", None).await;
    assert_eq!(app.request("GET", "/api/v1/namespaces/a/secrets/db", None).await.code, 401);
}

/// A user who may create secrets and not read them would read an account's token in the response.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_who_may_not_read_a_token_secret_does_not_get_its_token() {
    let cluster = Cluster::start().await;
    let role = json!({
        "metadata": { "name": "publisher" },
        "rules": [{ "apiGroups": [""], "verbs": ["create"], "resources": ["secrets"] }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/namespaces/a/roles"), role).await;
    let binding = json!({
        "metadata": { "name": "publisher" },
        "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": "publisher" },
        "subjects": [{ "kind": "User", "name": "carol", "apiGroup": RBAC }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/namespaces/a/rolebindings"), binding).await;
    let carol = cluster.user("carol", "carol", &[]).await;
    let secret = json!({
        "metadata": {
            "name": "app-token", "annotations": { "kubernetes.io/service-account.name": "app" },
        },
        "type": "kubernetes.io/service-account-token",
    });
    for query in ["?dryRun=All", ""] {
        let path = format!("/api/v1/namespaces/a/secrets{query}");
        let reply = carol.request("POST", &path, Some(&secret)).await;
        assert_eq!(reply.code, 201, "{}", reply.message());
        assert_eq!(reply.body["data"]["token"], Value::Null, "{query}");
    }
    // The next who writes it and may read it, as the controller, has it filled in.
    let path = "/api/v1/namespaces/a/secrets/app-token";
    let touched = json!({ "metadata": { "annotations": { "x": "y" } } });
    let reply = cluster.admin.request("PATCH", path, Some(&touched)).await;
    assert!(reply.body["data"]["token"].is_string(), "{}", reply.message());
}

/// A user who may make pods and templates, and nothing with secrets.
async fn dave(cluster: &Cluster) -> Caller {
    let role = json!({
        "metadata": { "name": "deployer" },
        "rules": [
            { "apiGroups": ["", "apps"], "verbs": ["*"], "resources": [
                "pods", "pods/ephemeralcontainers", "deployments", "deployments/scale", "replicationcontrollers", "serviceaccounts",
            ] },
        ],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/namespaces/a/roles"), role).await;
    let binding = json!({
        "metadata": { "name": "deployer" },
        "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": "deployer" },
        "subjects": [{ "kind": "User", "name": "dave", "apiGroup": RBAC }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/namespaces/a/rolebindings"), binding).await;
    cluster.user("dave", "dave", &[]).await
}

/// Lets dave use one secret, without reading it.
async fn allow(cluster: &Cluster, secret: &str) {
    let role = json!({
        "metadata": { "name": format!("use-{secret}") },
        "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["use"], "resourceNames": [secret] }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/namespaces/a/roles"), role).await;
    let binding = json!({
        "metadata": { "name": format!("use-{secret}") },
        "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": format!("use-{secret}") },
        "subjects": [{ "kind": "User", "name": "dave", "apiGroup": RBAC }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/namespaces/a/rolebindings"), binding).await;
}

fn deployment(template: &Value) -> Value {
    let mut template = template.clone();
    template["metadata"] = json!({ "labels": { "app": "x" } });
    json!({
        "metadata": { "name": "d" },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "x" } }, "template": template },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_use_on_a_secret_creates_no_pod_with_it() {
    let cluster = Cluster::start().await;
    let dave = dave(&cluster).await;
    let account = json!({ "metadata": { "name": "listed" }, "secrets": [{ "name": "other" }] });
    cluster.admin.make(ACCOUNTS, account).await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = plain("p");
        change(&mut value);
        value
    };
    let env = json!([{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "db", "key": "password" } } }]);
    let projected =
        json!([{ "name": "v", "projected": { "sources": [{ "secret": { "name": "db" } }] } }]);
    let ways = [
        ("a volume", pod("p", "db"), "db"),
        ("the environment", with(&|it| it["spec"]["containers"][0]["env"] = env.clone()), "db"),
        (
            "the whole environment",
            with(&|it| {
                it["spec"]["containers"][0]["envFrom"] = json!([{ "secretRef": { "name": "db" } }]);
            }),
            "db",
        ),
        ("a projected volume", with(&|it| it["spec"]["volumes"] = projected.clone()), "db"),
        (
            "an image pull secret",
            with(&|it| it["spec"]["imagePullSecrets"] = json!([{ "name": "db" }])),
            "db",
        ),
        (
            "an account that lists it",
            with(&|it| it["spec"]["serviceAccountName"] = "listed".into()),
            "other",
        ),
    ];
    for (way, body, secret) in &ways {
        let reply = dave.request("POST", PODS, Some(body)).await;
        assert_eq!(reply.code, 403, "{way}");
        assert_eq!(
            reply.message(),
            format!(
                "pods \"p\" is forbidden: User \"dave\" cannot use secret \"{secret}\" in the namespace \"a\": this requires the verb \"use\" or \"get\" on it"
            ),
            "{way}"
        );
        let path = "/apis/apps/v1/namespaces/a/deployments";
        let reply = dave.request("POST", path, Some(&deployment(body))).await;
        assert_eq!(reply.code, 403, "a template with {way}: {}", reply.message());
    }
    let account = json!({ "metadata": { "name": "own" }, "secrets": [{ "name": "db" }] });
    let reply = dave.request("POST", ACCOUNTS, Some(&account)).await;
    assert!(reply.message().contains("cannot use secret \"db\""), "{}", reply.message());

    // With the right, all of it passes, and the secret stays unread.
    allow(&cluster, "db").await;
    allow(&cluster, "other").await;
    for (way, body, _) in &ways {
        let reply = dave.request("POST", &format!("{PODS}?dryRun=All"), Some(body)).await;
        assert_eq!(reply.code, 201, "{way}: {}", reply.message());
    }
    let secret = dave.request("GET", "/api/v1/namespaces/a/secrets/db", None).await;
    assert_eq!(secret.code, 403);
}

/// An operator scales and labels what another user set up; the secrets in it are not theirs.
#[tokio::test(flavor = "multi_thread")]
async fn existing_references_take_no_right_and_controllers_act_for_the_creators_of_templates() {
    let cluster = Cluster::start().await;
    let dave = dave(&cluster).await;
    let path = "/apis/apps/v1/namespaces/a/deployments";
    cluster.admin.make(path, deployment(&pod("p", "db"))).await;
    let scale = json!({ "spec": { "replicas": 3 } });
    let reply = dave.request("PATCH", &format!("{path}/d/scale"), Some(&scale)).await;
    assert_eq!(reply.code, 200, "{}", reply.message());
    let label = json!({ "metadata": { "labels": { "team": "x" } } });
    assert_eq!(dave.request("PATCH", &format!("{path}/d"), Some(&label)).await.code, 200);
    let volumes = json!([{ "name": "v", "secret": { "secretName": "other" } }]);
    let more = json!({ "spec": { "template": { "spec": { "volumes": volumes } } } });
    let reply = dave.request("PATCH", &format!("{path}/d"), Some(&more)).await;
    assert!(reply.message().contains("cannot use secret \"other\""), "{}", reply.message());

    // Another program in the same pods could show what they use: the user who adds it needs the right.
    let image = json!({ "spec": { "containers": [{ "name": "c", "image": "evil" }] } });
    let ephemeral = json!({ "spec": { "ephemeralContainers": [{
        "name": "e", "image": "evil", "terminationMessagePolicy": "File",
        "volumeMounts": [{ "name": "v", "mountPath": "/s" }],
    }] } });
    let command = json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "c", "image": "i", "command": ["cat", "/s/password"] },
    ] } } } });
    for (at, change) in [
        (format!("{path}/d"), &command),
        (format!("{PODS}/pa"), &image),
        (format!("{PODS}/pa/ephemeralcontainers"), &ephemeral),
    ] {
        let reply = dave.request("PATCH", &at, Some(change)).await;
        let wanted = "cannot use secret \"db\"";
        assert!(reply.message().contains(wanted), "{at}: {} {}", reply.code, reply.message());
    }
    // A node that has not seen its pod's newest spec reports the status all the same, and no more.
    let node = cluster.node("node-a").await;
    let mut stale = cluster.admin.request("GET", &format!("{PODS}/pa"), None).await.body;
    stale["spec"]["containers"][0]["image"] = "old".into();
    stale["status"] = json!({ "message": "well" });
    let reply = node.request("PUT", &format!("{PODS}/pa/status"), Some(&stale)).await;
    assert_eq!(reply.code, 200, "{}", reply.message());
    assert_eq!(reply.body["status"]["message"], "well");
    assert_eq!(reply.body["spec"]["containers"][0]["image"], "i");
    // What says nothing about what runs passes, also in the pods' own spec.
    let restarted =
        json!({ "spec": { "template": { "metadata": { "annotations": { "r": "1" } } } } });
    let reply = dave.request("PATCH", &format!("{path}/d"), Some(&restarted)).await;
    assert_eq!(reply.code, 200, "{}", reply.message());
    let deadline = json!({ "spec": { "activeDeadlineSeconds": 60 } });
    let reply = dave.request("PATCH", &format!("{PODS}/pa"), Some(&deadline)).await;
    assert_eq!(reply.code, 200, "{}", reply.message());
    // With the right, the same change passes.
    allow(&cluster, "db").await;
    let reply = dave.request("PATCH", &format!("{path}/d"), Some(&command)).await;
    assert_eq!(reply.code, 200, "{}", reply.message());

    let manager = cluster.user("control", "system:kube-controller-manager", &[]).await;
    // A controller acts for the user who wrote a template, and for no user without one.
    let reply = manager.request("POST", PODS, Some(&pod("made", "db"))).await;
    assert_eq!(reply.code, 403, "{}", reply.message());
    let sets = "/apis/apps/v1/namespaces/a/replicasets";
    let set = cluster.admin.make(sets, deployment(&pod("p", "db"))).await;
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "d", "controller": true,
        "uid": set["metadata"]["uid"],
    });
    let made = json!({
        "metadata": { "generateName": "d-", "labels": { "app": "x" }, "ownerReferences": [owner] },
        "spec": set["spec"]["template"]["spec"],
    });
    let reply = manager.request("POST", PODS, Some(&made)).await;
    assert_eq!(reply.code, 201, "{}", reply.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_can_warn_only_or_be_off() {
    for (mode, warns) in [(SecretUseCheck::Warn, true), (SecretUseCheck::Off, false)] {
        let access = AccessConfig { secret_use_check: mode, ..support::access() };
        let server = TestServer::start_with(TempDir::new().unwrap(), access).await;
        let cluster = Cluster::on(server).await;
        let dave = dave(&cluster).await;
        let reply = dave.request("POST", PODS, Some(&pod("p", "db"))).await;
        assert_eq!(reply.code, 201, "{mode:?}: {}", reply.message());
        let warned = reply.warnings.iter().any(|text| text.contains("cannot use secret"));
        assert_eq!(warned, warns, "{mode:?}: {:?}", reply.warnings);
    }
}
