//! Pods by bare CRI calls: what the container runtime itself needs, with no Kubernetes above it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// How long a sandbox gets to stop.
const STOP_TIMEOUT_S: i64 = 0;

/// A runtime.
pub(super) struct Cri {
    runtime: RuntimeServiceClient<Channel>,
}

/// How long each call took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calls {
    pub(super) sandbox: Duration,
    pub(super) create: Duration,
    pub(super) start: Duration,
    pub(super) end: Duration,
}

impl Cri {
    /// Connects to `unix:///…`.
    pub(super) async fn connect(endpoint: &str) -> Result<Self> {
        let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint).to_owned();
        // The URI is never dialled: the connector goes to the socket.
        let channel = Endpoint::from_static("http://cri")
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }))
            .await
            .with_context(|| format!("cannot reach a container runtime at {endpoint}"))?;
        Ok(Self { runtime: RuntimeServiceClient::new(channel) })
    }

    /// Runs a pod of one container, and removes it.
    pub(super) async fn pod(&mut self, name: &str, image: &str, logs: &Path) -> Result<Calls> {
        let sandbox_config = sandbox_config(name, logs);
        let start = Instant::now();
        let request = cri::RunPodSandboxRequest {
            config: Some(sandbox_config.clone()),
            ..Default::default()
        };
        let answer = self.runtime.run_pod_sandbox(request).await.map_err(refused("sandbox"))?;
        let (id, sandbox) = (answer.into_inner().pod_sandbox_id, start.elapsed());
        let started = self.container(&id, sandbox_config, image).await;
        let start = Instant::now();
        let ended = self.end(&id).await;
        let (create, started) = started?;
        ended?;
        Ok(Calls { sandbox, create, start: started, end: start.elapsed() })
    }

    async fn container(
        &mut self,
        sandbox: &str,
        sandbox_config: cri::PodSandboxConfig,
        image: &str,
    ) -> Result<(Duration, Duration)> {
        let begin = Instant::now();
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(container_config(image)),
            sandbox_config: Some(sandbox_config),
        };
        let answer = self.runtime.create_container(request).await.map_err(refused("container"))?;
        let created = begin.elapsed();
        let request = cri::StartContainerRequest { container_id: answer.into_inner().container_id };
        let begin = Instant::now();
        self.runtime.start_container(request).await.map_err(refused("start"))?;
        Ok((created, begin.elapsed()))
    }

    async fn end(&mut self, sandbox: &str) -> Result<()> {
        let filter =
            cri::ContainerFilter { pod_sandbox_id: sandbox.to_owned(), ..Default::default() };
        let request = cri::ListContainersRequest { filter: Some(filter) };
        let listed = self.runtime.list_containers(request).await.map_err(refused("list"))?;
        for container in listed.into_inner().containers {
            let request =
                cri::StopContainerRequest { container_id: container.id, timeout: STOP_TIMEOUT_S };
            self.runtime.stop_container(request).await.map_err(refused("stop"))?;
        }
        let pod_sandbox_id = sandbox.to_owned();
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        self.runtime.stop_pod_sandbox(request).await.map_err(refused("stop"))?;
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id };
        self.runtime.remove_pod_sandbox(request).await.map_err(refused("remove"))?;
        Ok(())
    }
}

fn sandbox_config(name: &str, logs: &Path) -> cri::PodSandboxConfig {
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: name.to_owned(),
            uid: name.to_owned(),
            namespace: "coffer-bench".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: logs.display().to_string(),
        linux: Some(cri::LinuxPodSandboxConfig::default()),
        ..Default::default()
    }
}

fn container_config(image: &str) -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
        image: Some(cri::ImageSpec { image: image.to_owned(), ..Default::default() }),
        command: vec!["sleep".to_owned(), "3600".to_owned()],
        log_path: "main.log".to_owned(),
        linux: Some(cri::LinuxContainerConfig::default()),
        ..Default::default()
    }
}

fn refused(call: &'static str) -> impl FnOnce(tonic::Status) -> anyhow::Error {
    move |status| anyhow!("the container runtime refused ({call}): {}", status.message())
}
