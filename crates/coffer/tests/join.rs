//! A node joins with a bootstrap token, gets a certificate that is only its own, and renews it
//! before it ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_testkit::{Coffer, CofferBuilder, Kubectl, Running, eventually};
use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair};
use time::OffsetDateTime;
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer");

struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubelet.kubeconfig")
    }

    /// As the README has it.
    fn start(&self, coffer: &Coffer, name: &str) -> Running {
        self.start_as(coffer, name, &self.kubeconfig(), true)
    }

    fn start_as(&self, coffer: &Coffer, name: &str, kubeconfig: &Path, joins: bool) -> Running {
        let data = coffer.data_dir();
        let socket = coffer.containerd_socket().unwrap();
        let mut command = Command::new(PROGRAM);
        command
            .args(["kubelet", "--node-name", name, "--port", "0"])
            .arg("--root-dir")
            .arg(self.dir.path().join("root"))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--pki-dir")
            .arg(data.join("pki"))
            .arg("--container-runtime-endpoint")
            .arg(format!("unix://{}", socket.display()));
        if joins {
            command.arg("--bootstrap-kubeconfig").arg(self.dir.path().join("bootstrap.kubeconfig"));
        }
        Running::start(command).unwrap()
    }
}

async fn says(kubelet: &mut Running, what: &str) {
    let found = |line: &str| line.contains(what).then_some(());
    kubelet.until(Duration::from_secs(60), found).await.unwrap();
}

/// A kubeconfig like the node's own, whose certificate is good for another minute.
fn nearly_over(pki: &Path, kubeconfig: &Path) {
    let read = |name: &str| std::fs::read_to_string(pki.join(name)).unwrap();
    let authority = KeyPair::from_pem(&read("client-ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("client-ca.crt"), authority).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "system:node:second");
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.not_before = OffsetDateTime::now_utc() - time::Duration::hours(1);
    params.not_after = OffsetDateTime::now_utc() + time::Duration::minutes(1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let replaced: Vec<String> = text
        .lines()
        .map(|line| {
            use base64::Engine as _;
            let encode = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
            match line.trim_start().split_once(':') {
                Some(("client-certificate-data", _)) => {
                    format!("    client-certificate-data: {}", encode(&certificate))
                }
                Some(("client-key-data", _)) => {
                    format!("    client-key-data: {}", encode(&key.serialize_pem()))
                }
                _ => line.to_owned(),
            }
        })
        .collect();
    std::fs::write(kubeconfig, replaced.join("\n")).unwrap();
}

#[tokio::test]
async fn a_node_joins_with_a_token_and_renews_its_certificate() {
    let coffer = CofferBuilder::up(PROGRAM).start().await.unwrap();
    let kubectl = coffer.kubectl();
    let node = Node { dir: tempfile::tempdir().unwrap() };
    let made = Command::new(PROGRAM)
        .args(["bootstrap-kubeconfig", "--kubeconfig"])
        .arg(coffer.kubeconfig())
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::write(node.dir.path().join("bootstrap.kubeconfig"), made.stdout).unwrap();

    let first = node.start(&coffer, "second");
    let ready = ["wait", "--for=condition=Ready", "node/second", "--timeout=60s"];
    eventually("the node to register", async || {
        kubectl.run(&["get", "node", "second"]).await.unwrap().status.success()
    })
    .await;
    kubectl.ok(&ready).await.unwrap();
    let own = Kubectl::new(node.kubeconfig());
    let whoami = own.ok(&["auth", "whoami", "-o", "jsonpath={.status.userInfo}"]).await.unwrap();
    assert!(whoami.contains("\"system:node:second\""), "{whoami}");
    assert!(whoami.contains("\"system:nodes\""), "{whoami}");
    // It is a node like any other, and so sees nothing that is not its own.
    let refused = own.run(&["get", "secrets", "-A"]).await.unwrap();
    assert!(refused.stderr.contains("can only read namespaced object of this type"));
    let warned = |kubelet: &Running| kubelet.log().iter().any(|line| line.contains("runs as user"));
    assert!(!warned(&first), "it is its own node");
    drop(first);

    nearly_over(&coffer.data_dir().join("pki"), &node.kubeconfig());
    let before = std::fs::read(node.kubeconfig()).unwrap();
    let second = node.start(&coffer, "second");
    eventually("a renewed certificate", async || {
        std::fs::read(node.kubeconfig()).unwrap() != before
    })
    .await;
    own.ok(&["get", "node", "second"]).await.unwrap();
    let requests = kubectl.ok(&["get", "csr", "--no-headers"]).await.unwrap();
    assert_eq!(requests.matches("Approved,Issued").count(), 2, "{requests}");
    drop(second);

    // A machine without the node's key is not the node until a person says so.
    let without_key = Node { dir: tempfile::tempdir().unwrap() };
    let token = "bootstrap.kubeconfig";
    std::fs::copy(node.dir.path().join(token), without_key.dir.path().join(token)).unwrap();
    let mut third = without_key.start(&coffer, "second");
    says(&mut third, "is pending").await;
    assert!(!without_key.kubeconfig().exists());
    let requests = kubectl.ok(&["get", "csr", "-o", "json"]).await.unwrap();
    let requests: serde_json::Value = serde_json::from_str(&requests).unwrap();
    let mut all = requests["items"].as_array().unwrap().iter();
    let pending = all.find(|request| request["status"]["certificate"].is_null()).unwrap();
    let pending = pending["metadata"]["name"].as_str().unwrap().to_owned();
    let events = kubectl.ok(&["describe", "csr", &pending]).await.unwrap();
    assert!(events.contains("NodeNameInUse"), "{events}");
    kubectl.ok(&["certificate", "approve", &pending]).await.unwrap();
    eventually("the approved machine to join", async || without_key.kubeconfig().exists()).await;
    drop(third);

    // A kubelet that runs as an administrator logs that it is not limited to its pods.
    let mut admin = node.start_as(&coffer, "third", &coffer.kubeconfig(), false);
    says(&mut admin, "the kubelet of node \"third\" runs as user \"kubernetes-admin\"").await;
}
