//! Service accounts on real containers: what a pod finds where clients look for it, and the
//! guide's shortened pod, whose secret comes with its account.

use coffer_testkit::{Coffer, CofferBuilder, Registry, images};
use serde_json::json;

async fn coffer(registry: &Registry) -> Coffer {
    registry.push(&images::busybox().unwrap(), "library/client", "latest").await.unwrap();
    CofferBuilder::up(env!("CARGO_BIN_EXE_coffer")).mirror(registry).start().await.unwrap()
}

const CREDENTIALS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[tokio::test]
async fn a_pod_finds_its_accounts_credentials_and_the_secrets_the_account_lists() {
    let registry = Registry::open().await.unwrap();
    let coffer = coffer(&registry).await;
    let kubectl = coffer.kubectl();
    let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "prod" } },
        {
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "prod-db-secret", "namespace": "prod" },
            "stringData": { "username": "value-1", "password": "value-2" },
        },
        {
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {
                "name": "prod-db-client", "namespace": "prod",
                "annotations": { "coffer.dev/mount-path": "/etc/secret-volume" },
            },
            "secrets": [{ "name": "prod-db-secret" }],
        },
        // The guide's shortened pod, with an image that is there.
        {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "prod-db-client-pod", "namespace": "prod",
                "labels": { "name": "prod-db-client" },
            },
            "spec": {
                "serviceAccount": "prod-db-client",
                "containers": [{
                    "name": "db-client-container", "image": "client",
                    "command": ["sleep", "3600"],
                }],
            },
        },
    ]});
    let create = ["create", "-f", "-"];
    kubectl.ok_with_input(&create, objects.to_string().as_bytes()).await.unwrap();
    let pod = "pod/prod-db-client-pod";
    let wait = ["wait", "-n", "prod", "--for=condition=Ready", pod, "--timeout=120s"];
    kubectl.ok(&wait).await.unwrap();
    let exec = async |command: &[&str]| {
        let arguments = [&["exec", "prod-db-client-pod", "-n", "prod", "--"], command].concat();
        kubectl.ok(&arguments).await.unwrap()
    };
    assert_eq!(exec(&["cat", "/etc/secret-volume/username"]).await, "value-1");
    assert_eq!(exec(&["cat", "/etc/secret-volume/password"]).await, "value-2");

    assert_eq!(exec(&["cat", &format!("{CREDENTIALS}/namespace")]).await, "prod");
    let ca = exec(&["cat", &format!("{CREDENTIALS}/ca.crt")]).await;
    assert!(ca.starts_with("-----BEGIN CERTIFICATE-----"), "{ca}");
    // The mounted token is the account's, bound to this pod, and ends with it.
    let token = exec(&["cat", &format!("{CREDENTIALS}/token")]).await;
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": token },
    });
    let ask = async |path: &str| {
        let arguments =
            ["create", "--validate=false", "-f", "-", "-o", &format!("jsonpath={{.status{path}}}")];
        kubectl.ok_with_input(&arguments, review.to_string().as_bytes()).await.unwrap()
    };
    assert_eq!(ask(".user.username").await, "system:serviceaccount:prod:prod-db-client");
    assert_eq!(
        ask(".user.extra.authentication\\.kubernetes\\.io/pod-name").await,
        "[\"prod-db-client-pod\"]"
    );
    kubectl.ok(&["delete", "-n", "prod", pod, "--force", "--grace-period=0"]).await.unwrap();
    assert_eq!(ask(".authenticated").await, "");
}

/// A key is rotated while the cluster runs: earlier tokens stay valid, new ones are signed
/// with the new key, and no process is restarted.
#[tokio::test]
async fn the_token_key_is_rotated_without_a_restart() {
    let coffer = CofferBuilder::apiserver(env!("CARGO_BIN_EXE_coffer")).start().await.unwrap();
    let kubectl = coffer.kubectl();
    kubectl.ok(&["create", "serviceaccount", "app"]).await.unwrap();
    let header = |token: &str| token.split('.').next().unwrap().to_owned();
    let before = kubectl.ok(&["create", "token", "app"]).await.unwrap();
    let rotate = std::process::Command::new(env!("CARGO_BIN_EXE_coffer"))
        .arg("rotate-token-key")
        .arg("--data-dir")
        .arg(coffer.data_dir())
        .output()
        .unwrap();
    assert!(rotate.status.success(), "{}", String::from_utf8_lossy(&rotate.stderr));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let after = kubectl.ok(&["create", "token", "app"]).await.unwrap();
        if header(&after) != header(&before) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the server never took up the new key");
    }
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": { "token": before.trim() },
    });
    let arguments =
        ["create", "--validate=false", "-f", "-", "-o", "jsonpath={.status.user.username}"];
    let owner = kubectl.ok_with_input(&arguments, review.to_string().as_bytes()).await.unwrap();
    assert_eq!(owner, "system:serviceaccount:default:app");
}
