//! `coffer up` and the kubelet of a second node, which share a containerd. Each can be killed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_testkit::{
    Coffer, CofferBuilder, Kubectl, Registry, Running, eventually, free_port, images, mounts,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::sleep;

const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer");
/// How long a killed process may take to exit.
const END_MAX: Duration = Duration::from_secs(30);

/// The nodes' names, which are in the pods' selectors.
pub(crate) const NODES: [&str; 2] = ["first", "second"];
/// The one whose pods have secrets in their environment: it starts the containerd, which the other
/// only uses, and keeps them from what containerd writes down.
pub(crate) const STAND_INS_NODE: &str = NODES[0];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    /// API server, controllers and scheduler, and the first node's kubelet, which ends with them.
    Coffer,
    Kubelet,
    Containerd,
}

impl Victim {
    pub(crate) const ALL: [Self; 3] = [Self::Coffer, Self::Kubelet, Self::Containerd];
}

pub(crate) struct Cluster {
    kubelet: Option<Running>,
    node: TempDir,
    coffer: Coffer,
    /// What those said that were killed.
    said: Vec<String>,
    _registry: Registry,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let registry = Registry::open().await.unwrap();
        registry.push(&images::busybox().unwrap(), "library/busybox", "latest").await.unwrap();
        let coffer = CofferBuilder::up(PROGRAM)
            .secure_port(free_port().unwrap())
            .arg("--node-name")
            .arg(NODES[0])
            .mirror(&registry)
            .start()
            .await
            .unwrap();
        let node = tempfile::Builder::new().prefix("coffer-node-").tempdir().unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["bootstrap-kubeconfig", "--kubeconfig"]).arg(coffer.kubeconfig());
        let made = command.output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(node.path().join("bootstrap.kubeconfig"), made.stdout).unwrap();
        let mut cluster =
            Self { kubelet: None, node, coffer, said: Vec::new(), _registry: registry };
        cluster.start_kubelet();
        let name = format!("node/{}", NODES[1]);
        let path = "-o=jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        let kubectl = cluster.coffer.kubectl();
        eventually("the second node to be ready", async || {
            let status = kubectl.run(&["get", &name, path]).await.unwrap().stdout;
            (status == "True").then_some(()).ok_or(status)
        })
        .await;
        cluster
    }

    fn start_kubelet(&mut self) {
        let (node, data) = (self.node.path(), self.coffer.data_dir());
        let mut command = Command::new(PROGRAM);
        command.args(["kubelet", "--port", "0", "--node-name", NODES[1]]);
        command.arg("--root-dir").arg(node.join("root"));
        command.arg("--kubeconfig").arg(node.join("kubelet.kubeconfig"));
        command.arg("--bootstrap-kubeconfig").arg(node.join("bootstrap.kubeconfig"));
        command.arg("--pki-dir").arg(data.join("pki"));
        let endpoint = format!("unix://{}", self.socket().display());
        command.args(["--container-runtime-endpoint", &endpoint]);
        self.kubelet = Some(Running::start(command).unwrap());
    }

    /// Kills a part with SIGKILL, and restarts it after `downtime`.
    pub(crate) async fn kill(&mut self, victim: Victim, downtime: Duration) {
        match victim {
            Victim::Coffer => {
                self.said.extend(self.coffer.log());
                self.coffer.kill().await.unwrap();
                sleep(downtime).await;
                self.coffer.start().await.unwrap();
            }
            Victim::Kubelet => {
                if let Some(mut kubelet) = self.kubelet.take() {
                    kubelet.signal(Signal::KILL);
                    kubelet.ended(END_MAX).await.unwrap();
                    self.said.extend(kubelet.log());
                }
                sleep(downtime).await;
                self.start_kubelet();
            }
            // Coffer brings it back; if it is just on its way, it is spared.
            Victim::Containerd => {
                if let Ok(pid) = self.coffer.containerd() {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        }
    }

    pub(crate) async fn client(&self) -> kube::Client {
        let kubeconfig = Kubeconfig::read_from(self.coffer.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }

    pub(crate) fn kubectl(&self) -> Kubectl {
        self.coffer.kubectl()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.coffer.containerd_socket().unwrap()
    }

    /// The root directory of a node's kubelet.
    pub(crate) fn root(&self, node: &str) -> PathBuf {
        if node == NODES[0] {
            self.coffer.data_dir().join("kubelet")
        } else {
            self.node.path().join("root")
        }
    }

    /// The directories that all state is below, but for the runtime's sockets.
    pub(crate) fn directories(&self) -> [&Path; 2] {
        [self.coffer.data_dir(), self.node.path()]
    }

    /// All that any part ever said.
    pub(crate) fn said(&self) -> String {
        let now = self.kubelet.iter().flat_map(Running::log).chain(self.coffer.log());
        self.said.iter().cloned().chain(now).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.kubelet.iter().flat_map(Running::log).collect::<Vec<_>>();
            eprintln!("the second kubelet said:\n{}", said.join("\n"));
        }
        // What a failed test leaves mounted would keep the directory from being removed.
        self.kubelet = None;
        if let Err(error) = mounts::unmount_below(self.node.path()) {
            eprintln!("{error}");
        }
    }
}
