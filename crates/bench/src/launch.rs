//! A server that the bench starts itself, to see how long it takes to be ready.
//!
//! `{dir}` in its command line and in the kubeconfig's path stands for a directory that is new and
//! empty at each cold start. The command leads a process group of its own, so that a shell script
//! that starts etcd beside an API server is ended whole.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use http::Method;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use crate::cli::{Options, Protocol};
use crate::client::Client;
use crate::target::Target;

/// What stands for the directory.
const DIR: &str = "{dir}";
/// How often it is asked whether it is ready.
const POLL: Duration = Duration::from_millis(3);
/// How long it may take to be ready.
const READY_PATIENCE: Duration = Duration::from_secs(120);
/// How long it may take to end after SIGTERM.
const END_PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Launched {
    child: Child,
    group: Option<Pid>,
    kubeconfig: PathBuf,
    context: Option<String>,
    /// What it says on standard error, for when it ends.
    says: std::fs::File,
    /// When it was started.
    pub(crate) at: Instant,
}

/// Puts the directory in its place.
pub(crate) fn in_directory(text: &str, directory: &std::path::Path) -> String {
    text.replace(DIR, &directory.display().to_string())
}

impl Launched {
    /// Starts the command line.
    pub(crate) fn start(
        command: &[String],
        directory: &std::path::Path,
        options: &Options,
    ) -> Result<Self> {
        let words: Vec<_> = command.iter().map(|word| in_directory(word, directory)).collect();
        let (program, arguments) = words.split_first().context("there is no command to start")?;
        let kubeconfig = options.kubeconfig.as_ref();
        let kubeconfig =
            kubeconfig.context("say how to reach the server: give --kubeconfig FILE")?;
        let kubeconfig = in_directory(&kubeconfig.to_string_lossy(), directory).into();
        let says = tempfile::tempfile().context("no temporary file")?;
        let at = Instant::now();
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(says.try_clone()?))
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { child, group, kubeconfig, context: options.context.clone(), says, at })
    }

    /// The process that was started.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until /readyz answers 200; the target then.
    pub(crate) async fn ready(&mut self) -> Result<Arc<Target>> {
        let end = Instant::now() + READY_PATIENCE;
        loop {
            let error = match self.try_ready().await {
                Ok(target) => return Ok(target),
                Err(error) => error,
            };
            if let Some(status) = self.child.try_wait()? {
                let said = self.last_line();
                bail!("the server ended before it was ready ({status}){said}");
            }
            if Instant::now() >= end {
                let within = READY_PATIENCE.as_secs();
                return Err(error.context(format!("the server was not ready within {within} s")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The last thing it said.
    fn last_line(&mut self) -> String {
        let mut text = String::new();
        // What cannot be read is not told; the status is.
        let _ =
            self.says.seek(SeekFrom::Start(0)).and_then(|_| self.says.read_to_string(&mut text));
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        last.map(|line| format!(": {}", line.trim())).unwrap_or_default()
    }

    async fn try_ready(&self) -> Result<Arc<Target>> {
        let target = Target::load(&self.kubeconfig, self.context.as_deref()).await?;
        let mut client = Client::connect(&target, Protocol::Http1).await?;
        client.call(Method::GET, "/readyz", None).await?;
        Ok(target)
    }

    /// Ends it with SIGTERM, and with SIGKILL if that does not help.
    pub(crate) async fn end(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        if let Ok(status) = tokio::time::timeout(END_PATIENCE, self.child.wait()).await {
            return Ok(status?);
        }
        self.signal(Signal::KILL);
        self.child.wait().await?;
        bail!("the server did not end within {} s of SIGTERM", END_PATIENCE.as_secs())
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It fails only where all of the group have ended.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Launched {
    /// After Ctrl-C nobody waits for it.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::TERM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_put_wherever_it_is_asked_for() {
        let directory = std::path::Path::new("/x");
        assert_eq!(in_directory("--a={dir}/b,{dir}", directory), "--a=/x/b,/x");
    }
}
