//! A Coffer of its own for a test: free ports, a temporary data directory, nothing left over.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio::process::Command;

use crate::kubectl::Kubectl;
use crate::process::Running;
use crate::process::tail;
use crate::registry::Registry;
use crate::runtime::end_containerd_of;

/// From the start to readiness, on a slow machine with its other core busy.
const READY_MAX: Duration = Duration::from_secs(120);
/// From SIGTERM to the end.
const STOP_MAX: Duration = Duration::from_secs(240);

/// Free space on the data directory's disk below which a kubelet reports pressure, as upstream's.
const DISK_PERCENT_MIN: u64 = 10;

/// What to start.
#[derive(Clone, Debug)]
pub struct CofferBuilder {
    program: PathBuf,
    verb: &'static str,
    secure_port: u16,
    arguments: Vec<String>,
    environment: Vec<(String, OsString)>,
}

/// A running `coffer up` or `coffer apiserver`. Dropping it ends it, its containerd and its pods.
pub struct Coffer {
    builder: CofferBuilder,
    process: Option<Running>,
    ready_line: String,
    directory: TempDir,
}

impl CofferBuilder {
    /// `coffer up`; the program is `env!("CARGO_BIN_EXE_coffer")` in this workspace's tests.
    pub fn up(program: impl Into<PathBuf>) -> Self {
        let arguments = vec!["--kubelet-port".to_owned(), "0".to_owned()];
        Self {
            program: program.into(),
            verb: "up",
            secure_port: 0,
            arguments,
            environment: Vec::new(),
        }
    }

    /// `coffer apiserver`: no node, no runtime, no need for root.
    pub fn apiserver(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            verb: "apiserver",
            secure_port: 0,
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// The port of the API server, for clients that outlive a start; a free one if not given.
    #[must_use]
    pub fn secure_port(mut self, port: u16) -> Self {
        self.secure_port = port;
        self
    }

    /// A further argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Has images whose names say no registry pulled from this one.
    #[must_use]
    pub fn mirror(self, registry: &Registry) -> Self {
        self.arg("--registry-mirror").arg(registry.mirror_of("docker.io"))
    }

    /// A variable of its environment, which its containerd inherits.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it ends before, or is not ready in time; the error has what it said.
    pub async fn start(self) -> Result<Coffer> {
        let directory = tempfile::Builder::new().prefix("coffer-test-").tempdir()?;
        if self.verb == "up" {
            require_room(directory.path())?;
        }
        let mut coffer =
            Coffer { builder: self, process: None, ready_line: String::new(), directory };
        coffer.start().await?;
        Ok(coffer)
    }
}

/// Says immediately what a test would otherwise find out by waiting: a node whose disk is nearly full is
/// under pressure, and no pod is sent to it.
fn require_room(directory: &Path) -> Result<()> {
    let disk = rustix::fs::statvfs(directory)?;
    let (free, needed) = (disk.f_bavail, disk.f_blocks / 100 * DISK_PERCENT_MIN);
    ensure!(
        free >= needed,
        "{} has {} MiB free: a node takes no pods with less than {DISK_PERCENT_MIN} % ({} MiB)",
        directory.display(),
        (free * disk.f_frsize) >> 20,
        (needed * disk.f_frsize) >> 20
    );
    Ok(())
}

impl Coffer {
    /// Starts it again on the same data directory, after [`Coffer::stop`] or [`Coffer::kill`].
    ///
    /// # Errors
    /// When it ends before it is ready, or is not ready in time.
    pub async fn start(&mut self) -> Result<()> {
        self.begin()?;
        self.until_ready().await
    }

    /// Starts it as [`Coffer::start`] does, and does not wait for it.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn begin(&mut self) -> Result<()> {
        let mut command = Command::new(&self.builder.program);
        command.arg(self.builder.verb).arg("--data-dir").arg(self.data_dir());
        command.args(["--secure-port", &self.builder.secure_port.to_string()]);
        command.args(&self.builder.arguments);
        let environment = self.builder.environment.iter();
        command.envs(environment.map(|(name, value)| (name, value)));
        self.process = Some(Running::start(command)?.stop_timeout(STOP_MAX));
        Ok(())
    }

    /// Waits until it is ready, after [`Coffer::begin`].
    ///
    /// # Errors
    /// When it ends before, or is not ready in time.
    pub async fn until_ready(&mut self) -> Result<()> {
        let says = if self.builder.verb == "up" { "coffer is ready" } else { "apiserver is ready" };
        let ready = |line: &str| line.starts_with(says).then(|| line.to_owned());
        let process = self.process.as_mut().context("coffer is not running")?;
        self.ready_line = process.until(READY_MAX, ready).await?;
        Ok(())
    }

    /// Ends it with SIGTERM, as a service manager would.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.end(Signal::TERM).await
    }

    /// The socket of the containerd that it starts.
    ///
    /// # Errors
    /// When a directory of that containerd cannot be made.
    pub fn containerd_socket(&self) -> Result<PathBuf> {
        Ok(coffer_containerd::Layout::create(self.data_dir())?.socket())
    }

    /// The containerd that it has started: who listens at the socket.
    ///
    /// # Errors
    /// When no one does.
    pub fn containerd(&self) -> Result<Pid> {
        let stream = std::os::unix::net::UnixStream::connect(self.containerd_socket()?)?;
        Ok(rustix::net::sockopt::socket_peercred(&stream)?.pid)
    }

    /// The number of its process while it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.process.as_ref().and_then(Running::pid)
    }

    /// Sends SIGTERM and does not wait.
    pub fn signal(&self) {
        if let Some(process) = &self.process {
            process.signal(Signal::TERM);
        }
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        self.end(Signal::KILL).await
    }

    async fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        let mut process = self.process.take().context("coffer is not running")?;
        process.signal(signal);
        process.ended(STOP_MAX).await
    }

    /// The line with which it said that it is ready.
    pub fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("admin.kubeconfig")
    }

    /// The kubectl on PATH, as the administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(self.kubeconfig())
    }

    /// All that it has said, on both outputs, since it was last started.
    pub fn log(&self) -> Vec<String> {
        self.process.as_ref().map(Running::log).unwrap_or_default()
    }
}

impl Coffer {
    /// What a failed test on a machine that no one can look at must say: the pods, why they are as
    /// they are, and this Coffer's last words.
    fn tell_of_failure(&self) {
        let Some(process) = &self.process else { return };
        for what in ["pods", "events"] {
            let mut command = std::process::Command::new("kubectl");
            command.args(["get", what, "--all-namespaces", "--request-timeout=10s", "-o", "wide"]);
            match command.env("KUBECONFIG", self.kubeconfig()).output() {
                Ok(output) => eprintln!(
                    "{what}:\n{}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                ),
                Err(error) => eprintln!("{what}: cannot run kubectl: {error}"),
            }
        }
        let daemon = std::fs::read_to_string(self.data_dir().join("containerd/containerd.log"));
        let daemon: Vec<String> = daemon.unwrap_or_default().lines().map(str::to_owned).collect();
        eprintln!("its containerd said:\n{}", tail(&daemon));
        eprintln!("coffer {} said:\n{}", self.builder.verb, tail(&process.log()));
    }
}

impl Drop for Coffer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_of_failure();
        }
        self.process = None;
        if self.builder.verb == "up" {
            end_containerd_of(self.data_dir());
        }
    }
}
