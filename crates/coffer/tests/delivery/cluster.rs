//! The parts as processes of their own: one control plane, nodes that join it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_testkit::{Coffer, CofferBuilder, Kubectl, Running};
use tokio::process::Command;

use crate::stage::{PROGRAM, eventually};

/// How long a kubelet may take to end.
const STOP_MAX: Duration = Duration::from_secs(30);

/// API server, controllers and scheduler.
pub(crate) struct ControlPlane {
    pub(crate) kubectl: Kubectl,
    _controllers: Running,
    _scheduler: Running,
    apiserver: Coffer,
}

impl ControlPlane {
    pub(crate) async fn start() -> Self {
        let apiserver = CofferBuilder::apiserver(PROGRAM).start().await.unwrap();
        let part = |name: &str| {
            let mut command = Command::new(PROGRAM);
            let kubeconfig = format!("kubeconfig/{name}.kubeconfig");
            command.arg(name).arg("--kubeconfig").arg(apiserver.data_dir().join(kubeconfig));
            Running::start(command).unwrap()
        };
        Self {
            kubectl: apiserver.kubectl(),
            _controllers: part("controller-manager"),
            _scheduler: part("scheduler"),
            apiserver,
        }
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.apiserver.data_dir().join("pki")
    }
}

/// A node's kubelet, which joined with a bootstrap token, and its directory.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    kubelet: Running,
    directory: tempfile::TempDir,
}

impl Node {
    /// Starts it and waits until it takes pods.
    pub(crate) async fn join(
        plane: &ControlPlane,
        name: &'static str,
        endpoint: &str,
        arguments: &[&str],
    ) -> Self {
        let directory = tempfile::Builder::new().prefix("coffer-node-").tempdir().unwrap();
        let bootstrap = directory.path().join("bootstrap.kubeconfig");
        let mut command = Command::new(PROGRAM);
        command.args(["bootstrap-kubeconfig", "--kubeconfig"]).arg(plane.apiserver.kubeconfig());
        let made = command.output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(&bootstrap, made.stdout).unwrap();

        let mut command = Command::new(PROGRAM);
        command.args(["kubelet", "-v", "--port", "0", "--stop-pods-on-exit", "--node-name", name]);
        command.arg("--root-dir").arg(directory.path().join("root"));
        command.arg("--kubeconfig").arg(directory.path().join("kubelet.kubeconfig"));
        command.arg("--bootstrap-kubeconfig").arg(bootstrap).arg("--pki-dir").arg(plane.pki());
        command.args(["--container-runtime-endpoint", endpoint]).args(arguments);
        let kubelet = Running::start(command).unwrap().patience(STOP_MAX);
        let node = Self { name, kubelet, directory };
        let object = format!("node/{name}");
        let path = "-o=jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        let ready = async || plane.kubectl.run(&["get", &object, path]).await.unwrap().stdout;
        eventually(&format!("{object} never was ready"), ready, |status| status == "True").await;
        node
    }

    /// All that the kubelet has said.
    pub(crate) fn log(&self) -> Vec<String> {
        self.kubelet.log()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// kubectl with the node's own credential: what somebody gets who has taken the node over.
    pub(crate) fn kubectl(&self) -> Kubectl {
        Kubectl::new(self.directory.path().join("kubelet.kubeconfig"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the kubelet of {} said:\n{}", self.name, self.log().join("\n"));
        }
    }
}
