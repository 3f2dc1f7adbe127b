//! A part of Coffer in a separate process, so that its crash ends no other part.
//!
//! The process runs this program's own executable, even if the file at its path has been replaced. It is
//! restarted when it ends, after a delay that grows, and ends with its parent, however that one ends (see
//! [`end_with`], which the child calls). It reports by one line on its standard output that it is up, and by
//! another one ([`ending`]) how long it needs to stop.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coffer_wire::backoff::{Backoff, Limits};
use rustix::process::{
    Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal,
};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// This program's own executable, whatever file is at its path now.
const PROGRAM: &str = "/proc/self/exe";
/// Restarts of a child that ends again and again. All machines lose what it needs at the same time.
const RESTART: Limits = Limits::spread(Duration::from_millis(500), Duration::from_secs(30));
/// Maximum length of a line from a child, in bytes.
const LINE_BYTES_MAX: u64 = 4096;
/// The beginning of the line in which a child announces how many seconds it needs to stop.
const ENDING: &str = "ending, for seconds at most: ";

/// What is run, and how it is stopped.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    /// For the log: `the kubelet`.
    pub(crate) name: &'static str,
    /// The verb and its flags. They are visible to other users: no secrets.
    pub(crate) arguments: Vec<OsString>,
    /// How long it may take to stop after SIGTERM before it is killed, in addition to the time that it then
    /// announces.
    pub(crate) stop_max: Duration,
}

/// The state of a child, for tasks that wait for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Whether it has ever reported that it is up.
    pub(crate) was_up: bool,
    /// How it last ended; `None` while it runs for the first time.
    pub(crate) ended: Option<String>,
}

impl Child {
    /// Keeps it running until `stop`, then stops it. `states` receives whether it runs.
    pub(crate) async fn run(self, states: watch::Sender<State>, stop: CancellationToken) {
        let mut backoff = Backoff::new(RESTART);
        loop {
            let ended = match Process::spawn(&self.arguments, states.clone()).await {
                Ok(mut process) => match stop.run_until_cancelled(process.exited()).await {
                    Some(ended) => ended,
                    None => return process.end(&self).await,
                },
                Err(error) => format!("cannot start: {error}"),
            };
            states.send_modify(|state| state.ended = Some(ended.clone()));
            let retry_in = backoff.failed(Instant::now());
            tracing::error!(ended, ?retry_in, "{} ended; restarting it", self.name);
            if stop.run_until_cancelled(sleep(retry_in)).await.is_none() {
                return;
            }
        }
    }
}

/// A child process that runs or has ended.
struct Process {
    pidfd: Arc<OwnedFd>,
    ended: oneshot::Receiver<String>,
    /// The time that it has announced for stopping.
    ending: watch::Receiver<Option<Duration>>,
}

impl Process {
    /// Starts it from a separate thread, which lives as long as the process: to the kernel, the end of the
    /// thread that started a process is the end of its parent.
    async fn spawn(arguments: &[OsString], states: watch::Sender<State>) -> io::Result<Self> {
        let mut command = Command::new(PROGRAM);
        command.arg0("coffer").args(arguments);
        command.arg("--parent").arg(std::process::id().to_string());
        Self::spawn_command(command, states).await
    }

    async fn spawn_command(mut command: Command, states: watch::Sender<State>) -> io::Result<Self> {
        // A terminal's signals are for this process, which stops its parts in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
        let (started, starting) = oneshot::channel();
        let (sender, ended) = oneshot::channel();
        let (asks, ending) = watch::channel(None);
        let life = move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => return drop(started.send(Err(error))),
            };
            // It is not reaped yet, so the PID is still its own.
            let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
            let _ = started.send(pidfd.map(Arc::new).map_err(io::Error::from));
            let mut output = child.stdout.take().map(BufReader::new);
            while let Some(line) = output.as_mut().and_then(read_line) {
                match announced(&line) {
                    Some(limit) => drop(asks.send(Some(limit))),
                    None => states.send_modify(|state| state.was_up = true),
                }
            }
            let status = child.wait().map_or_else(|error| error.to_string(), |it| it.to_string());
            let _ = sender.send(status);
        };
        std::thread::Builder::new().name("kubelet-exit".to_owned()).spawn(life)?;
        let pidfd = starting
            .await
            .map_err(|_| io::Error::other("the thread that watches it has ended"))??;
        Ok(Self { pidfd, ended, ending })
    }

    /// Waits until it ends and returns how.
    async fn exited(&mut self) -> String {
        (&mut self.ended)
            .await
            .unwrap_or_else(|_| "the thread that watches it has ended".to_owned())
    }

    async fn end(&mut self, child: &Child) {
        // An error means that it has ended already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
        let said = {
            let mut ending = self.ending.clone();
            async move { ending.wait_for(Option::is_some).await.ok().and_then(|asked| *asked) }
        };
        let mut limit = child.stop_max;
        let mut is_over = tokio::select! {
            _ = self.exited() => return,
            asked = timeout(limit, said) => match asked {
                Ok(Some(asked)) => {
                    limit = limit.saturating_add(asked);
                    false
                }
                // It has closed its output without an announcement.
                Ok(None) => false,
                Err(_) => true,
            },
        };
        is_over = is_over || timeout(limit, self.exited()).await.is_err();
        if is_over {
            tracing::warn!(waited = ?limit, "{} does not stop after SIGTERM; killing it", child.name);
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
            self.exited().await;
        }
    }
}

