//! Running kubectl as a person would.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::debian;

/// A kubectl and the kubeconfig that it is given.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

/// What a kubectl said and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Zero or not.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Kubectl {
    /// Whatever kubectl is on PATH.
    pub fn new(kubeconfig: impl Into<PathBuf>) -> Self {
        Self { program: PathBuf::from("kubectl"), kubeconfig: kubeconfig.into() }
    }

    /// Debian 12's kubectl 1.20, the oldest that must work; fetched once and kept in `target`.
    ///
    /// # Errors
    /// When neither is it there nor can apt bring it.
    pub async fn debian(kubeconfig: impl Into<PathBuf>) -> Result<Self> {
        let program = debian_program().await?;
        Ok(Self { program, kubeconfig: kubeconfig.into() })
    }

    /// Runs it to its end, with nothing on its standard input.
    ///
    /// # Errors
    /// When it cannot be run at all; a failure that it reports is in the outcome.
    pub async fn run(&self, arguments: &[&str]) -> Result<Outcome> {
        self.run_with_input(arguments, b"").await
    }

    /// Runs it to its end with something on its standard input, for `-f -`.
    ///
    /// # Errors
    /// When it cannot be run at all; a failure that it reports is in the outcome.
    pub async fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Result<Outcome> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().with_context(|| format!("cannot run {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("kubectl has no standard input")?;
        let write = async move {
            // A kubectl that reads nothing closes its end.
            let _ = stdin.write_all(input).await;
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        let output = output?;
        Ok(Outcome {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs it and gives its standard output.
    ///
    /// # Errors
    /// When it fails; the error has what it said.
    pub async fn ok(&self, arguments: &[&str]) -> Result<String> {
        self.run(arguments).await?.success(arguments)
    }

    /// As [`Kubectl::ok`], with something on standard input.
    ///
    /// # Errors
    /// When it fails; the error has what it said.
    pub async fn ok_with_input(&self, arguments: &[&str], input: &[u8]) -> Result<String> {
        self.run_with_input(arguments, input).await?.success(arguments)
    }

    /// The command, for callers that keep it running (`get -w`, `logs -f`, `port-forward`). It is
    /// killed when its handle is dropped.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).kill_on_drop(true);
        // kubectl caches discovery below HOME for ten minutes, by host and port: a test server at a
        // port that another had a minute ago must not meet the other's.
        command.env("KUBECACHEDIR", self.kubeconfig.with_extension("cache"));
        command
    }
}

impl Outcome {
    fn success(self, arguments: &[&str]) -> Result<String> {
        if !self.status.success() {
            bail!("kubectl {}: {}: {}", arguments.join(" "), self.status, self.stderr.trim());
        }
        Ok(self.stdout)
    }
}

async fn debian_program() -> Result<PathBuf> {
    Ok(debian::unpacked("kubernetes-client", &["kubernetes-client"]).await?.join("usr/bin/kubectl"))
}
