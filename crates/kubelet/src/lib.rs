//! The node agent: runs the pods that are bound to its node, over CRI, and delivers their secrets.
//!
//! ```text
//! source, statics ──pods──▶ worker (one task per pod): observe → plan → act → report
//!                    │ volumes ◀─ objects (secrets, one by one)     │
//!                    │ images ─▶ runtime (CRI)                      ▼
//!                    └ snapshot (tmpfs, for the pod's life)      status, events
//! node: registration, conditions, lease        server: exec, attach, port-forward, logs
//! ```
//!
//! It refuses to know where the API server runs or what it stores: everything goes through a
//! `kube::Client`. A secret's bytes go from the API server's answer into a tmpfs and are erased
//! from memory; they are in no log, error or event. What runs keeps running when this process
//! ends, and is found again by labels when it starts.
//!
//! What may wait for a disk, a mount or a process runs on a thread that may block. Small files in a pod's
//! own tmpfs are memory, and are read and written in place.

mod backoff;
mod changes;
mod config;
mod downward;
mod duration;
mod env;
mod event;
mod handler;
mod image;
mod log_rotation;
mod logs;
mod mount;
mod node;
mod objects;
mod pod;
mod probe;
mod quantity;
mod redact;
mod runtime;
mod server;
mod snapshot;
mod source;
mod statics;
mod status;
mod volume;
mod worker;

#[cfg(test)]
#[path = "../tests/attacks/mod.rs"]
mod attacks;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FlockOperation;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::config::{
    Config, KubernetesService, MAX_PODS_DEFAULT, SERVER_PORT_DEFAULT, SecretPlaceholders,
    ServerConfig, ServiceAddress, StaticPodsConfig,
};
pub use self::env::{OciRuntime, OciRuntimeError};
pub use self::image::{
    AllowlistError, ImagePullCredentialsVerificationPolicy, ImagesConfig, ImagesError,
    ProviderConfigError, UnknownPolicy,
};
pub use self::node::KUBELET_VERSION;
pub use self::redact::known_words;
pub use self::server::{ServerError, TlsError};
pub use self::statics::ManifestUrlError;

use self::downward::NodeFacts;
use self::event::EventWriter;
use self::image::Images;
use self::node::{Machine, NodeAgent};
use self::objects::Objects;
use self::pod::Layout;
use self::redact::Redactor;
use self::runtime::{DnsDefaults, Relist, Runtime, RuntimeError, RuntimeVersion};
use self::server::{Server, Sessions};
use self::statics::Statics;
use self::volume::{Protected, Volumes};
use self::worker::{Services, Shared, Workers};

/// How long a runtime may take to answer first; it may be starting at the same time.
const RUNTIME_START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a root directory may be in use before that is an error.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// How long what is still being written gets at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Only root has business with pods' files.
const ROOT_MODE: u32 = 0o750;

