//! The kinds that controllers watch by their type, and what is kept of their objects.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{
    Namespace, Node, ReplicationController, ResourceQuota, ServiceAccount,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;
use serde::de::DeserializeOwned;

use super::trim;
use crate::pod::{Pod, SharedSpecs};

/// A kind that one informer watches for all controllers of the process.
pub(crate) trait Watched:
    Resource<DynamicType = (), Scope: 'static>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The field selector of the watch, where only some objects are needed.
    const FIELDS: Option<&'static str> = None;

    /// Returns the function that removes from each object what no controller reads. Objects are changed by
    /// patch, which keeps these fields on the server.
    fn trimmer() -> Box<dyn FnMut(&mut Self) + Send> {
        Box::new(|object| object.meta_mut().managed_fields = None)
    }
}

impl Watched for Namespace {}
impl Watched for Node {
    fn trimmer() -> Box<dyn FnMut(&mut Self) + Send> {
        Box::new(trim::node)
    }
}
impl Watched for Pod {
    fn trimmer() -> Box<dyn FnMut(&mut Self) + Send> {
        let mut specs = SharedSpecs::default();
        Box::new(move |pod| specs.share(pod))
    }
}
impl Watched for ReplicaSet {}
impl Watched for ReplicationController {}
impl Watched for Deployment {}
impl Watched for PodDisruptionBudget {}
impl Watched for ResourceQuota {}
impl Watched for ServiceAccount {}
impl Watched for CertificateSigningRequest {}
