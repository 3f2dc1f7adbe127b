//! The life cycle of the daemon: configured, started or adopted, watched, left running or stopped.
//!
//! It is started in its own process group and does not stop with this process, because its pods outlive the
//! control plane. The next start finds it by its socket and the kernel's information on the process that
//! listens there. A changed configuration restarts the daemon, not the pods.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use coffer_wire::backoff::{Backoff, Limits};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::{self, RegistryMirror};
use crate::cri::Cri;
use crate::error::Error;
use crate::files::write_if_changed;
use crate::image::Image;
use crate::layout::Layout;
use crate::oci::{self, OciRuntime};
use crate::programs::Programs;
use crate::{network, pause, state, sweep};

/// How long a daemon may take from its start to a ready CRI service.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a daemon may take to stop after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(10);
/// How much longer than their grace period stopping all pods may take.
const END_MARGIN: Duration = Duration::from_secs(30);
/// How often a starting containerd is polled: it does not notify when its socket is ready.
const POLL: Duration = Duration::from_millis(20);
/// Restarts of a daemon that ends again and again.
const RESTART: Limits = Limits::spread(Duration::from_millis(20), Duration::from_secs(30));
/// A log longer than this is truncated at the next start.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// The namespace that containerd's CRI service keeps its images in.
const NAMESPACE: &str = "k8s.io";

/// The settings of Coffer's own containerd.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its subdirectory `containerd` has everything that must survive a reboot.
    pub data_dir: PathBuf,
    /// Mirrors of registries.
    pub registry_mirrors: Vec<RegistryMirror>,
    /// A program between containerd and runc.
    pub oci_runtime: Option<OciRuntime>,
    /// Limits that this process has changed for itself, and that the daemon, its shims and containers get
    /// back.
    pub inherited: Inherited,
    /// A program between containerd and its log.
    pub log_filter: Option<LogFilter>,
}

/// What containers inherit from the daemon's parent process unless their pods say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// How many files one process may have open (the soft limit), if not as many as this one.
    pub open_files: Option<u64>,
    /// The oom_score_adj, if it is not this process's.
    pub oom_score_adj: Option<i32>,
}

impl Inherited {
    /// A script that executes a program with these, and with the umask that containers expect: the one of
    /// this process is for files with secrets, and would close a container's root directory to its users.
    /// `$0` is the program, `$@` are its arguments.
    fn script(self) -> String {
        let mut script = "umask 022; ".to_owned();
        if let Some(limit) = self.open_files {
            script.push_str(&format!("ulimit -S -n {limit}; "));
        }
        if let Some(score) = self.oom_score_adj {
            script.push_str(&format!("echo {score} > /proc/self/oom_score_adj; "));
        }
        script + r#"exec "$0" "$@""#
    }
}

/// A program that copies containerd's log from its standard input to its standard output until the input
/// ends. It runs as long as containerd, which may be longer than this process.
#[derive(Clone, Debug)]
pub struct LogFilter {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// A ready containerd. Dropping it leaves the daemon and its pods running.
#[derive(Debug)]
pub struct Containerd {
    layout: Layout,
    programs: Programs,
    inherited: Inherited,
    log_filter: Option<LogFilter>,
    process: Process,
}

impl Containerd {
    /// Starts the daemon of this data directory, or adopts a running one, and waits until its CRI service is
    /// ready and has the pause image.
    ///
    /// # Errors
    /// When a program is missing, a file cannot be written, or the daemon does not become ready.
    pub async fn start(settings: &Settings) -> Result<Self, Error> {
        let programs = Programs::find(&std::env::var_os("PATH").unwrap_or_default())?;
        let layout = Layout::create(&settings.data_dir)?;
        write_mirrors(&layout, &settings.registry_mirrors)?;
        network::configure(&layout)?;
        let runc = match &settings.oci_runtime {
            Some(runtime) => oci::install(&layout, runtime, &programs.runc)?,
            None => programs.runc.clone(),
        };
        let snapshotter = snapshotter(layout.base());
        let text = config::daemon(&layout, &programs.cni_plugins, snapshotter, &runc);
        let changed = write_if_changed(&layout.config(), text.as_bytes())?;
        let (inherited, log_filter) = (settings.inherited, settings.log_filter.clone());

        let process = match Process::listening_at(&layout.socket()).await {
            Some(running) if !changed => running,
            Some(mut outdated) => {
                outdated.end().await;
                Process::spawn(&programs, &layout, inherited, log_filter.as_ref())?
            }
            None => {
                state::keep_in_memory(&layout)?;
                Process::spawn(&programs, &layout, inherited, log_filter.as_ref())?
            }
        };
        let mut containerd = Self { layout, programs, inherited, log_filter, process };
        containerd.until_ready().await?;
        Ok(containerd)
    }