/// Why a kubelet cannot be made. Each is one clear line.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Mounting and running containers takes root.
    #[error("the kubelet has to run as root")]
    NotRoot,
    /// The endpoint is not a unix socket.
    #[error("container runtime endpoint {0:?} is not a unix socket (unix:///path)")]
    Endpoint(String),
    /// The runtime does not answer, or does not speak CRI v1.
    #[error("container runtime at {endpoint}: {cause}")]
    Runtime {
        /// Where it should be.
        endpoint: String,
        /// What went wrong.
        cause: String,
    },
    /// The root directory cannot be used.
    #[error("root directory {path}: {cause}")]
    RootDir {
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Another kubelet uses the root directory.
    #[error("root directory {0} is in use by another kubelet")]
    RootDirInUse(PathBuf),
    /// The manifest URL cannot be used.
    #[error(transparent)]
    ManifestUrl(#[from] ManifestUrlError),
    /// Images cannot be managed.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// The HTTPS server cannot be made.
    #[error("kubelet server: {0}")]
    Server(#[from] ServerError),
}

/// Looks at settings that no later try would make right, before a kubelet is started with them.
///
/// # Errors
/// What is wrong with them.
pub fn check(container_runtime_endpoint: &str, images: &ImagesConfig) -> Result<(), BuildError> {
    runtime::socket_path(container_runtime_endpoint)
        .ok_or_else(|| BuildError::Endpoint(container_runtime_endpoint.to_owned()))?;
    Ok(images.check()?)
}

/// A kubelet that is ready to run.
pub struct Kubelet {
    workers: Arc<Workers>,
    agent: NodeAgent,
    relist: Relist,
    writer: EventWriter,
    server: Server,
    statics: Statics,
    /// Held for as long as the root directory is ours.
    lock: std::fs::File,
}

/// Ends a kubelet's pods after the kubelet itself; see [`Kubelet::run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// Pods keep running, to be adopted by the next kubelet.
    LeavePods,
    /// `--stop-pods-on-exit`: pods are ended with their grace periods, and unmounted.
    StopPods,
}

impl Kubelet {
    /// Opens what a kubelet needs: its root directory, the runtime, its port. Runs nothing yet.
    ///
    /// # Errors
    /// What is not there or not right, as one line each.
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        if !rustix::process::geteuid().is_root() {
            return Err(BuildError::NotRoot);
        }
        let lock = open_root(&config.root_dir).await?;
        let endpoint = &config.container_runtime_endpoint;
        let socket =
            runtime::socket_path(endpoint).ok_or_else(|| BuildError::Endpoint(endpoint.clone()))?;
        let runtime = Runtime::new(&socket, &config.node_name);
        let version = wait_for(&runtime, endpoint).await?;
        let root = |cause| BuildError::RootDir { path: config.root_dir.clone(), cause };
        let machine = Machine::read(&config.root_dir).map_err(root)?;
        let server = Server::bind(&config.server)?;

        let ip = config.node_ip.unwrap_or_else(config::outward_ip);
        let facts = NodeFacts {
            ip,
            cpu_milli: i64::from(machine.cpus) * 1000,
            memory_bytes: i64::try_from(machine.memory_bytes).unwrap_or(i64::MAX),
        };
        let (events, writer) = event::channel(config.client.clone(), &config.node_name);
        let objects = Arc::new(Objects::new(config.client.clone()));
        let layout = Layout::new(&config.root_dir);
        let protected = Arc::new(Protected::new(protected_paths(&config, &socket)));
        let images = Images::open(
            runtime.clone(),
            events.clone(),
            objects.clone(),
            &config.root_dir,
            &config.images,
        )
        .await?;
        let shared = Arc::new(Shared {
            node_name: config.node_name.clone(),
            client: config.client.clone(),
            runtime: runtime.clone(),
            runtime_name: version.name,
            images,
            volumes: Volumes::new(layout.clone(), objects.clone(), facts, protected.clone()),
            protected,
            objects,
            events: events.clone(),
            layout,
            dns: dns(&config),
            facts,
            services: Services::new(&config.kubernetes_service),
            placeholders: config.secret_placeholders,
        });
        let relist = Relist::new(runtime.clone());
        let agent = NodeAgent {
            name: config.node_name,
            ip,
            server_port: server.address().port(),
            max_pods: config.max_pods,
            labels: config.node_labels,
            root: config.root_dir,
            machine,
            client: config.client,
            runtime,
            health: relist.health(),
            events,
        };
        let workers = Workers::new(shared);
        let statics = Statics::open(&agent.name, agent.events.clone(), config.static_pods)?;
        Ok(Self { workers, agent, relist, writer, server, statics, lock })
    }

    /// Where the HTTPS server listens.
    pub fn server_address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Runs pods until `shutdown`, then does with them as `on_exit` says. Before it ends them it tells
    /// `ending` how long it waits for them at most.
    pub async fn run(
        self,
        shutdown: CancellationToken,
        on_exit: OnExit,
        ending: impl FnOnce(Duration),
    ) {
        let Self { workers, agent, relist, writer, server, statics, lock } = self;
        let writing = tokio::spawn(writer.run());
        let sessions = Sessions::default();
        let wake = {
            let workers = workers.clone();
            move |uid: &str| workers.wake(uid)
        };
        let shared = workers.shared().clone();
        let working = async {
            tokio::join!(
                agent.run(),
                relist.run(wake),
                server.run(workers.clone(), statics.input(), sessions.clone()),
                source::run(workers.clone(), statics.ready()),
                statics.run(workers.clone()),
                log_rotation::run(shared.runtime.clone(), shared.layout.clone()),
            );
        };
        shutdown.run_until_cancelled(working).await;

        sessions.close().await;
        if on_exit == OnExit::StopPods {
            workers.end_all(ending).await;
        }
        workers.stop().await;
        // With the last sink dropped, the writer ends by itself.
        drop(workers);
        drop(shared);
        if tokio::time::timeout(DRAIN_TIMEOUT, writing).await.is_err() {
            tracing::debug!("dropping events that could not be written");
        }
        drop(lock);
    }
}

