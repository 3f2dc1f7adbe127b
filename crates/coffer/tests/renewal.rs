//! Certificates that end while everything runs: nobody notices.

use std::path::Path;
use std::time::{Duration, Instant};

use coffer_testkit::{CofferBuilder, Kubectl, Registry, images};
use time::OffsetDateTime;

/// Long enough for a slow machine to renew in the last fifth of it.
const LIFE: &str = "20s";

/// When a certificate ends.
fn end_of(path: &Path) -> OffsetDateTime {
    let text = std::fs::read(path).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&text).unwrap();
    pem.parse_x509().unwrap().validity().not_after.to_datetime()
}

async fn eventually(kubectl: &Kubectl, arguments: &[&str]) -> String {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let outcome = kubectl.run(arguments).await.unwrap();
        if outcome.status.success() {
            return outcome.stdout;
        }
        assert!(Instant::now() < deadline, "kubectl {arguments:?}: {}", outcome.stderr);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn every_certificate_is_exchanged_before_it_ends_and_nothing_is_restarted() {
    let registry = Registry::open().await.unwrap();
    registry.push(&images::busybox().unwrap(), "library/busybox", "latest").await.unwrap();
    let coffer = CofferBuilder::up(env!("CARGO_BIN_EXE_coffer"))
        .mirror(&registry)
        .arg("--cluster-signing-duration")
        .arg(LIFE)
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

    // All that is there now has ended. A certificate is good through the whole of the second in
    // which it ends (RFC 5280, 4.1.2.5), and its time is written in whole seconds.
    let ended = ends.into_iter().max().unwrap() + Duration::from_secs(1);
    let left = ended - OffsetDateTime::now_utc();
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
    for (name, end) in names.iter().zip(ends) {
        let now = end_of(&pki.join(name).with_extension("crt"));
        assert!(now > end && now > OffsetDateTime::now_utc(), "{name} ends at {now}");
    }
    // What the parts show each other has been exchanged as well: a client sees the server's, the
    // server sees the scheduler's and the kubelet's, and the two last see each other's.
    let run = ["run", "late", "--image=busybox", "--restart=Never", "--command", "--"];
    eventually(&kubectl, &[&run[..], &["sh", "-c", "echo well; sleep 3600"]].concat()).await;
    let ready = ["wait", "--for=condition=Ready", "pod/late", "--timeout=60s"];
    eventually(&kubectl, &ready).await;
    assert_eq!(eventually(&kubectl, &["logs", "late"]).await, "well\n");
    let late = Kubectl::new(&old).run(&["get", "pods"]).await.unwrap();
    assert!(!late.status.success(), "a certificate that has ended is good: {}", late.stdout);
}
