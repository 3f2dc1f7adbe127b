//! Objects of which only the identity, the owners and the finalizers are read.
//!
//! Events of kinds with many changes then cost little, and annotations of secrets, which count as payload,
//! are not read at all.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use serde::{Deserialize, Deserializer};

/// An object of a kind that is known only at run time.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Meta {
    /// Its identity, owners and finalizers only.
    #[serde(deserialize_with = "identity")]
    pub(crate) metadata: ObjectMeta,
}

impl Resource for Meta {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn metadata_api() -> bool {
        true
    }

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Reads an object's metadata without labels, annotations and managed fields.
pub(crate) fn identity<'de, D: Deserializer<'de>>(source: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Identity {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        deletion_timestamp: Option<Time>,
        owner_references: Option<Vec<OwnerReference>>,
        finalizers: Option<Vec<String>>,
    }
    let read = Identity::deserialize(source)?;
    Ok(ObjectMeta {
        name: read.name,
        namespace: read.namespace,
        uid: read.uid,
        resource_version: read.resource_version,
        deletion_timestamp: read.deletion_timestamp,
        owner_references: read.owner_references,
        finalizers: read.finalizers,
        ..ObjectMeta::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_identity_of_an_object_is_read() {
        let text = json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": { "name": "s", "namespace": "ns", "uid": "u", "resourceVersion": "7",
                "annotations": { "a": "hunter2" }, "labels": { "l": "v" },
                "managedFields": [{ "manager": "m", "fieldsV1": { "f:a": {} } }],
                "finalizers": ["f"], "deletionTimestamp": "2026-01-01T00:00:00Z",
                "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "o" }] } })
        .to_string();
        let meta = serde_json::from_str::<Meta>(&text).expect("metadata").metadata;
        assert_eq!((meta.annotations, meta.labels, meta.managed_fields), (None, None, None));
        assert_eq!(meta.uid.as_deref(), Some("u"));
        assert_eq!(meta.finalizers, Some(vec!["f".to_owned()]));
        assert_eq!(meta.owner_references.map(|all| all.len()), Some(1));
        assert!(meta.deletion_timestamp.is_some());
    }
}
