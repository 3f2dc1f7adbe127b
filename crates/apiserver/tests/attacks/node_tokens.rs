//! An attacker has a node's key: which tokens of service accounts they get with it.

use base64::Engine as _;
use coffer_testkit::Attacks;
use serde_json::{Value, json};

use crate::cluster::{Caller, Cluster, RBAC, bind};

const PODS: &str = "/api/v1/namespaces/a/pods";

/// A pod with a token for an audience in addition to what every pod gets, or with none at all.
fn pod(name: &str, audience: Option<&str>) -> Value {
    let token = |audience| {
        json!({
            "name": "t",
            "projected": { "sources": [{ "serviceAccountToken": {
                "audience": audience, "expirationSeconds": 7200, "path": "token",
            } }] },
        })
    };
    json!({
        "metadata": { "name": name },
        "spec": {
            "serviceAccountName": "app",
            "automountServiceAccountToken": audience.is_some(),
            "containers": [{ "name": "c", "image": "i" }],
            "volumes": audience.into_iter().map(token).collect::<Vec<_>>(),
        },
    })
}

struct Thief {
    node: Caller,
}

impl Thief {
    /// Asks for a token of the account `app` that is bound to a pod.
    async fn request(&self, pod: (&str, &str), audiences: &Value, seconds: i64) -> (u16, Value) {
        let reference = json!({ "apiVersion": "v1", "kind": "Pod", "name": pod.0, "uid": pod.1 });
        let request = json!({ "spec": {
            "audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": reference,
        } });
        let path = "/api/v1/namespaces/a/serviceaccounts/app/token";
        let reply = self.node.request("POST", path, Some(&request)).await;
        (reply.code, reply.body)
    }
}

/// How long a token lives, in seconds, by what it says itself.
fn life_s(response: &Value) -> i64 {
    let token = response["status"]["token"].as_str().unwrap();
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_node_gets_tokens_for_what_its_pods_project_and_no_longer() {
    let cluster = Cluster::start().await;
    let thief = Thief { node: cluster.node("node-a").await };
    let mut uids = Vec::new();
    for (name, audience) in [("with-vault", Some("vault")), ("without", None)] {
        let made = cluster.admin.make(PODS, pod(name, audience)).await;
        bind(&cluster.admin, "a", name, "node-a").await;
        uids.push(made["metadata"]["uid"].as_str().unwrap().to_owned());
    }
    let (with, without) = (("with-vault", uids[0].as_str()), ("without", uids[1].as_str()));

    let mut attacks = Attacks::group("tokens of a stolen node: audience and life");
    let issuer = "https://kubernetes.default.svc.cluster.local";
    for (of, audiences) in [
        (with, json!(["https://vault.example"])),
        (with, json!(["Vault"])),
        (with, json!(["vault "])),
        (with, json!(["vau"])),
        (with, json!(["*"])),
        // The API server's own, which is asked for by naming none.
        (with, json!([issuer])),
        (with, json!(["vault", "other"])),
        (with, json!(["vault", "vault"])),
        (with, json!(["vault", ""])),
        // What a node has rights on, as a resource.
        (with, json!(["nodes"])),
        (with, json!(["events"])),
        (with, json!(["secrets"])),
        (with, json!(["serviceaccounts"])),
        // Another pod's, and what this one gave up.
        (without, json!(["vault"])),
        (without, json!([])),
        (without, json!([""])),
        (without, json!([issuer])),
    ] {
        let (code, body) = thief.request(of, &audiences, 3600).await;
        let refused = code == 403 && body["status"]["token"].is_null();
        attacks.attempt(&format!("{} {audiences}", of.0), refused, (code, &body["message"]));
    }
    for (audiences, seconds, most) in [
        (json!(["vault"]), 1_i64 << 32, 7200),
        (json!(["vault"]), 7201, 7200),
        // As the volume that admission adds.
        (json!([]), 1 << 32, 3607),
    ] {
        let (code, body) = thief.request(with, &audiences, seconds).await;
        assert_eq!(code, 201, "{body}");
        let life = life_s(&body);
        attacks.attempt(&format!("{audiences} for {seconds} s"), life <= most, life);
    }
    for seconds in [(1_i64 << 32) + 1, i64::MAX, 599, -1] {
        let (code, body) = thief.request(with, &json!(["vault"]), seconds).await;
        attacks.attempt(&format!("for {seconds} s"), code == 422, (code, &body["message"]));
    }
    attacks.finish();

    let (_, body) = thief.request(with, &json!(["https://vault.example"]), 3600).await;
    assert_eq!(
        body["message"],
        "serviceaccounts \"app\" is forbidden: audience \"https://vault.example\" not found in pod spec volume, system:node:node-a is not authorized to request tokens for this audience"
    );
    let (code, body) = thief.request(with, &json!(["vault"]), 3600).await;
    assert_eq!((code, life_s(&body)), (201, 3600));

    // A right on an audience is on it alone, and gives an hour.
    let role = json!({
        "metadata": { "name": "registry" },
        "rules": [{
            "apiGroups": [""], "resources": ["registry.example"], "resourceNames": ["app"],
            "verbs": ["request-serviceaccounts-token-audience"],
        }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/clusterroles"), role).await;
    let binding = json!({
        "metadata": { "name": "registry" },
        "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": "registry" },
        "subjects": [{ "kind": "Group", "name": "system:nodes", "apiGroup": RBAC }],
    });
    cluster.admin.make(&format!("/apis/{RBAC}/v1/clusterrolebindings"), binding).await;
    let (code, body) = thief.request(without, &json!(["registry.example"]), 7200).await;
    assert_eq!((code, life_s(&body)), (201, 3600));
    let (code, _) = thief.request(without, &json!(["registry.example2"]), 7200).await;
    assert_eq!(code, 403);
}