/// The line in which a child announces that it needs this long to stop, from now.
pub(crate) fn ending(limit: Duration) -> String {
    format!("{ENDING}{}", limit.as_secs())
}

fn announced(line: &str) -> Option<Duration> {
    line.trim_end().strip_prefix(ENDING)?.parse().ok().map(Duration::from_secs)
}

/// The next line; `None` at the end, and for output that is not text.
fn read_line(output: &mut impl io::BufRead) -> Option<String> {
    let mut line = String::new();
    let length = output.take(LINE_BYTES_MAX).read_line(&mut line).ok()?;
    (length > 0).then_some(line)
}

/// Lets the kernel kill this process when `parent`, which started it, ends. To be called from its first
/// thread.
///
/// # Errors
/// When it has ended already.
pub(crate) fn end_with(parent: u32) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot follow the parent")?;
    // It may have ended before that took effect; then this process has another parent now.
    let now = getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    if now != Some(parent) {
        bail!("the parent process {parent} has ended");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str) -> (Process, watch::Receiver<State>) {
        let (states, state) = watch::channel(State::default());
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        (Process::spawn_command(command, states).await.unwrap(), state)
    }

    fn child(stop_max: Duration) -> Child {
        Child { name: "the child", arguments: Vec::new(), stop_max }
    }

    /// A kubelet that hangs used to keep `coffer up --stop-pods-on-exit` from ending.
    #[tokio::test]
    async fn a_child_that_does_not_stop_is_killed() {
        let (mut process, mut state) = shell("echo up; exec sleep 600").await;
        state.wait_for(|state| state.was_up).await.unwrap();
        pidfd_send_signal(&process.pidfd, Signal::STOP).unwrap();
        let (mut waiting, _) = shell("trap '' TERM; echo up; exec sleep 600").await;
        process.end(&child(Duration::from_millis(100))).await;
        assert!(pidfd_send_signal(&process.pidfd, Signal::CONT).is_err(), "it has ended");
        waiting.end(&child(Duration::from_millis(100))).await;
    }

    #[tokio::test]
    async fn a_child_gets_the_time_that_it_announces_and_no_more() {
        let says = ending(Duration::from_secs(60));
        let script = format!(
            "trap 'echo {says}; sleep 1; exit 7' TERM; echo up; while :; do sleep 0.01; done"
        );
        let (mut process, mut state) = shell(&script).await;
        state.wait_for(|state| state.was_up).await.unwrap();
        // The stop_max is over before the sleep is.
        let _ = pidfd_send_signal(&process.pidfd, Signal::TERM);
        process.ending.wait_for(Option::is_some).await.unwrap();
        process.end(&child(Duration::ZERO)).await;

        let says = ending(Duration::ZERO);
        let script = format!("trap 'echo {says}' TERM; echo up; while :; do sleep 0.01; done");
        let (mut process, mut state) = shell(&script).await;
        state.wait_for(|state| state.was_up).await.unwrap();
        process.end(&child(Duration::from_millis(100))).await;
        assert_eq!(announced("ending"), None);
    }

    #[test]
    fn a_process_whose_parent_has_ended_fails_to_start() {
        let error = end_with(u32::MAX).unwrap_err().to_string();
        set_parent_process_death_signal(None).unwrap();
        assert!(error.contains("has ended"), "{error}");
    }
}
