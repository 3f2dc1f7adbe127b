//! The container runtime, over CRI v1 on a unix socket.
//!
//! [`Runtime`] makes the calls and turns their failures into [`RuntimeError`]. What is asked of
//! the runtime is made by pure functions in the modules below; what it returns becomes
//! [`Observed`]. CRI requests hold environment values and credentials: none is ever printed, and
//! the runtime's own words, which may quote them, come out by a [`Redactor`] only.

mod container;
mod labels;
mod observed;
mod relist;
mod remains;
mod resources;
mod sandbox;
mod security;
mod stray_task;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{self as cri};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::redact::{Foreign, Redactor};

pub(crate) use self::container::{ContainerPlan, container_config};
pub(crate) use self::labels::container_hash;
#[cfg(test)]
pub(crate) use self::observed::Sandbox;
pub(crate) use self::observed::{Container, ContainerState, Observed};
pub(crate) use self::relist::{Relist, RuntimeHealth};
pub(crate) use self::sandbox::{DnsDefaults, host_name, sandbox_config};
pub(crate) use self::security::check_non_root;

/// How long a call may take that has no reason to take long.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// A pull has no natural limit; one this long is stuck.
const PULL_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// The longest grace period that a runtime is given: a hundred years.
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// Listings of a full node are larger than gRPC's default of 4 MiB; upstream allows 16 as well.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a call to the runtime failed. `Display` leaves the runtime's words out: [`Self::redacted`] has them.
///
/// It is about the runtime and nothing else; what fails on this machine has errors of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuntimeError {
    /// The socket is not there, or the connection broke: whether the call was done is not known.
    #[error("container runtime is down")]
    Unreachable(Foreign),
    /// It took longer than it may, by the runtime's clock or by ours.
    #[error("rpc error: code = DeadlineExceeded")]
    TimedOut(Foreign),
    /// What the call was about does not exist.
    #[error("rpc error: code = NotFound")]
    NotFound(Foreign),
    /// The runtime refused or failed, in upstream's form of a gRPC error.
    #[error("rpc error: code = {code:?}")]
    Failed { code: Code, message: Foreign },
}

impl From<Status> for RuntimeError {
    fn from(status: Status) -> Self {
        let message = Foreign::from(status.message());
        // What the runtime returns has no source: a status with one was made here, of a connection
        // that broke or a time that ran out.
        match status.code() {
            Code::DeadlineExceeded => Self::TimedOut(message),
            _ if has_source::<tonic::TimeoutExpired>(&status) => Self::TimedOut(message),
            _ if status.source().is_some() => Self::Unreachable(message),
            Code::NotFound => Self::NotFound(message),
            code => Self::Failed { code, message },
        }
    }
}

impl RuntimeError {
    /// Whether the runtime cannot be reached, whatever it is asked.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// Whether the other side does not know what it is asked, and never will.
    pub(crate) fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Failed { code: Code::Unimplemented, .. })
    }

    /// The whole error as upstream prints it, with the runtime's words as `redact` gives them.
    pub(crate) fn redacted_by(&self, redact: impl FnOnce(&Foreign) -> String) -> String {
        match self {
            Self::Unreachable(words) => format!("{self}: {}", redact(words)),
            Self::TimedOut(words) | Self::NotFound(words) | Self::Failed { message: words, .. } => {
                format!("{self} desc = {}", redact(words))
            }
        }
    }

    /// The whole error, redacted.
    pub(crate) fn redacted(&self, redactor: &Redactor) -> String {
        self.redacted_by(|words| redactor.redact(words))
    }
}

/// What the runtime calls itself.
pub(crate) struct RuntimeVersion {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// What the runtime says of itself.
pub(crate) struct RuntimeCondition {
    pub(crate) name: String,
    pub(crate) is_true: bool,
    pub(crate) why: Foreign,
}

/// An image that is on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) id: String,
    pub(crate) size_bytes: u64,
    /// Who runs in it where the pod does not say: a number, or a name.
    pub(crate) uid: Option<i64>,
    pub(crate) user_name: String,
}

/// An image that is on this machine, and what it is called.
pub(crate) struct Present {
    pub(crate) id: String,
    /// Its tags and digests.
    pub(crate) names: Vec<String>,
}

/// How a command in a container ended.
pub(crate) struct ExecOutcome {
    pub(crate) exit_code: i32,
    /// Both of its outputs.
    pub(crate) output: Foreign,
}

/// A connection to the runtime; clones share it. It connects when it is used, and again when the
/// runtime was restarted.
#[derive(Clone)]
pub(crate) struct Runtime {
    channel: Channel,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    /// Sandboxes and containers carry it as a label: several nodes may share one runtime.
    node: Arc<str>,
    seen: relist::PodFingerprints,
}

/// The socket's path from an endpoint, with or without `unix://`.
pub(crate) fn socket_path(endpoint: &str) -> Option<PathBuf> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    path.starts_with('/').then(|| PathBuf::from(path))
}

