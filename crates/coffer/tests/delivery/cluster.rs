//! The parts as separate processes: a control plane, and nodes that join it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_testkit::{Coffer, CofferBuilder, Kubectl, Running, eventually_is, free_port};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use crate::stage::PROGRAM;

/// How long a kubelet may take to end.
const STOP_MAX: Duration = Duration::from_secs(30);

/// The kubelet's kubeconfig, in the node's directory.
const KUBECONFIG: &str = "kubelet.kubeconfig";

/// API server, controllers and scheduler.
pub(crate) struct ControlPlane {
    pub(crate) kubectl: Kubectl,
    _controllers: Running,
    _scheduler: Running,
    apiserver: Coffer,
}

impl ControlPlane {
    pub(crate) async fn start() -> Self {
        let port = free_port().unwrap();
        let apiserver = CofferBuilder::apiserver(PROGRAM).secure_port(port).start().await.unwrap();
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

    /// Kills the API server.
    pub(crate) async fn kill_apiserver(&mut self) {
        self.apiserver.kill().await.unwrap();
    }

    /// Starts it again.
    pub(crate) async fn start_apiserver(&mut self) {
        self.apiserver.start().await.unwrap();
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.apiserver.data_dir().join("pki")
    }
}

/// A node's kubelet, which joined with a bootstrap token, and its directory.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    kubelet: Running,
    directory: TempDir,
}

impl Node {
    /// Starts a node with a bootstrap token, and waits until it is ready.
    pub(crate) async fn join(
        plane: &ControlPlane,
        name: &'static str,
        endpoint: &str,
        arguments: &[&str],
    ) -> Self {
        let directory = directory();
        let bootstrap = directory.path().join("bootstrap.kubeconfig");
        let mut command = Command::new(PROGRAM);
        command.args(["bootstrap-kubeconfig", "--kubeconfig"]).arg(plane.apiserver.kubeconfig());
        let made = command.output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(&bootstrap, made.stdout).unwrap();
        let bootstrap = bootstrap.display().to_string();
        let arguments = [&["--bootstrap-kubeconfig", &bootstrap], arguments].concat();
        Self::start(plane, name, endpoint, directory, &arguments).await
    }

    /// Starts a node with the credentials in a kubeconfig, and waits until it is ready.
    pub(crate) async fn with_kubeconfig(
        plane: &ControlPlane,
        name: &'static str,
        endpoint: &str,
        kubeconfig: &str,
    ) -> Self {
        let directory = directory();
        std::fs::write(directory.path().join(KUBECONFIG), kubeconfig).unwrap();
        Self::start(plane, name, endpoint, directory, &[]).await
    }

    async fn start(
        plane: &ControlPlane,
        name: &'static str,
        endpoint: &str,
        directory: TempDir,
        arguments: &[&str],
    ) -> Self {
        let kubelet = kubelet(plane, name, endpoint, &directory, arguments);
        let node = Self { name, kubelet, directory };
        let object = format!("node/{name}");
        let path = "-o=jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        let ready = async || plane.kubectl.run(&["get", &object, path]).await.unwrap().stdout;
        eventually_is(format!("{object} to be ready"), ready, |status| status == "True").await;
        node
    }

    /// Kills the kubelet and starts another one that takes its pods over.
    pub(crate) async fn restart(
        &mut self,
        plane: &ControlPlane,
        endpoint: &str,
        arguments: &[&str],
    ) {
        self.kubelet.signal(Signal::KILL);
        self.kubelet.ended(STOP_MAX).await.unwrap();
        self.kubelet = kubelet(plane, self.name, endpoint, &self.directory, arguments);
    }

    /// The kubelet's log.
    pub(crate) fn log(&self) -> Vec<String> {
        self.kubelet.log()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// kubectl with the node's own credential, as an attacker on the node has it.
    pub(crate) fn kubectl(&self) -> Kubectl {
        Kubectl::new(self.directory.path().join(KUBECONFIG))
    }
}

fn kubelet(
    plane: &ControlPlane,
    name: &str,
    endpoint: &str,
    directory: &TempDir,
    arguments: &[&str],
) -> Running {
    let mut command = Command::new(PROGRAM);
    command.args(["kubelet", "-v", "--port", "0", "--stop-pods-on-exit", "--node-name", name]);
    command.arg("--root-dir").arg(directory.path().join("root"));
    command.arg("--kubeconfig").arg(directory.path().join(KUBECONFIG));
    command.arg("--pki-dir").arg(plane.pki());
    command.args(["--container-runtime-endpoint", endpoint]).args(arguments);
    Running::start(command).unwrap().stop_timeout(STOP_MAX)
}

fn directory() -> TempDir {
    tempfile::Builder::new().prefix("coffer-node-").tempdir().unwrap()
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the kubelet of {} said:\n{}", self.name, self.log().join("\n"));
        }
    }
}
