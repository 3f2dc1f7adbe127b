//! More silent connections than a process may have files open, and what of its limit others inherit.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coffer_testkit::{Attacks, CofferBuilder, Registry, images};
use rustix::process::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Files that the server may have open.
const OPEN_FILES: usize = 256;
/// Silent connections kept up at a time, and how they begin: TCP alone, and as TLS does.
const SILENT: usize = 3 * OPEN_FILES;
const BEGINNINGS: [&[u8]; 2] = [b"", &[22, 3, 1]];
/// How often another client sends a request meanwhile.
const ASKED: usize = 10;

/// The program, started with another limit of open files.
fn limited(limits: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("coffer");
    let script = format!("#!/bin/sh\n{limits}\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_coffer"));
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    (directory, path)
}

/// The soft and the hard limit of open files of a process.
fn open_files(pid: Pid) -> (String, String) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", pid.as_raw_nonzero())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let mut words = line.split_whitespace().skip(3).map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

/// Opens a silent connection, and another one whenever the server closes it.
async fn stay_silent(address: String, beginning: &'static [u8], opened: Arc<AtomicBool>) {
    loop {
        let Ok(mut stream) = TcpStream::connect(&address).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let _ = stream.write_all(beginning).await;
        opened.store(true, Ordering::SeqCst);
        let mut buffer = [0; 64];
        while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {}
    }
}

/// Keeps so many up until it is dropped, once all have been open.
async fn flood(address: &str, silent: usize) -> JoinSet<()> {
    let mut flood = JoinSet::new();
    let mut all_opened = Vec::new();
    for n in 0..silent {
        let opened = Arc::new(AtomicBool::default());
        all_opened.push(opened.clone());
        flood.spawn(stay_silent(address.to_owned(), BEGINNINGS[n % BEGINNINGS.len()], opened));
    }
    while !all_opened.iter().all(|opened| opened.load(Ordering::SeqCst)) {
        tokio::task::yield_now().await;
    }
    flood
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_flood_of_silent_connections_locks_no_client_out() {
    let mut attacks = Attacks::group("Flood of silent connections");
    let (_directory, program) = limited(&format!("ulimit -n {OPEN_FILES}"));
    let coffer = CofferBuilder::apiserver(program).start().await.unwrap();
    let line = coffer.ready_line().to_owned();
    let address = line.rsplit("https://").next().unwrap().trim().to_owned();
    let flood = flood(&address, SILENT).await;
    let kubectl = coffer.kubectl();
    for _ in 0..ASKED {
        let ask = ["get", "--raw", "/healthz", "--request-timeout=20s"];
        let outcome = kubectl.run(&ask).await.unwrap();
        attacks.attempt("a client is kept out", outcome.stdout == "ok", outcome.stderr);
    }
    let log = coffer.log();
    let warnings = log.iter().filter(|line| line.contains("reached its limit of connections"));
    let warnings = warnings.count();
    assert!(warnings >= 1, "there is no flood: {log:?}");
    attacks.attempt("the log is flooded", log.len() < 10, log.len());
    drop(flood);
    attacks.finish();
}

/// A containerd that writes down what it was started with.
fn witness() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("containerd");
    let script = "#!/bin/sh\n{ ulimit -S -n; ulimit -H -n; cat /proc/self/oom_score_adj; } \
                  > \"${0%/*}/seen\"\nPATH=\"${PATH#*:}\" exec containerd \"$@\"\n";
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    directory
}

/// The API server on the same machine must reach the kubelet; what runs in containers must not get
/// what the API server has taken for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_flood_of_the_kubelet_keeps_the_server_not_out_and_containers_inherit_nothing() {
    let mut attacks = Attacks::group("Flood of silent connections to the kubelet");
    let registry = Registry::open().await.unwrap();
    registry.push(&images::busybox().unwrap(), "library/busybox", "latest").await.unwrap();
    let (_directory, program) = limited("ulimit -S -n 512 && ulimit -H -n 1024");
    let witness = witness();
    let path = format!("{}:{}", witness.path().display(), std::env::var("PATH").unwrap());
    let builder = CofferBuilder::up(program).mirror(&registry).env("PATH", path);
    let coffer = builder.start().await.unwrap();
    assert_eq!(open_files(coffer.pid().unwrap()), ("1024".to_owned(), "1024".to_owned()));
    let seen = std::fs::read_to_string(witness.path().join("seen")).unwrap();
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    assert_eq!(seen, format!("512\n1024\n{own}"));

    let kubectl = coffer.kubectl();
    let run = ["run", "said", "--image=busybox", "--restart=Never", "--command", "--"];
    kubectl.ok(&[&run[..], &["echo", "well"]].concat()).await.unwrap();
    let done = "--for=jsonpath={.status.phase}=Succeeded";
    kubectl.ok(&["wait", "pod/said", done, "--timeout=120s"]).await.unwrap();
    let port = "-o=jsonpath={.items[0].status.daemonEndpoints.kubeletEndpoint.Port}";
    let port = kubectl.ok(&["get", "nodes", port]).await.unwrap();
    let flood = flood(&format!("127.0.0.1:{port}"), 1200).await;
    for _ in 0..ASKED {
        let outcome = kubectl.run(&["logs", "said"]).await.unwrap();
        attacks.attempt("the API server is kept out", outcome.stdout == "well\n", outcome.stderr);
    }
    let log = coffer.log();
    let flooded =
        log.iter().any(|line| line.contains("the kubelet's server has reached its limit"));
    assert!(flooded, "there is no flood: {log:?}");
    attacks.attempt("the log is flooded", log.len() < 10, log.len());
    drop(flood);
    attacks.finish();
}