impl Runtime {
    pub(crate) fn new(socket: &Path, node: &str) -> Self {
        let socket: Arc<Path> = socket.into();
        // The name is for the protocol only; the connector goes to the socket.
        let connector = tower::service_fn(move |_: http::Uri| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(&*socket).await.map(TokioIo::new) }
        });
        let channel =
            Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
        Self {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            images: ImageServiceClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            channel,
            node: node.into(),
            seen: relist::PodFingerprints::default(),
        }
    }

    pub(crate) async fn version(&self) -> Result<RuntimeVersion, RuntimeError> {
        let ask = cri::VersionRequest { version: "v1".to_owned() };
        let answer = self.runtime.clone().version(call(ask)).await?.into_inner();
        Ok(RuntimeVersion { name: answer.runtime_name, version: answer.runtime_version })
    }

    /// The runtime's conditions, `RuntimeReady` and `NetworkReady` among them.
    pub(crate) async fn conditions(&self) -> Result<Vec<RuntimeCondition>, RuntimeError> {
        let ask = cri::StatusRequest { verbose: false };
        let answer = self.runtime.clone().status(call(ask)).await?.into_inner();
        let conditions = answer.status.map(|status| status.conditions).unwrap_or_default();
        let condition = |found: cri::RuntimeCondition| RuntimeCondition {
            name: found.r#type,
            is_true: found.status,
            why: format!("reason:{} message:{}", found.reason, found.message).into(),
        };
        Ok(conditions.into_iter().map(condition).collect())
    }

    pub(crate) async fn run_sandbox(
        &self,
        config: cri::PodSandboxConfig,
        handler: &str,
    ) -> Result<String, RuntimeError> {
        let ask =
            cri::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
        // Twice the usual time, as upstream: the network plugin takes part.
        let answer = self.runtime.clone().run_pod_sandbox(timed(ask, CALL_TIMEOUT * 2)).await?;
        Ok(answer.into_inner().pod_sandbox_id)
    }

    /// Stops a sandbox and what runs in it; one that no longer exists counts as stopped.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let ask = cri::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        absent_is_fine(self.runtime.clone().stop_pod_sandbox(call(ask)).await)
    }

    /// Removes a sandbox with its containers.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let ask = cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let mut removal = self.runtime.clone().remove_pod_sandbox(call(ask.clone())).await;
        if stray_task::unblocks(&self.channel, id, &removal).await {
            removal = self.runtime.clone().remove_pod_sandbox(call(ask)).await;
        }
        absent_is_fine(removal)
    }

    pub(crate) async fn create_container(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String, RuntimeError> {
        let ask = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(self.runtime.clone().create_container(call(ask)).await?.into_inner().container_id)
    }

    pub(crate) async fn start_container(&self, id: &str) -> Result<(), RuntimeError> {
        let ask = cri::StartContainerRequest { container_id: id.to_owned() };
        self.runtime.clone().start_container(call(ask)).await?;
        Ok(())
    }

    /// Ends a container: its stop signal, and after the grace period SIGKILL.
    pub(crate) async fn stop_container(
        &self,
        id: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        // Runtimes count in nanoseconds of 64 bits.
        let grace = grace.min(STOP_TIMEOUT_MAX);
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let ask = cri::StopContainerRequest { container_id: id.to_owned(), timeout };
        let limit = grace.saturating_add(CALL_TIMEOUT);
        absent_is_fine(self.runtime.clone().stop_container(timed(ask, limit)).await)
    }

    /// Has a container write into a new log file, the old one having been moved away.
    pub(crate) async fn reopen_log(&self, id: &str) -> Result<(), RuntimeError> {
        let ask = cri::ReopenContainerLogRequest { container_id: id.to_owned() };
        self.runtime.clone().reopen_container_log(call(ask)).await?;
        Ok(())
    }

    /// Ends what still runs in containers and sandboxes that have ended as far as the runtime
    /// knows; see [`remains`].
    pub(crate) async fn end_remains(&self, ids: Vec<String>) -> std::io::Result<()> {
        let ended = tokio::task::spawn_blocking(move || remains::end(&ids)).await;
        ended.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        let ask = cri::RemoveContainerRequest { container_id: id.to_owned() };
        let mut removal = self.runtime.clone().remove_container(call(ask.clone())).await;
        if stray_task::unblocks(&self.channel, id, &removal).await {
            removal = self.runtime.clone().remove_container(call(ask)).await;
        }
        absent_is_fine(removal)
    }

    /// Runs a command in a container and waits for its end, or for the time to be over.
    pub(crate) async fn exec_sync(
        &self,
        container: &str,
        cmd: Vec<String>,
        limit: Duration,
    ) -> Result<ExecOutcome, RuntimeError> {
        let timeout = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX).max(1);
        let ask = cri::ExecSyncRequest { container_id: container.to_owned(), cmd, timeout };
        // The runtime keeps the time; this is for a runtime that does not answer.
        let limit = limit.saturating_add(CALL_TIMEOUT);
        let answer = self.runtime.clone().exec_sync(timed(ask, limit)).await?.into_inner();
        let mut output = answer.stdout;
        output.extend(answer.stderr);
        Ok(ExecOutcome { exit_code: answer.exit_code, output: Foreign::new(output) })
    }

    /// The streaming URL for an exec.
    pub(crate) async fn exec(&self, ask: cri::ExecRequest) -> Result<String, RuntimeError> {
        Ok(self.runtime.clone().exec(call(ask)).await?.into_inner().url)
    }

    /// The streaming URL for an attach.
    pub(crate) async fn attach(&self, ask: cri::AttachRequest) -> Result<String, RuntimeError> {
        Ok(self.runtime.clone().attach(call(ask)).await?.into_inner().url)
    }

    /// The streaming URL for port forwarding.
    pub(crate) async fn port_forward(
        &self,
        sandbox: &str,
        port: Vec<i32>,
    ) -> Result<String, RuntimeError> {
        let ask = cri::PortForwardRequest { pod_sandbox_id: sandbox.to_owned(), port };
        Ok(self.runtime.clone().port_forward(call(ask)).await?.into_inner().url)
    }

    /// Whether an image is here.
    pub(crate) async fn image(&self, name: &str) -> Result<Option<Image>, RuntimeError> {
        let ask = cri::ImageStatusRequest { image: Some(image_spec(name)), verbose: false };
        let answer = self.images.clone().image_status(call(ask)).await?.into_inner();
        Ok(answer.image.map(|image| Image {
            id: image.id,
            size_bytes: image.size,
            uid: image.uid.map(|uid| uid.value),
            user_name: image.username,
        }))
    }

    /// The images that are here, each with its tags and digests.
    pub(crate) async fn images(&self) -> Result<Vec<Present>, RuntimeError> {
        let ask = cri::ListImagesRequest { filter: None };
        let answer = self.images.clone().list_images(call(ask)).await?.into_inner();
        let present = |image: cri::Image| {
            let mut names = image.repo_tags;
            names.extend(image.repo_digests);
            Present { id: image.id, names }
        };
        Ok(answer.images.into_iter().map(present).collect())
    }

    /// Pulls an image, with a credential or anonymously, and returns the runtime's reference.
    pub(crate) async fn pull_image(
        &self,
        name: &str,
        auth: Option<cri::AuthConfig>,
    ) -> Result<String, RuntimeError> {
        let ask =
            cri::PullImageRequest { image: Some(image_spec(name)), auth, sandbox_config: None };
        Ok(self.images.clone().pull_image(timed(ask, PULL_TIMEOUT)).await?.into_inner().image_ref)
    }
}

