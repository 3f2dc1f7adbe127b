//! The fields of a node's Lease that this controller reads. All Leases are listed every few seconds, so that
//! decoding one must cost little.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use crate::informer::Watched;
use crate::informer::metadata::identity;

/// The identity and the renewal time of a Lease.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct NodeLease {
    #[serde(deserialize_with = "identity")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Renewal,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Renewal {
    /// Only compared with the previous one and not parsed, because clocks of nodes may be wrong.
    renew_time: Option<String>,
}

impl NodeLease {
    /// The node's name.
    pub(super) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Whether it is in this namespace.
    pub(super) fn is_in(&self, namespace: &str) -> bool {
        self.metadata.namespace.as_deref() == Some(namespace)
    }

    /// When the holder last renewed it, by its own clock.
    pub(super) fn renew_time(&self) -> Option<&str> {
        self.spec.renew_time.as_deref()
    }
}

impl Watched for NodeLease {}

impl Resource for NodeLease {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Lease::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Lease::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Lease::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Lease::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
