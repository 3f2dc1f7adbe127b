//! A single etcd on loopback.

use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Running, free_port};

/// An etcd with its data in a temporary directory.
pub struct Etcd {
    url: String,
    process: Running,
    _directory: TempDir,
}

impl Etcd {
    /// Starts it and waits until it serves clients.
    ///
    /// # Errors
    /// When etcd is not installed or does not start.
    pub async fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("coffer-etcd-").tempdir()?;
        let url = format!("http://127.0.0.1:{}", free_port()?);
        let peer = format!("http://127.0.0.1:{}", free_port()?);
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(directory.path());
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}")]);
        let mut process = Running::start(command)?;
        let ready = |line: &str| line.contains("ready to serve client requests").then_some(());
        process.until(Duration::from_secs(30), ready).await?;
        Ok(Self { url, process, _directory: directory })
    }

    /// A value for `--etcd-servers`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process, for tests that hurt it.
    pub fn process(&self) -> &Running {
        &self.process
    }
}