/// Files of the configuration with which a process could act as the node, or as the runtime.
fn protected_paths(config: &Config, socket: &Path) -> Vec<PathBuf> {
    let mut all = config.protected_paths.clone();
    all.extend([config.root_dir.clone(), socket.to_owned()]);
    all.push(config.server.tls_private_key_file.clone());
    all.extend(config.static_pods.manifest_path.clone());
    all.extend(config.images.credential_provider_config.clone());
    all.extend(config.images.credential_provider_bin_dir.clone());
    // The kubelet may be given paths relative to where it was started.
    all.iter_mut().for_each(|path| {
        if let Ok(absolute) = std::path::absolute(&*path) {
            *path = absolute;
        }
    });
    all
}

/// Makes the root directory and takes it for this process.
///
/// A kubelet that was killed a moment ago may not have ended yet, so its lock is waited for shortly.
async fn open_root(path: &Path) -> Result<std::fs::File, BuildError> {
    let failed = |cause| BuildError::RootDir { path: path.to_owned(), cause };
    std::fs::DirBuilder::new().recursive(true).mode(ROOT_MODE).create(path).map_err(failed)?;
    let lock = std::fs::File::open(path).map_err(failed)?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    let mut backoff = backoff::Backoff::new(backoff::LOCK);
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                backoff.wait().await;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(BuildError::RootDirInUse(path.to_owned()));
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
}

/// Waits until the runtime responds; it may be on its way up.
async fn wait_for(runtime: &Runtime, endpoint: &str) -> Result<RuntimeVersion, BuildError> {
    let deadline = Instant::now() + RUNTIME_START_TIMEOUT;
    let failed = |error: &RuntimeError| BuildError::Runtime {
        endpoint: endpoint.to_owned(),
        cause: error.redacted(&Redactor::without_values()),
    };
    let mut backoff = backoff::Backoff::new(backoff::API);
    loop {
        match runtime.version().await {
            Ok(version) => return Ok(version),
            // Not there yet, or there and not yet able to answer.
            Err(error) if Instant::now() < deadline && !error.is_unimplemented() => {
                tracing::debug!(%error, "waiting for the container runtime");
                backoff.wait().await;
            }
            Err(error) => return Err(failed(&error)),
        }
    }
}

fn dns(config: &Config) -> DnsDefaults {
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    DnsDefaults {
        cluster_servers: config.cluster_dns.clone(),
        cluster_domain: config.cluster_domain.clone(),
        ..DnsDefaults::parse(&host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelet_can_run_on_any_thread() {
        fn is_send<T: Send>(_: impl Fn(Kubelet, CancellationToken) -> T) {}
        is_send(|kubelet, shutdown| kubelet.run(shutdown, OnExit::LeavePods, |_| ()));
    }
}
