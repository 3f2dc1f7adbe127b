//! A kubelet that fails takes no other part along, and ends with the process that started it.

use std::os::fd::OwnedFd;

use coffer_testkit::{Attacks, Coffer, CofferBuilder, eventually};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, getpid, kill_process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer");
/// How often a kubelet is killed. Each time it is away for longer.
const KILLS: usize = 3;

async fn start() -> Coffer {
    CofferBuilder::up(PROGRAM).start().await.unwrap()
}

fn read(pid: Pid, file: &str) -> String {
    let bytes = std::fs::read(format!("/proc/{}/{file}", pid.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn parent(pid: Pid) -> Option<i32> {
    let status = read(pid, "status");
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// The processes that a Coffer has started as its kubelet, including dead ones that are not reaped.
fn kubelets(coffer: &Coffer) -> Vec<Pid> {
    let own = coffer.pid().unwrap();
    let entries = std::path::Path::new("/proc").read_dir().unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let children = pids.filter_map(Pid::from_raw).filter(|pid| {
        let line = read(*pid, "cmdline");
        let is_one = line.is_empty() || line.contains("kubelet\0");
        parent(*pid) == Some(own.as_raw_nonzero().get()) && is_one
    });
    children.collect()
}

/// A kubelet that serves, and is not one of those before.
async fn kubelet(coffer: &Coffer, before: &[Pid]) -> Pid {
    eventually("a kubelet", async || {
        let running = |pid: &Pid| !read(*pid, "cmdline").is_empty() && !before.contains(pid);
        kubelets(coffer).into_iter().find(running)
    })
    .await
}

async fn says(coffer: &Coffer, words: &str) {
    let what = format!("a line with {words:?}");
    eventually(&what, async || coffer.log().iter().any(|line| line.contains(words))).await;
}

async fn is_serving(coffer: &Coffer) -> bool {
    coffer.kubectl().run(&["get", "--raw", "/readyz"]).await.is_ok_and(|it| it.stdout == "ok")
}

/// As a pod does that has the kubelet ask for more memory than there is, again at each start.
#[tokio::test]
async fn a_kubelet_that_fails_again_and_again_does_not_end_the_server() {
    let mut attacks = Attacks::group("Pod that makes its kubelet fail");
    let mut coffer = start().await;
    let mut before = Vec::new();
    for signal in [Signal::ABORT, Signal::ILL, Signal::KILL].into_iter().take(KILLS) {
        let victim = kubelet(&coffer, &before).await;
        kill_process(victim, signal).unwrap();
        before.push(victim);
        eventually("its end", async || !kubelets(&coffer).contains(&victim)).await;
        let is_serving = is_serving(&coffer).await;
        attacks.attempt(&format!("it ends by {signal:?}"), is_serving, coffer.log());
    }
    says(&coffer, "the kubelet ended; restarting it ended=\"signal: 6 (SIGABRT)").await;
    let alive = kubelet(&coffer, &before).await;
    let score = |pid| read(pid, "oom_score_adj").trim().parse::<i32>().unwrap();
    let (server, own) = (score(coffer.pid().unwrap()), score(getpid()));
    attacks.attempt("memory runs out", server <= score(alive) && score(alive) == own, server);
    assert_eq!(score(coffer.containerd().unwrap()), own, "containers inherit it");
    let (limits, status) = (read(alive, "limits"), read(alive, "status"));
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    assert!(status.contains("Umask:\t0077"), "{status}");

    // A restart while the kubelet cannot start at all.
    assert!(coffer.stop().await.unwrap().success());
    let root: OwnedFd = std::fs::File::open(coffer.data_dir().join("kubelet")).unwrap().into();
    flock(&root, FlockOperation::LockExclusive).unwrap();
    coffer.begin().unwrap();
    says(&coffer, "the kubelet ended; restarting it ended=\"exit status: 1\"").await;
    let kubectl = coffer.kubectl();
    let deletes = eventually("an answer", async || {
        let made = kubectl.run(&["create", "configmap", "x"]).await.ok()?;
        made.status.success().then_some(())?;
        Some(kubectl.run(&["delete", "configmap", "x"]).await.unwrap().status.success())
    })
    .await;
    let ready = coffer.log().iter().any(|line| line.contains("coffer is ready"));
    attacks.attempt("it fails at each start", deletes && !ready, coffer.log());
    says(&coffer, "still waiting for the node: its kubelet ended").await;
    drop(root);
    coffer.until_ready().await.unwrap();
    assert!(coffer.stop().await.unwrap().success());
    attacks.finish();
}

/// Nothing else would: the kubelet has its own process group, and a kernel does not tell children.
#[tokio::test]
async fn the_kubelet_ends_with_a_server_that_is_killed() {
    let mut coffer = start().await;
    let alive = kubelet(&coffer, &[]).await;
    coffer.kill().await.unwrap();
    eventually("its end", async || read(alive, "cmdline").is_empty()).await;
    coffer.start().await.unwrap();
    // A stopped process does not end without SIGKILL.
    let stopped = kubelet(&coffer, &[]).await;
    kill_process(stopped, Signal::STOP).unwrap();
    assert!(coffer.stop().await.unwrap().success());
    assert!(read(stopped, "cmdline").is_empty());
}
