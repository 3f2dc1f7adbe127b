//! Tasks that containerd's CRI service has lost.
//!
//! A StartContainer whose caller ends at the wrong moment ("failed to get task pid: context canceled")
//! leaves the task that it made. The CRI service knows of none: StopContainer does nothing, and
//! RemoveContainer fails with "cannot delete running task" until containerd is restarted, though
//! [`super::remains`] has killed the process. containerd's own API, on the same socket, deletes it.

use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_prost::ProstCodec;

const DELETE: &str = "/containerd.services.tasks.v1.Tasks/Delete";
/// Where containerd reads the namespace of a call from, and the one that its CRI service works in.
const NAMESPACE: (&str, &str) = ("containerd-namespace", "k8s.io");

/// `containerd.services.tasks.v1.DeleteTaskRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct DeleteTaskRequest {
    #[prost(string, tag = "1")]
    container_id: String,
}

/// `containerd.services.tasks.v1.DeleteResponse`, of which nothing is used.
#[derive(Clone, PartialEq, prost::Message)]
struct DeleteResponse {}

/// Deletes the task of a container or sandbox if that may be what blocked its removal, and returns whether
/// it did, so that the removal is worth another call. The task must have ended: [`super::remains`].
///
/// False where there is no task, where it runs, and where the runtime is not containerd.
pub(super) async fn unblocks<T>(
    channel: &Channel,
    id: &str,
    removal: &Result<Response<T>, Status>,
) -> bool {
    let is_blocked = removal.as_ref().is_err_and(|it| it.code() == Code::FailedPrecondition);
    is_blocked && delete(channel.clone(), id).await.is_ok()
}

async fn delete(channel: Channel, id: &str) -> Result<(), Status> {
    let mut request = super::call(DeleteTaskRequest { container_id: id.to_owned() });
    request.metadata_mut().insert(NAMESPACE.0, MetadataValue::from_static(NAMESPACE.1));
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let codec = ProstCodec::<_, DeleteResponse>::default();
    client.unary(request, PathAndQuery::from_static(DELETE), codec).await.map(drop)
}