    /// The CRI endpoint, as kubelets take it: `unix:///…`.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.layout.socket().display())
    }

    /// Its paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Keeps the daemon running until `shutdown`, restarting it when it dies. Pods keep running meanwhile.
    pub async fn run(&mut self, shutdown: &CancellationToken) {
        let mut backoff = Backoff::new(RESTART);
        while shutdown.run_until_cancelled(self.process.exited()).await.is_some() {
            let delay = backoff.failed(Instant::now());
            tracing::warn!(retry_in = ?delay, "containerd ended; restarting it");
            if shutdown.run_until_cancelled(sleep(delay)).await.is_none() {
                return;
            }
            match shutdown.run_until_cancelled(self.restart()).await {
                Some(Err(error)) => tracing::error!(%error, "containerd failed to start"),
                Some(Ok(())) => {}
                None => return,
            }
        }
    }

    async fn restart(&mut self) -> Result<(), Error> {
        let filter = self.log_filter.as_ref();
        self.process = Process::spawn(&self.programs, &self.layout, self.inherited, filter)?;
        self.until_ready().await
    }

    /// Imports an image as `reference` and waits until the CRI service knows it.
    ///
    /// # Errors
    /// When `ctr` fails.
    pub async fn import(&self, image: &Image, reference: &str) -> Result<(), Error> {
        let snapshotter = snapshotter(self.layout.base());
        self.ctr(reference, &["images", "import", "--snapshotter", snapshotter, "-"])
            .feed(image.archive(reference))
            .await?;
        // The labels of CRI's own pulls. `pinned` protects it from the kubelet's image garbage collection.
        let labels = ["io.cri-containerd.image=managed", "io.cri-containerd.pinned=pinned"];
        self.ctr(reference, &["images", "label", reference, labels[0], labels[1]])
            .feed(Vec::new())
            .await?;
        self.until_known(reference).await
    }

    async fn until_ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + START_MAX;
        let socket = self.layout.socket();
        loop {
            let reason = tokio::select! {
                status = self.process.exited() => return Err(self.died(status)),
                status = unready(&socket) => match status {
                    Ok(None) => break,
                    Ok(Some(unready)) => unready,
                    Err(error) => error.to_string(),
                },
            };
            if Instant::now() > deadline {
                let log = self.layout.log();
                return Err(Error::NotReady { waited: START_MAX, reason, log });
            }
            sleep(POLL).await;
        }
        let mut cri = Cri::connect(&socket).await?;
        if cri.has_image(pause::REFERENCE).await? {
            return Ok(());
        }
        self.import(&pause::image(), pause::REFERENCE).await
    }

    async fn until_known(&self, reference: &str) -> Result<(), Error> {
        let mut cri = Cri::connect(&self.layout.socket()).await?;
        let known = async {
            // The CRI service gets an event of the import a moment after `ctr` has returned.
            while !cri.has_image(reference).await? {
                sleep(POLL).await;
            }
            Ok(())
        };
        timeout(START_MAX, known).await.unwrap_or_else(|_| {
            let reason = "the CRI service does not list it".to_owned();
            Err(Error::Import { reference: reference.to_owned(), reason })
        })
    }

    fn ctr<'a>(&self, reference: &'a str, arguments: &[&str]) -> Ctr<'a> {
        let mut command = tokio::process::Command::new(&self.programs.ctr);
        command.arg("--address").arg(self.layout.socket()).args(["--namespace", NAMESPACE]);
        command.args(arguments).kill_on_drop(true);
        Ctr { command, reference }
    }

    fn died(&self, status: String) -> Error {
        let log = self.layout.log();
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let last_log_line = text.lines().last().unwrap_or("none").to_owned();
        Error::DiedAtStart { status, last_log_line, log }
    }
}

