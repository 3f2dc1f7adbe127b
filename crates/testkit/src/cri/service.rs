//! CRI's two services, on the state.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream;
use k8s_cri::v1 as cri;
use k8s_cri::v1::image_service_server::{ImageService, ImageServiceServer};
use k8s_cri::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use tonic::{Code, Request as Ask, Response, Status};

use super::Shared;
use super::call::{Call, Recorded, Request};
use super::state::{Container, Exit, Sandbox, now_ns};

/// The signal that ends what does not end by itself.
const KILLED: i32 = 137;

#[derive(Clone)]
pub(super) struct Service(Shared);

type Reply<T> = Result<Response<T>, Status>;

/// Serves both services on the socket until dropped.
pub(super) async fn serve(listener: UnixListener, service: Service) {
    let listener = tokio::net::UnixListener::from_std(listener).expect("it does not block");
    let incoming = stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let served = tonic::transport::Server::builder()
        .add_service(RuntimeServiceServer::new(service.clone()))
        .add_service(ImageServiceServer::new(service))
        .serve_with_incoming(incoming);
    served.await.expect("the socket works");
}

impl Service {
    pub(super) fn new(shared: Shared) -> Self {
        Self(shared)
    }

    /// Records a call and lets it through, or fails it as the script says.
    async fn take(
        &self,
        call: Call,
        about: String,
        id: &str,
        request: Request,
    ) -> Result<Recorded, Status> {
        let recorded = Recorded { call, about, id: id.to_owned(), request };
        if !call.is_query() {
            self.0.change(|state| state.record(recorded.clone()));
        }
        self.0.script.judge(call, &recorded.about).await?;
        Ok(recorded)
    }

    async fn query(&self, call: Call) -> Result<(), Status> {
        self.take(call, String::new(), "", Request::Plain).await.map(drop)
    }

    async fn about_sandbox(&self, call: Call, id: &str) -> Result<(), Status> {
        let about = self.0.state().pod_of(id);
        self.take(call, about, id, Request::Plain).await.map(drop)
    }

    async fn about_container(
        &self,
        call: Call,
        id: &str,
        request: Request,
    ) -> Result<Recorded, Status> {
        let about = self.0.state().path_of(id);
        self.take(call, about, id, request).await
    }
}

fn no_container(id: &str) -> Status {
    let message = format!("an error occurred when try to find container {id:?}: not found");
    Status::new(Code::NotFound, message)
}

fn no_sandbox(id: &str) -> Status {
    let message = format!("an error occurred when try to find sandbox {id:?}: not found");
    Status::new(Code::NotFound, message)
}

fn matches(
    wanted: &std::collections::HashMap<String, String>,
    labels: &std::collections::HashMap<String, String>,
) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn listed_sandbox(sandbox: &Sandbox) -> cri::PodSandbox {
    cri::PodSandbox {
        id: sandbox.id.clone(),
        metadata: sandbox.config.metadata.clone(),
        state: sandbox_state(sandbox),
        created_at: sandbox.created_at_ns,
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
        runtime_handler: sandbox.handler.clone(),
    }
}

fn sandbox_state(sandbox: &Sandbox) -> i32 {
    let ready = cri::PodSandboxState::SandboxReady;
    (if sandbox.ready { ready } else { cri::PodSandboxState::SandboxNotready }) as i32
}

fn listed_container(container: &Container) -> cri::Container {
    cri::Container {
        id: container.id.clone(),
        pod_sandbox_id: container.sandbox.clone(),
        metadata: container.config.metadata.clone(),
        image: container.config.image.clone(),
        state: container.state as i32,
        created_at: container.created_at_ns,
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
        ..Default::default()
    }
}

fn container_status(container: &Container) -> cri::ContainerStatus {
    let image = container.config.image.clone();
    cri::ContainerStatus {
        id: container.id.clone(),
        metadata: container.config.metadata.clone(),
        state: container.state as i32,
        created_at: container.created_at_ns,
        started_at: container.started_at_ns,
        finished_at: container.finished_at_ns,
        exit_code: container.exit.code,
        image_ref: image.as_ref().map(|image| image.image.clone()).unwrap_or_default(),
        image,
        reason: container.exit.reason.clone(),
        message: container.exit.message.clone(),
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
        mounts: container.config.mounts.clone(),
        log_path: container.log_path.clone(),
        ..Default::default()
    }
}

