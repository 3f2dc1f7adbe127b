//! The mirror pod: how a static pod is shown in the API.
//!
//! It is a copy of the static pod, marked by an annotation, which the kubelet makes again when
//! a client deletes it. No kubelet runs it: its annotation says that it runs already.

use coffer_api::reason::Reason;
use coffer_api::well_known::annotation;
use coffer_client::error::{has_reason, is_conflict, is_not_found};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};

use crate::pod::PodId;

/// Makes sure that there is a mirror of exactly this static pod, and says which it is.
///
/// What is there is looked at only where making it fails: a node may read the pods that are bound to
/// it, and may not ask for one that is not there.
pub(super) async fn ensure(client: &kube::Client, fixed: &Pod) -> kube::Result<Option<PodId>> {
    let namespace = fixed.metadata.namespace.as_deref().unwrap_or("default");
    let name = fixed.metadata.name.as_deref().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mirror = mirror(client, fixed).await?;
    match pods.create(&PostParams::default(), &mirror).await {
        Err(error) if has_reason(&error, &[Reason::AlreadyExists, Reason::Conflict]) => {}
        made => return made.map(|made| PodId::of(&made)),
    }
    let found = pods.get(name).await?;
    let marked = found.metadata.annotations.as_ref().and_then(|all| all.get(annotation::MIRROR));
    let is_current = marked == fixed.metadata.uid.as_ref();
    if is_current && found.metadata.deletion_timestamp.is_none() {
        return Ok(PodId::of(&found));
    }
    if marked.is_none() {
        // A client's pod has the name: the kubelet must not remove it.
        tracing::warn!(
            pod = name,
            namespace,
            "name conflict: a pod that is not a mirror pod exists"
        );
        return Ok(None);
    }
    remove(&pods, &found).await?;
    pods.create(&PostParams::default(), &mirror).await.map(|made| PodId::of(&made))
}

/// Removes a mirror from the API immediately: there is nothing behind it to wait for.
pub(crate) async fn remove(pods: &Api<Pod>, mirror: &Pod) -> kube::Result<()> {
    let name = mirror.metadata.name.as_deref().unwrap_or_default();
    let uid = mirror.metadata.uid.clone();
    let params = DeleteParams::default()
        .grace_period(0)
        .preconditions(Preconditions { uid, resource_version: None });
    match pods.delete(name, &params).await {
        Err(error) if is_not_found(&error) || is_conflict(&error) => {
            tracing::debug!(%error, "mirror pod is removed already");
            Ok(())
        }
        result => result.map(|_| ()),
    }
}

async fn mirror(client: &kube::Client, fixed: &Pod) -> kube::Result<Pod> {
    let mut mirror = fixed.clone();
    let hash = mirror.metadata.uid.take().unwrap_or_default();
    mirror.status = None;
    let annotations = mirror.metadata.annotations.get_or_insert_default();
    annotations.insert(annotation::MIRROR.to_owned(), hash);
    let node = mirror.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    // A node may make mirror pods only of itself, and says so by owning them.
    let owner = Api::<Node>::all(client.clone()).get(&node).await?;
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node,
        uid: owner.metadata.uid.unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    Ok(mirror)
}
