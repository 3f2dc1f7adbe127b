//! Certificates expire while everything runs, and no client fails.

use std::path::Path;
use std::time::Duration;

use coffer_testkit::{CofferBuilder, Kubectl, Registry, eventually, images};
use time::OffsetDateTime;

/// Short, so that certificates expire during the test. That they are renewed before they expire is tested with
/// a clock in `renewal.rs`.
const LIFETIME: &str = "20s";

/// When a certificate expires.
fn end_of(path: &Path) -> OffsetDateTime {
    let text = std::fs::read(path).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&text).unwrap();
    pem.parse_x509().unwrap().validity().not_after.to_datetime()
}

async fn succeeds(kubectl: &Kubectl, arguments: &[&str]) -> String {
    eventually(format!("kubectl {arguments:?}"), async || {
        let outcome = kubectl.run(arguments).await.unwrap();
        if outcome.status.success() { Ok(outcome.stdout) } else { Err(outcome.stderr) }
    })
    .await
}

#[tokio::test]
async fn every_certificate_is_renewed_without_a_restart() {
    let registry = Registry::open().await.unwrap();
    registry.push(&images::busybox().unwrap(), "library/busybox", "latest").await.unwrap();
    let coffer = CofferBuilder::up(env!("CARGO_BIN_EXE_coffer"))
        .mirror(&registry)
        .arg("--cluster-signing-duration")
        .arg(LIFETIME)
        .start()
        .await
        .unwrap();
    let kubectl = coffer.kubectl();
    let copy = tempfile::tempdir().unwrap();
    let old = copy.path().join("old.kubeconfig");
    std::fs::copy(coffer.kubeconfig(), &old).unwrap();
    let pki = coffer.data_dir().join("pki");
    let names = [
        "apiserver",
        "apiserver-kubelet-client",
        "admin",
        "scheduler",
        "controller-manager",
        "kubelet-client",
        "kubelet",
    ];
    let ends = names.map(|name| end_of(&pki.join(name).with_extension("crt")));

    // Until all of them have expired and been renewed. A certificate is valid through the whole of the second in
    // which it expires (RFC 5280, 4.1.2.5), and its time is in whole seconds.
    let expired = ends.into_iter().max().unwrap() + Duration::from_secs(1);
    for name in names {
        let path = pki.join(name).with_extension("crt");
        let is_renewed = async || OffsetDateTime::now_utc() >= expired && end_of(&path) >= expired;
        eventually(format!("{name} to be renewed"), is_renewed).await;
    }
    // The running parts use the new ones: a client verifies the server's, the server the scheduler's and the
    // kubelet's, and the server and the kubelet each other's.
    let run = ["run", "late", "--image=busybox", "--restart=Never", "--command", "--"];
    succeeds(&kubectl, &[&run[..], &["sh", "-c", "echo well; sleep 3600"]].concat()).await;
    let ready = ["wait", "--for=condition=Ready", "pod/late", "--timeout=60s"];
    succeeds(&kubectl, &ready).await;
    assert_eq!(succeeds(&kubectl, &["logs", "late"]).await, "well\n");
    let late = Kubectl::new(&old).run(&["get", "pods"]).await.unwrap();
    assert!(!late.status.success(), "an expired certificate is accepted: {}", late.stdout);
}