/// Whether an error is made of one of this type.
fn has_source<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<E>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn image_spec(name: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: name.to_owned(), ..Default::default() }
}

fn call<T>(message: T) -> Request<T> {
    timed(message, CALL_TIMEOUT)
}

fn timed<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    // gRPC writes at most eight digits; a day is as good as for ever.
    request.set_timeout(limit.min(Duration::from_secs(24 * 60 * 60)));
    request
}

fn absent_is_fine<T>(result: Result<tonic::Response<T>, Status>) -> Result<(), RuntimeError> {
    match result.map_err(RuntimeError::from) {
        Ok(_) | Err(RuntimeError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_socket_with_or_without_its_scheme() {
        let expected = Some(PathBuf::from("/run/containerd/containerd.sock"));
        assert_eq!(socket_path("unix:///run/containerd/containerd.sock"), expected);
        assert_eq!(socket_path("/run/containerd/containerd.sock"), expected);
        assert_eq!(socket_path("tcp://127.0.0.1:1"), None);
        assert_eq!(socket_path("unix://relative"), None);
    }

    #[tokio::test]
    async fn the_runtime_is_down_only_where_it_cannot_be_reached() {
        let runtime = Runtime::new(Path::new("/nosuch"), "node");
        let error = runtime.version().await.err().expect("no runtime");
        assert!(error.is_outage(), "{error:?}");
        // A plugin of the runtime may not be there yet; the runtime is, since it responds.
        let answered = RuntimeError::from(Status::unavailable("network plugin not ready"));
        assert!(!answered.is_outage());
        let told = answered.redacted(&Redactor::without_values());
        assert_eq!(told, "rpc error: code = Unavailable desc = network plugin not ready");
        let late = RuntimeError::from(Status::from_error(Box::new(tonic::TimeoutExpired(()))));
        assert!(matches!(late, RuntimeError::TimedOut(_)), "{late:?}");
        let late = RuntimeError::from(Status::deadline_exceeded("timeout 1s exceeded"));
        assert!(matches!(late, RuntimeError::TimedOut(_)), "{late:?}");
    }

    #[test]
    fn errors_read_as_upstream_writes_them() {
        let error = RuntimeError::from(Status::unknown("failed to pull"));
        let told = error.redacted(&Redactor::without_values());
        assert_eq!(told, "rpc error: code = Unknown desc = failed to pull");
        assert_eq!(error.to_string(), "rpc error: code = Unknown");
    }
}
