//! A program that a run starts and ends.
//!
//! It leads a process group of its own, so that a shell script that starts etcd as well as an API
//! server is ended whole.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// How long it may take to end after SIGTERM.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// A running program.
pub(crate) struct Program {
    child: Child,
    group: Option<Pid>,
    /// What it writes to standard error, for when it ends.
    stderr: std::fs::File,
    /// When it was started.
    pub(crate) at: Instant,
}

impl Program {
    /// Starts a command line.
    pub(crate) fn start(words: &[String]) -> Result<Self> {
        let (program, arguments) = words.split_first().context("there is no command to start")?;
        let stderr = tempfile::tempfile().context("no temporary file")?;
        let at = Instant::now();
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(stderr.try_clone()?))
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { child, group, stderr, at })
    }

    /// Its process id, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended and the last line it wrote, if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<String>> {
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        Ok(Some(format!("({status}){}", self.last_line())))
    }

    fn last_line(&mut self) -> String {
        let mut text = String::new();
        let start = SeekFrom::Start(0);
        // What cannot be read is left out; the status is there.
        let _ = self.stderr.seek(start).and_then(|_| self.stderr.read_to_string(&mut text));
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        last.map(|line| format!(": {}", line.trim())).unwrap_or_default()
    }

    /// Ends it with SIGTERM, and with SIGKILL if that does not help.
    pub(crate) async fn end(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        if let Ok(status) = tokio::time::timeout(END_TIMEOUT, self.child.wait()).await {
            return Ok(status?);
        }
        self.signal(Signal::KILL);
        self.child.wait().await?;
        bail!("the server did not end within {} s of SIGTERM", END_TIMEOUT.as_secs())
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It fails only where all of the group have ended.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Program {
    /// After Ctrl-C no caller waits for it.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::TERM);
        }
    }
}