/// Stops the containerd of a data directory with all its pods, whichever process started it and whether it
/// still runs or not. Containers get `grace_s` seconds after SIGTERM; then the daemon, mounts, sockets,
/// network bridge and remaining shims are removed.
///
/// # Errors
/// What could not be removed.
pub async fn stop_with_pods(data_dir: &Path, grace_s: i64) -> Result<(), Error> {
    let layout = Layout::create(data_dir)?;
    if let Some(mut process) = Process::listening_at(&layout.socket()).await {
        let limit = Duration::from_secs(grace_s.try_into().unwrap_or_default()) + END_MARGIN;
        match timeout(limit, sweep::stop_pods(&layout.socket(), grace_s)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot stop pods through CRI"),
            Err(_) => tracing::warn!(waited = ?limit, "containerd did not stop its pods in time"),
        }
        process.end().await;
    }
    sweep::remains(&layout)
}

async fn unready(socket: &Path) -> Result<Option<String>, Error> {
    Cri::connect(socket).await?.unready().await
}

struct Ctr<'a> {
    command: tokio::process::Command,
    reference: &'a str,
}

impl Ctr<'_> {
    async fn feed(mut self, input: Vec<u8>) -> Result<(), Error> {
        let spawn = |source| Error::Spawn { program: "ctr".to_owned(), source };
        self.command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(spawn)?;
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // A ctr that fails early closes its end; its message comes with its exit status.
        let write = async move {
            let _ = stdin.write_all(&input).await;
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        let output = output.map_err(spawn)?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr);
        let reason = message.trim().lines().last().unwrap_or("no reason given").to_owned();
        Err(Error::Import { reference: self.reference.to_owned(), reason })
    }
}

/// A containerd process, ours or inherited.
#[derive(Debug)]
struct Process {
    pidfd: Arc<OwnedFd>,
    ended: watch::Receiver<Option<String>>,
}

impl Process {
    fn spawn(
        programs: &Programs,
        layout: &Layout,
        inherited: Inherited,
        filter: Option<&LogFilter>,
    ) -> Result<Self, Error> {
        let program = programs.containerd.display().to_string();
        let log = open_log(&layout.log())?;
        let log = match filter {
            Some(filter) => OwnedFd::from(start_filter(filter, log)?),
            None => OwnedFd::from(log),
        };
        let errors = log.try_clone().map_err(Error::file("share", layout.log()))?;
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(inherited.script()).arg(&programs.containerd);
        command.arg("--config").arg(layout.config()).current_dir("/").process_group(0);
        // Shims write the process specs of execs there for runc; the default is /tmp.
        command.env("XDG_RUNTIME_DIR", layout.state());
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn().map_err(|source| Error::Spawn { program, source })?;
        Self::hold(Pid::from_child(&child), Some(child))
    }

    /// The process that listens at `socket`, if any does.
    async fn listening_at(socket: &Path) -> Option<Self> {
        let stream = tokio::net::UnixStream::connect(socket).await.ok()?;
        let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
        Self::hold(peer.pid, None).ok()
    }

