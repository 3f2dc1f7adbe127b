//! Tokens through the API: where they are valid, and what makes them invalid.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use coffer_apiserver::tokens::{ServiceAccountKeys, generate_signing_key};
use coffer_apiserver::{AccessConfig, TokenFile};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Caller, Cluster, pod};
use crate::support::{self, TestServer};

const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn whoami(cluster: &Cluster, token: &str) -> (u16, Value) {
    let caller = Caller::new("token", cluster.server.bearer(Some(token)));
    let reply = caller.request("POST", WHOAMI, Some(&json!({}))).await;
    (reply.code, reply.body["status"]["userInfo"].clone())
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_is_valid_until_what_it_is_bound_to_is_deleted() {
    let cluster = Cluster::start().await;
    let bound = |kind: &str, name: &str| json!({ "boundObjectRef": { "apiVersion": "v1", "kind": kind, "name": name } });
    let to_pod = cluster.token("a", "app", bound("Pod", "pa")).await;
    let to_secret = cluster.token("a", "app", bound("Secret", "other")).await;
    let to_node = cluster.token("a", "app", bound("Node", "node-b")).await;
    let to_account = cluster.token("a", "app", json!({})).await;

    let (code, user) = whoami(&cluster, &to_pod).await;
    assert_eq!(code, 201);
    assert_eq!(user["username"], "system:serviceaccount:a:app");
    assert_eq!(
        user["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"])
    );
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-name"], json!(["pa"]));
    assert_eq!(user["extra"]["authentication.kubernetes.io/node-name"], json!(["node-a"]));
    assert_eq!(claims(&to_pod)["kubernetes.io"]["pod"]["name"], "pa");

    for (token, path) in [
        (&to_pod, "/api/v1/namespaces/a/pods/pa?gracePeriodSeconds=0"),
        (&to_secret, "/api/v1/namespaces/a/secrets/other"),
        (&to_node, "/api/v1/nodes/node-b"),
        (&to_account, "/api/v1/namespaces/a/serviceaccounts/app"),
    ] {
        assert_eq!(whoami(&cluster, token).await.0, 201, "{path}");
        assert_eq!(cluster.admin.request("DELETE", path, None).await.code, 200);
        cluster.admin.request("GET", "/api/v1/namespaces", None).await;
        assert_eq!(whoami(&cluster, token).await.0, 401, "{path}");
    }
    // An account of the same name is not the same account.
    let again = json!({ "metadata": { "name": "app" } });
    cluster.admin.make("/api/v1/namespaces/a/serviceaccounts", again).await;
    assert_eq!(whoami(&cluster, &to_account).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_token_requests_are_refused() {
    let cluster = Cluster::start().await;
    let bound = |kind: &str, name: &str, uid: &str| json!({ "boundObjectRef": { "apiVersion": "v1", "kind": kind, "name": name, "uid": uid } });
    cluster
        .admin
        .make("/api/v1/namespaces/b/pods", {
            let mut other = pod("default-pod", "db");
            other["spec"]["serviceAccountName"] = "default".into();
            other
        })
        .await;
    for (namespace, account, spec, code, message) in [
        ("a", "missing", json!({}), 404, "serviceaccounts \"missing\" not found"),
        (
            "a",
            "app",
            json!({ "expirationSeconds": 60 }),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes",
        ),
        ("a", "app", bound("Pod", "nope", ""), 404, "pods \"nope\" not found"),
        (
            "a",
            "app",
            bound("Pod", "pa", "u"),
            409,
            "Operation cannot be fulfilled on Pod \"pa\": the UID in the bound object reference (u) does not match the UID in record. The object might have been deleted and then recreated",
        ),
        (
            "b",
            "app",
            bound("Pod", "default-pod", ""),
            400,
            "cannot bind token for serviceaccount \"app\" to pod running with different serviceaccount name.",
        ),
        (
            "a",
            "app",
            bound("ConfigMap", "c", ""),
            400,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
    ] {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let reply = cluster.admin.request("POST", &path, Some(&json!({ "spec": spec }))).await;
        assert_eq!(reply.code, code, "{}", reply.message());
        assert_eq!(reply.message(), message);
    }
    let path = "/api/v1/namespaces/a/serviceaccounts/app/token";
    for (metadata, code, message) in [
        (
            json!({ "name": "other" }),
            422,
            "TokenRequest.authentication.k8s.io \"app\" is invalid: metadata.name: Invalid value: \"other\": must match the service account name if specified",
        ),
        (
            json!({ "namespace": "b" }),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
    ] {
        let reply =
            cluster.admin.request("POST", path, Some(&json!({ "metadata": metadata }))).await;
        assert_eq!((reply.code, reply.message()), (code, message));
    }
}

/// A dry run checks everything, and its response has all but the token.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_gives_no_token() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/a/serviceaccounts/app/token?dryRun=All";
    let asked = json!({ "spec": { "audiences": ["x"], "expirationSeconds": 900 } });
    let reply = cluster.admin.request("POST", path, Some(&asked)).await;
    assert_eq!(reply.code, 201, "{}", reply.message());
    assert_eq!(reply.body["spec"], asked["spec"]);
    assert_eq!(reply.body["status"]["token"], "");
    assert!(reply.body["status"]["expirationTimestamp"].is_string());
    let short = json!({ "spec": { "expirationSeconds": 60 } });
    assert_eq!(cluster.admin.request("POST", path, Some(&short)).await.code, 422);
}

/// As upstream's --service-account-max-token-expiration: to ask for more is not an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_asked_for_longer_than_tokens_last_is_shortened_with_a_warning() {
    let access = AccessConfig {
        service_account_max_token_expiration_s: Some(7200),
        service_account_admission: true,
        ..support::access()
    };
    let server = TestServer::start_with(TempDir::new().unwrap(), access).await;
    let cluster = Cluster::on(server).await;
    let path = "/api/v1/namespaces/a/serviceaccounts/app/token";
    for (asked, given, warnings) in [
        (Some(7200), 7200, &[][..]),
        (None, 3600, &[]),
        (
            Some(7201),
            7200,
            &["299 - \"requested expiration of 7201 seconds shortened to 7200 seconds\""],
        ),
    ] {
        let request = json!({ "spec": { "expirationSeconds": asked } });
        let reply = cluster.admin.request("POST", path, Some(&request)).await;
        assert_eq!(reply.code, 201, "{}", reply.message());
        assert_eq!(reply.body["spec"]["expirationSeconds"], given);
        let claims = claims(reply.body["status"]["token"].as_str().unwrap());
        let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert_eq!(life, given);
        assert_eq!(reply.warnings, warnings);
    }
}

/// A pod may be bound to a node that registers later: its tokens name the node without a uid.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_pod_names_a_node_that_is_not_there() {
    let cluster = Cluster::start().await;
    cluster.admin.make("/api/v1/namespaces/a/pods", pod("early", "db")).await;
    crate::cluster::bind(&cluster.admin, "a", "early", "later").await;
    let bound = json!({ "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "early" } });
    let token = cluster.token("a", "app", bound).await;
    assert_eq!(claims(&token)["kubernetes.io"]["node"], json!({ "name": "later" }));
    let (code, user) = whoami(&cluster, &token).await;
    let extra = &user["extra"];
    assert_eq!((code, &extra["authentication.kubernetes.io/node-name"]), (201, &json!(["later"])));
    assert_eq!(extra.get("authentication.kubernetes.io/node-uid"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_audience_is_refused() {
    let cluster = Cluster::start().await;
    let token = cluster.token("a", "app", json!({ "audiences": ["vault"] })).await;
    assert_eq!(whoami(&cluster, &token).await.0, 401);
    let review = |audience: &str| json!({ "spec": { "token": token, "audiences": [audience] } });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let for_vault = cluster.admin.make(path, review("vault")).await;
    assert_eq!(for_vault["status"]["authenticated"], true);
    assert_eq!(for_vault["status"]["audiences"], json!(["vault"]));
    assert_eq!(for_vault["status"]["user"]["username"], "system:serviceaccount:a:app");
    assert_eq!(for_vault["spec"]["token"], Value::Null);
    let for_bank = cluster.admin.make(path, review("bank")).await;
    assert_ne!(for_bank["status"]["authenticated"], true);
    assert_eq!(for_bank["status"]["error"], "invalid bearer token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_token_and_a_bootstrap_token_name_their_owners() {
    let token_file = TokenFile::parse("0perator-token,olga,7,\"ops,dev\"").unwrap();
    let access = AccessConfig { token_file, ..support::access() };
    let server = TestServer::start_with(TempDir::new().unwrap(), access).await;
    let cluster = Cluster::on(server).await;
    let (code, user) = whoami(&cluster, "0perator-token").await;
    assert_eq!((code, &user["username"], &user["uid"]), (201, &json!("olga"), &json!("7")));
    assert_eq!(user["groups"], json!(["ops", "dev", "system:authenticated"]));

    let token = "abcdef.0123456789abcdef";
    assert_eq!(whoami(&cluster, token).await.0, 401);
    let secret = json!({
        "metadata": { "name": "bootstrap-token-abcdef" },
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef", "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": "system:bootstrappers:edge",
        },
    });
    cluster.admin.make("/api/v1/namespaces/kube-system/secrets", secret).await;
    let (code, user) = whoami(&cluster, token).await;
    assert_eq!((code, &user["username"]), (201, &json!("system:bootstrap:abcdef")));
    assert_eq!(whoami(&cluster, "abcdef.0123456789abcdee").await.0, 401);
    let path = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef";
    cluster.admin.request("DELETE", path, None).await;
    cluster.admin.request("GET", "/api/v1/namespaces", None).await;
    assert_eq!(whoami(&cluster, token).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_an_owner_is_refused_and_not_anonymous() {
    let cluster = Cluster::start().await;
    for junk in ["junk", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", ""] {
        let caller = Caller::new("junk", cluster.server.bearer(None));
        let header = format!("Bearer {junk}");
        let headers = [("authorization", header.as_str())];
        let reply = caller.request_as("GET", "/healthz", None, &headers).await;
        let wanted = if junk.is_empty() { 200 } else { 401 };
        assert_eq!(reply.code, wanted, "{junk}");
    }
    let access = AccessConfig { refuse_anonymous: true, ..support::access() };
    let strict = TestServer::start_with(TempDir::new().unwrap(), access).await;
    let no_credentials = Caller::new("anonymous", strict.bearer(None));
    assert_eq!(no_credentials.request("GET", "/healthz", None).await.code, 401);
}

/// Keys are rotated while clients work: first the new one is accepted, then it signs, then the
/// old one is removed. No client with a valid token is refused at any moment.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_while_fifty_clients_work() {
    let first = generate_signing_key().unwrap();
    let keys = |signing: &zeroize::Zeroizing<Vec<u8>>,
                accepted: &[&zeroize::Zeroizing<Vec<u8>>]| {
        let accepted_pem = accepted.iter().map(|pem| (*pem).clone()).collect();
        ServiceAccountKeys { signing_pem: signing.clone(), accepted_pem }
    };
    let access =
        AccessConfig { service_account_keys: Some(keys(&first, &[])), ..support::access() };
    let server = TestServer::start_with(TempDir::new().unwrap(), access).await;
    let cluster = Arc::new(Cluster::on(server).await);
    let old_token = cluster.token("a", "app", json!({})).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let caller = Caller::new("token", cluster.server.bearer(Some(&old_token)));
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut served = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    let reply =
                        caller.request("GET", "/api/v1/namespaces/a/secrets/db", None).await;
                    assert_eq!(reply.code, 200, "{}", reply.message());
                    served += 1;
                }
                served
            })
        })
        .collect();
    for _ in 0..10 {
        let next = generate_signing_key().unwrap();
        cluster.server.token_keys.replace(&keys(&first, &[&next])).unwrap();
        cluster.server.token_keys.replace(&keys(&next, &[&first])).unwrap();
        let token = cluster.token("a", "app", json!({})).await;
        assert_eq!(whoami(&cluster, &token).await.0, 201);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
    let last = generate_signing_key().unwrap();
    cluster.server.token_keys.replace(&keys(&last, &[])).unwrap();
    assert_eq!(whoami(&cluster, &old_token).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_find_the_keys_by_openid_discovery() {
    let cluster = Cluster::start().await;
    let app = cluster.account("app", "a", "app").await;
    let found = app.request("GET", "/.well-known/openid-configuration", None).await;
    assert_eq!(found.code, 200);
    assert_eq!(found.body["issuer"], "https://kubernetes.default.svc.cluster.local");
    assert_eq!(found.body["id_token_signing_alg_values_supported"], json!(["ES256"]));
    let keys = app.request("GET", "/openid/v1/jwks", None).await.body;
    let token = cluster.token("a", "app", json!({})).await;
    let header = token.split('.').next().unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(keys["keys"][0]["kid"], header["kid"]);
    assert_eq!(keys["keys"][0]["crv"], "P-256");
    assert_eq!(keys["keys"][0].get("d"), None);
}
