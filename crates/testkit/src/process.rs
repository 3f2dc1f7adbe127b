//! A program that runs until its handle is dropped, and whose words can be waited for.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// How many of a program's last lines an error shows.
const SHOWN_LINES: usize = 30;

/// A running program. Dropping it sends SIGTERM and waits; SIGKILL follows where that does not help.
pub struct Running {
    name: String,
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    log: Arc<Mutex<Vec<String>>>,
    stop_timeout: Duration,
}

impl Running {
    /// Starts a program with nothing on its standard input and both outputs read line by line.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {name}"))?;
        let (sender, lines) = mpsc::unbounded_channel();
        let log = Arc::default();
        if let Some(output) = child.stdout.take() {
            forward(output, sender.clone(), Arc::clone(&log));
        }
        if let Some(output) = child.stderr.take() {
            forward(output, sender, Arc::clone(&log));
        }
        Ok(Self { name, child, lines, log, stop_timeout: Duration::from_secs(15) })
    }

    /// How long the program may take to end after SIGTERM.
    #[must_use]
    pub fn stop_timeout(mut self, stop_timeout: Duration) -> Self {
        self.stop_timeout = stop_timeout;
        self
    }

    /// Waits for the first line, not waited for before, that `found` makes something of.
    ///
    /// # Errors
    /// When the program ends first or `limit` passes; the error shows the program's last lines.
    pub async fn until<T>(
        &mut self,
        limit: Duration,
        mut found: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let search = async {
            while let Some(line) = self.lines.recv().await {
                if let Some(value) = found(&line) {
                    return Some(value);
                }
            }
            None
        };
        match tokio::time::timeout(limit, search).await {
            Ok(Some(value)) => Ok(value),
            Ok(None) => bail!("{} ended early; it said:\n{}", self.name, self.log_tail()),
            Err(_) => {
                bail!("{} was not ready in {limit:?}; it said:\n{}", self.name, self.log_tail())
            }
        }
    }

    /// The process's id while it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }

    /// Sends a signal; a program that has ended is not an error.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When `limit` passes first; the error shows the program's last lines.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                bail!("{} did not end in {limit:?}; it said:\n{}", self.name, self.log_tail())
            }
        }
    }

    /// All that the program has said so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    fn log_tail(&self) -> String {
        tail(&self.log())
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &[String]) -> String {
    log[log.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + self.stop_timeout;
        // `drop` cannot await; the process is asked until it has ended.
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                self.signal(Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn forward(
    output: impl AsyncRead + Unpin + Send + 'static,
    sender: mpsc::UnboundedSender<String>,
    log: Arc<Mutex<Vec<String>>>,
) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            log.lock().push(line.clone());
            let _ = sender.send(line);
        }
    });
}

/// A TCP port on loopback that was free a moment ago, for programs that take no port 0.
///
/// # Errors
/// When none is.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Running {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Running::start(command).unwrap()
    }

    #[tokio::test]
    async fn an_early_end_is_an_error_with_the_programs_output() {
        let mut running = shell("echo one; echo two >&2; exit 3");
        let error = running.until(Duration::from_secs(10), |_| None::<()>).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("ended early") && text.contains("two"), "{text}");
        assert_eq!(running.ended(Duration::from_secs(10)).await.unwrap().code(), Some(3));
    }

    #[tokio::test]
    async fn dropping_ends_a_program_that_does_not_listen_to_sigterm() {
        let mut running =
            shell("trap '' TERM; echo up; read forever < /dev/zero").stop_timeout(Duration::ZERO);
        running.until(Duration::from_secs(10), |line| (line == "up").then_some(())).await.unwrap();
        let pid = running.pid().unwrap();
        drop(running);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}