/// Methods that no kubelet of ours calls; as `async_trait` writes them, which does not see into macros.
macro_rules! unimplemented_calls {
    ($($name:ident: $ask:ident => $reply:ident;)*) => {
        $(fn $name<'s, 'f>(&'s self, _: Ask<cri::$ask>) -> BoxFuture<'f, Reply<cri::$reply>>
        where
            's: 'f,
            Self: 'f,
        {
            Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
        })*
    };
}

#[tonic::async_trait]
impl RuntimeService for Service {
    type GetContainerEventsStream = stream::Empty<Result<cri::ContainerEventResponse, Status>>;

    async fn version(&self, _: Ask<cri::VersionRequest>) -> Reply<cri::VersionResponse> {
        self.query(Call::Version).await?;
        Ok(Response::new(cri::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "fake".to_owned(),
            runtime_version: "1.0.0".to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    async fn status(&self, _: Ask<cri::StatusRequest>) -> Reply<cri::StatusResponse> {
        self.query(Call::Status).await?;
        let conditions = self.0.state().conditions.clone();
        let status = Some(cri::RuntimeStatus { conditions });
        Ok(Response::new(cri::StatusResponse { status, ..Default::default() }))
    }

    async fn run_pod_sandbox(
        &self,
        ask: Ask<cri::RunPodSandboxRequest>,
    ) -> Reply<cri::RunPodSandboxResponse> {
        let ask = ask.into_inner();
        let config = ask.config.clone().unwrap_or_default();
        let pod = config.metadata.as_ref().map_or("", |meta| &meta.name).to_owned();
        let handler = ask.runtime_handler.clone();
        let request = Request::RunPodSandbox(Box::new(ask));
        self.take(Call::RunPodSandbox, pod, "", request).await?;
        let id = self.0.change(|state| {
            let taken =
                state.sandboxes.values().find(|found| found.config.metadata == config.metadata);
            if let Some(taken) = taken {
                return Err(Status::unknown(format!(
                    "failed to reserve sandbox name: name is reserved for {:?}",
                    taken.id
                )));
            }
            let id = state.new_id();
            let ip = state.new_ip();
            let created_at_ns = now_ns();
            let sandbox =
                Sandbox { id: id.clone(), config, handler, ready: true, ip, created_at_ns };
            state.sandboxes.insert(id.clone(), sandbox);
            Ok(id)
        })?;
        Ok(Response::new(cri::RunPodSandboxResponse { pod_sandbox_id: id }))
    }

    async fn stop_pod_sandbox(
        &self,
        ask: Ask<cri::StopPodSandboxRequest>,
    ) -> Reply<cri::StopPodSandboxResponse> {
        let id = ask.into_inner().pod_sandbox_id;
        self.about_sandbox(Call::StopPodSandbox, &id).await?;
        self.0.change(|state| state.stop_sandbox(&id));
        Ok(Response::new(cri::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        ask: Ask<cri::RemovePodSandboxRequest>,
    ) -> Reply<cri::RemovePodSandboxResponse> {
        let id = ask.into_inner().pod_sandbox_id;
        self.about_sandbox(Call::RemovePodSandbox, &id).await?;
        self.0.change(|state| {
            state.stop_sandbox(&id);
            state.containers.retain(|_, container| container.sandbox != id);
            state.sandboxes.remove(&id);
        });
        Ok(Response::new(cri::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        ask: Ask<cri::PodSandboxStatusRequest>,
    ) -> Reply<cri::PodSandboxStatusResponse> {
        let id = ask.into_inner().pod_sandbox_id;
        self.about_sandbox(Call::PodSandboxStatus, &id).await?;
        let state = self.0.state();
        let sandbox = state.sandboxes.get(&id).ok_or_else(|| no_sandbox(&id))?;
        let ip = sandbox.ip.clone();
        let status = cri::PodSandboxStatus {
            id: id.clone(),
            metadata: sandbox.config.metadata.clone(),
            state: sandbox_state(sandbox),
            created_at: sandbox.created_at_ns,
            network: Some(cri::PodSandboxNetworkStatus { ip, additional_ips: Vec::new() }),
            linux: None,
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
            runtime_handler: sandbox.handler.clone(),
        };
        let status = Some(status);
        Ok(Response::new(cri::PodSandboxStatusResponse { status, ..Default::default() }))
    }

    async fn list_pod_sandbox(
        &self,
        ask: Ask<cri::ListPodSandboxRequest>,
    ) -> Reply<cri::ListPodSandboxResponse> {
        self.query(Call::ListPodSandbox).await?;
        let wanted = ask.into_inner().filter.unwrap_or_default().label_selector;
        let state = self.0.state();
        let found = state.sandboxes.values().filter(|it| matches(&wanted, &it.config.labels));
        let items = found.map(listed_sandbox).collect();
        Ok(Response::new(cri::ListPodSandboxResponse { items }))
    }

    async fn create_container(
        &self,
        ask: Ask<cri::CreateContainerRequest>,
    ) -> Reply<cri::CreateContainerResponse> {
        let ask = ask.into_inner();
        let (sandbox, config) =
            (ask.pod_sandbox_id.clone(), ask.config.clone().unwrap_or_default());
        let logs = ask.sandbox_config.as_ref().map_or("", |config| &config.log_directory);
        let log_path = format!("{logs}/{}", config.log_path);
        let name = config.metadata.as_ref().map_or("", |meta| &meta.name);
        let about = format!("{}/{name}", self.0.state().pod_of(&sandbox));
        let request = Request::CreateContainer(Box::new(ask));
        self.take(Call::CreateContainer, about, "", request).await?;
        let id = self.0.change(|state| {
            if !state.sandboxes.get(&sandbox).is_some_and(|found| found.ready) {
                return Err(no_sandbox(&sandbox));
            }
            let taken = state
                .containers
                .values()
                .any(|it| it.sandbox == sandbox && it.config.metadata == config.metadata);
            if taken {
                return Err(Status::unknown("failed to reserve container name"));
            }
            let id = state.new_id();
            let container = Container {
                id: id.clone(),
                sandbox,
                config,
                state: cri::ContainerState::ContainerCreated,
                exit: Exit::default(),
                log_path,
                created_at_ns: now_ns(),
                started_at_ns: 0,
                finished_at_ns: 0,
            };
            state.containers.insert(id.clone(), container);
            Ok(id)
        })?;
        Ok(Response::new(cri::CreateContainerResponse { container_id: id }))
    }

    async fn start_container(
        &self,
        ask: Ask<cri::StartContainerRequest>,
    ) -> Reply<cri::StartContainerResponse> {
        let id = ask.into_inner().container_id;
        let recorded = self.about_container(Call::StartContainer, &id, Request::Plain).await?;
        let container =
            self.0.state().containers.get(&id).cloned().ok_or_else(|| no_container(&id))?;
        let on_start = self.0.on_start.clone();
        if let Some(observe) = &*on_start.lock() {
            observe(&recorded, &container);
        }
        self.0.change(|state| {
            let container = state.containers.get_mut(&id).ok_or_else(|| no_container(&id))?;
            if container.state != cri::ContainerState::ContainerCreated {
                return Err(Status::unknown("container is not in created state"));
            }
            // As real ones do; where it cannot be written nothing is logged.
            let _ = std::fs::File::create(&container.log_path);
            container.state = cri::ContainerState::ContainerRunning;
            container.started_at_ns = now_ns();
            Ok(())
        })?;
        Ok(Response::new(cri::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        ask: Ask<cri::StopContainerRequest>,
    ) -> Reply<cri::StopContainerResponse> {
        let cri::StopContainerRequest { container_id: id, timeout } = ask.into_inner();
        let grace = Duration::from_secs(u64::try_from(timeout).unwrap_or_default());
        let request = Request::StopContainer { grace };
        let recorded = self.about_container(Call::StopContainer, &id, request).await?;
        let is_stubborn = self.0.state().stubborn.contains(&recorded.about);
        if is_stubborn {
            tokio::time::sleep(grace).await;
        }
        self.0.change(|state| {
            let container = state.containers.get_mut(&id).ok_or_else(|| no_container(&id))?;
            container.finish(Exit::code(if is_stubborn { KILLED } else { 0 }));
            Ok::<_, Status>(())
        })?;
        Ok(Response::new(cri::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        ask: Ask<cri::RemoveContainerRequest>,
    ) -> Reply<cri::RemoveContainerResponse> {
        let id = ask.into_inner().container_id;
        self.about_container(Call::RemoveContainer, &id, Request::Plain).await?;
        self.0.change(|state| state.containers.remove(&id));
        Ok(Response::new(cri::RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        ask: Ask<cri::ListContainersRequest>,
    ) -> Reply<cri::ListContainersResponse> {
        self.query(Call::ListContainers).await?;
        let wanted = ask.into_inner().filter.unwrap_or_default().label_selector;
        let state = self.0.state();
        let found = state.containers.values().filter(|it| matches(&wanted, &it.config.labels));
        let containers = found.map(listed_container).collect();
        Ok(Response::new(cri::ListContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        ask: Ask<cri::ContainerStatusRequest>,
    ) -> Reply<cri::ContainerStatusResponse> {
        let id = ask.into_inner().container_id;
        self.about_container(Call::ContainerStatus, &id, Request::Plain).await?;
        let state = self.0.state();
        let container = state.containers.get(&id).ok_or_else(|| no_container(&id))?;
        let status = Some(container_status(container));
        Ok(Response::new(cri::ContainerStatusResponse { status, ..Default::default() }))
    }

    async fn reopen_container_log(
        &self,
        ask: Ask<cri::ReopenContainerLogRequest>,
    ) -> Reply<cri::ReopenContainerLogResponse> {
        let id = ask.into_inner().container_id;
        self.about_container(Call::ReopenContainerLog, &id, Request::Plain).await?;
        let state = self.0.state();
        let container = state.containers.get(&id).ok_or_else(|| no_container(&id))?;
        std::fs::File::create(&container.log_path)?;
        Ok(Response::new(cri::ReopenContainerLogResponse {}))
    }

    async fn exec_sync(&self, ask: Ask<cri::ExecSyncRequest>) -> Reply<cri::ExecSyncResponse> {
        let cri::ExecSyncRequest { container_id: id, cmd, .. } = ask.into_inner();
        let request = Request::ExecSync { command: cmd };
        let recorded = self.about_container(Call::ExecSync, &id, request).await?;
        let (exit_code, output) =
            self.0.state().exec.get(&recorded.about).cloned().unwrap_or_default();
        let stdout = output.into_bytes();
        Ok(Response::new(cri::ExecSyncResponse { stdout, stderr: Vec::new(), exit_code }))
    }

    async fn get_container_events(
        &self,
        _: Ask<cri::GetEventsRequest>,
    ) -> Reply<Self::GetContainerEventsStream> {
        Err(Status::unimplemented("get_container_events"))
    }

    unimplemented_calls! {
        update_container_resources:
            UpdateContainerResourcesRequest => UpdateContainerResourcesResponse;
        exec: ExecRequest => ExecResponse;
        attach: AttachRequest => AttachResponse;
        port_forward: PortForwardRequest => PortForwardResponse;
        container_stats: ContainerStatsRequest => ContainerStatsResponse;
        list_container_stats: ListContainerStatsRequest => ListContainerStatsResponse;
        pod_sandbox_stats: PodSandboxStatsRequest => PodSandboxStatsResponse;
        list_pod_sandbox_stats: ListPodSandboxStatsRequest => ListPodSandboxStatsResponse;
        update_runtime_config: UpdateRuntimeConfigRequest => UpdateRuntimeConfigResponse;
        checkpoint_container: CheckpointContainerRequest => CheckpointContainerResponse;
        list_metric_descriptors: ListMetricDescriptorsRequest => ListMetricDescriptorsResponse;
        list_pod_sandbox_metrics: ListPodSandboxMetricsRequest => ListPodSandboxMetricsResponse;
        runtime_config: RuntimeConfigRequest => RuntimeConfigResponse;
    }
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(&self, _: Ask<cri::ListImagesRequest>) -> Reply<cri::ListImagesResponse> {
        self.query(Call::ListImages).await?;
        let state = self.0.state();
        let images = state.images.iter().map(|(name, id)| image(name, id)).collect();
        Ok(Response::new(cri::ListImagesResponse { images }))
    }

    async fn image_status(
        &self,
        ask: Ask<cri::ImageStatusRequest>,
    ) -> Reply<cri::ImageStatusResponse> {
        let name = ask.into_inner().image.unwrap_or_default().image;
        self.take(Call::ImageStatus, name.clone(), "", Request::Plain).await?;
        let found = self.0.state().image_id(&name).map(|id| image(&name, &id));
        Ok(Response::new(cri::ImageStatusResponse { image: found, ..Default::default() }))
    }

    async fn pull_image(&self, ask: Ask<cri::PullImageRequest>) -> Reply<cri::PullImageResponse> {
        let ask = ask.into_inner();
        let name = ask.image.unwrap_or_default().image;
        let request = Request::PullImage { image: name.clone(), auth: ask.auth };
        self.take(Call::PullImage, name.clone(), "", request).await?;
        let image_ref = self.0.change(|state| {
            if state.missing_images.contains(&name) {
                let message = format!(
                    "failed to pull and unpack image {name:?}: failed to resolve reference \
                     {name:?}: {name}: not found"
                );
                return Err(Status::not_found(message));
            }
            let id = format!("sha256:{}", state.new_id());
            Ok(state.images.entry(name).or_insert(id).clone())
        })?;
        Ok(Response::new(cri::PullImageResponse { image_ref }))
    }

    unimplemented_calls! {
        remove_image: RemoveImageRequest => RemoveImageResponse;
        image_fs_info: ImageFsInfoRequest => ImageFsInfoResponse;
    }
}

fn image(name: &str, id: &str) -> cri::Image {
    cri::Image {
        id: id.to_owned(),
        repo_tags: vec![name.to_owned()],
        size: 4096,
        uid: Some(cri::Int64Value { value: 0 }),
        ..Default::default()
    }
}
