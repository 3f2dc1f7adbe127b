//! The few CRI calls for starting and stopping a runtime. The kubelet has its own client.

use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    ContainerFilter, ImageSpec, ImageStatusRequest, ListContainersRequest, ListPodSandboxRequest,
    RemovePodSandboxRequest, StatusRequest, StopContainerRequest, StopPodSandboxRequest,
};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::error::Error;

/// A connection to a CRI socket.
#[derive(Clone, Debug)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Cri {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// When nothing listens there.
    pub async fn connect(path: &Path) -> Result<Self, Error> {
        let path: PathBuf = path.to_owned();
        // The URI is never dialled: the connector goes to the socket.
        let channel = Endpoint::from_static("http://containerd")
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }))
            .await
            .map_err(|error| Error::Cri { call: "connect", message: root_cause(&error) })?;
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel),
        })
    }

    /// `None` if runtime and network are ready, otherwise which of them is not and why.
    ///
    /// # Errors
    /// When the runtime returns an error.
    pub async fn unready(&mut self) -> Result<Option<String>, Error> {
        let response = self
            .runtime
            .status(StatusRequest { verbose: false })
            .await
            .map_err(refused("Status"))?
            .into_inner();
        let conditions = response.status.unwrap_or_default().conditions;
        let unmet = conditions.into_iter().find(|condition| !condition.status);
        Ok(unmet.map(|unmet| format!("{}: {}", unmet.r#type, unmet.message)))
    }

    /// Whether the runtime has an image of this name.
    ///
    /// # Errors
    /// When the runtime returns an error.
    pub async fn has_image(&mut self, reference: &str) -> Result<bool, Error> {
        let image = ImageSpec { image: reference.to_owned(), ..ImageSpec::default() };
        let response = self
            .images
            .image_status(ImageStatusRequest { image: Some(image), verbose: false })
            .await
            .map_err(refused("ImageStatus"))?;
        Ok(response.into_inner().image.is_some())
    }

    /// The ids of all sandboxes, running or not.
    ///
    /// # Errors
    /// When the runtime returns an error.
    pub async fn sandboxes(&mut self) -> Result<Vec<String>, Error> {
        let response = self
            .runtime
            .list_pod_sandbox(ListPodSandboxRequest { filter: None })
            .await
            .map_err(refused("ListPodSandbox"))?;
        Ok(response.into_inner().items.into_iter().map(|sandbox| sandbox.id).collect())
    }

    /// Stops one pod: its containers get `grace_s` seconds after SIGTERM, then the pod sandbox is removed with
    /// its containers, network and namespaces.
    ///
    /// # Errors
    /// When the runtime returns an error; what was stopped before stays stopped.
    pub async fn stop_sandbox(&mut self, id: &str, grace_s: i64) -> Result<(), Error> {
        let filter =
            ContainerFilter { pod_sandbox_id: id.to_owned(), ..ContainerFilter::default() };
        let containers = self
            .runtime
            .list_containers(ListContainersRequest { filter: Some(filter) })
            .await
            .map_err(refused("ListContainers"))?
            .into_inner()
            .containers;
        let mut stops = tokio::task::JoinSet::new();
        for container in containers {
            let mut runtime = self.runtime.clone();
            let request = StopContainerRequest { container_id: container.id, timeout: grace_s };
            stops.spawn(async move { runtime.stop_container(request).await });
        }
        // What does not stop is killed with its sandbox.
        while stops.join_next().await.is_some() {}
        let pod_sandbox_id = id.to_owned();
        self.runtime
            .stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() })
            .await
            .map_err(refused("StopPodSandbox"))?;
        self.runtime
            .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id })
            .await
            .map_err(refused("RemovePodSandbox"))?;
        Ok(())
    }
}

fn refused(call: &'static str) -> impl FnOnce(tonic::Status) -> Error {
    move |status| Error::Cri { call, message: status.message().to_owned() }
}

/// tonic's own text for every failure is `transport error`; the useful message is that of its source.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