    /// Watches the process from a thread, which ends with it: a child must be reaped, an adopted
    /// process cannot be.
    fn hold(pid: Pid, child: Option<Child>) -> Result<Self, Error> {
        let failed = |source| Error::Spawn { program: "containerd".to_owned(), source };
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| failed(errno.into()))?;
        let pidfd = Arc::new(pidfd);
        let watched = Arc::clone(&pidfd);
        let (sender, ended) = watch::channel(None);
        std::thread::Builder::new()
            .name("containerd-exit".to_owned())
            .spawn(move || {
                // An error means that the receiver is dropped.
                let _ = sender.send(Some(wait(&watched, child)));
            })
            .map_err(failed)?;
        Ok(Self { pidfd, ended })
    }

    /// Waits until it ends and returns how.
    async fn exited(&mut self) -> String {
        match self.ended.wait_for(Option::is_some).await {
            Ok(status) => status.clone().unwrap_or_default(),
            Err(_) => "the thread that watches it has ended".to_owned(),
        }
    }

    async fn end(&mut self) {
        // An error means that it has ended already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
        if timeout(STOP_MAX, self.exited()).await.is_err() {
            tracing::warn!("containerd does not stop after SIGTERM; killing it");
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
            self.exited().await;
        }
    }
}

/// Blocks until the process has ended.
fn wait(pidfd: &OwnedFd, child: Option<Child>) -> String {
    match child.map(|mut child| child.wait()) {
        Some(Ok(status)) => status.to_string(),
        Some(Err(error)) => error.to_string(),
        None => {
            // A pidfd becomes readable when its process ends.
            let mut watched = [PollFd::new(pidfd, PollFlags::IN)];
            while let Err(Errno::INTR) = poll(&mut watched, None) {}
            "adopted from an earlier run".to_owned()
        }
    }
}

/// overlayfs cannot lie on overlayfs, which is what containers themselves run on.
fn snapshotter(directory: &Path) -> &'static str {
    const OVERLAYFS_SUPER_MAGIC: u32 = 0x794c_7630;
    match rustix::fs::statfs(directory) {
        Ok(stat) if stat.f_type as u32 == OVERLAYFS_SUPER_MAGIC => "native",
        _ => "overlayfs",
    }
}

/// Starts the program and returns the pipe to its standard input. It is reaped if it ends first.
fn start_filter(filter: &LogFilter, log: std::fs::File) -> Result<std::io::PipeWriter, Error> {
    let program = filter.program.display().to_string();
    let failed = |source| Error::Spawn { program: program.clone(), source };
    let (input, writer) = std::io::pipe().map_err(failed)?;
    let mut command = Command::new(&filter.program);
    command.args(&filter.arguments).current_dir("/").process_group(0);
    command.stdin(input).stdout(log).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    std::thread::Builder::new()
        .name("containerd-log".to_owned())
        .spawn(move || child.wait())
        .map_err(failed)?;
    Ok(writer)
}

fn open_log(path: &Path) -> Result<std::fs::File, Error> {
    let oversized = path.metadata().is_ok_and(|meta| meta.len() > LOG_BYTES_MAX);
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    let log = options.open(path).map_err(Error::file("open", path))?;
    if oversized {
        log.set_len(0).map_err(Error::file("shorten", path))?;
    }
    Ok(log)
}

/// Writes these mirrors and removes others. containerd reads the directory at every pull.
fn write_mirrors(layout: &Layout, mirrors: &[RegistryMirror]) -> Result<(), Error> {
    let all = layout.hosts();
    for entry in std::fs::read_dir(&all).map_err(Error::file("list", &all))?.flatten() {
        let host = entry.file_name();
        if !mirrors.iter().any(|mirror| host == mirror.host()) {
            std::fs::remove_dir_all(entry.path()).map_err(Error::file("remove", entry.path()))?;
        }
    }
    for mirror in mirrors {
        let directory = all.join(mirror.host());
        std::fs::create_dir_all(&directory).map_err(Error::file("create directory", &directory))?;
        write_if_changed(&directory.join("hosts.toml"), mirror.hosts_toml().as_bytes())?;
    }
    Ok(())
}
