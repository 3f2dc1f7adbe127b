//! NodeRestriction: what a node may write into the objects that it may write at all.
//!
//! The Node authorizer sees paths; this sees content. A node changes its own Node (and no label or
//! taint that would draw other workloads to it), its own Lease, the status of its own pods; it makes
//! mirror pods that refer to nothing. [`super::node_token`] decides on its tokens.

use std::collections::{BTreeMap, BTreeSet};

use coffer_api::equality::equal;
use coffer_api::kinds::Lease;
use coffer_api::kinds::pod::is_mirror;
use coffer_api::references::{self, ReferenceKind};
use coffer_api::status::{Failure, GroupResource};
use coffer_api::well_known::label;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

use crate::authz::Permit;
use crate::authz::node::LEASES;
use crate::authz::node::graph::MIRROR;
use crate::object::{Object, Resource, Resources};

/// The node that asks, if it is one.
///
/// # Errors
/// 403 for a node that does not say which.
pub(super) fn requesting_node<'a>(
    permit: &'a Permit,
    resource: GroupResource<'_>,
    name: &str,
) -> Result<Option<&'a str>, Failure> {
    let identity = permit.identity();
    match identity.node() {
        Some("") => {
            let why = format!("could not determine node from user {:?}", identity.user);
            Err(Failure::forbidden(resource, name, &why))
        }
        found => Ok(found),
    }
}

/// An object of a resource that is being written, for refusals.
pub(super) struct Subject<'a> {
    pub(super) resource: &'a Resource,
    pub(super) name: &'a str,
}

impl Subject<'_> {
    pub(super) fn refusal<T>(&self, why: impl AsRef<str>) -> Result<T, Failure> {
        Err(Failure::forbidden(self.resource.group_resource(), self.name, why.as_ref()))
    }
}

/// What of the things that a node may write at all is judged by its content.
enum Judged {
    Pod,
    Node,
    Lease,
}

impl Judged {
    fn of(resource: &Resource) -> Option<Self> {
        let kinds = [
            (resource.is::<Pod>(), Self::Pod),
            (resource.is::<Node>(), Self::Node),
            (resource.is::<Lease>(), Self::Lease),
        ];
        kinds.into_iter().find(|(is_it, _)| *is_it).map(|(_, judged)| judged)
    }
}

fn name_of(object: &dyn Object) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

/// A new object.
pub(super) fn create(
    resources: &Resources,
    permit: &Permit,
    resource: &Resource,
    object: &dyn Object,
) -> Result<(), Failure> {
    let name = name_of(object);
    let Some(node) = requesting_node(permit, resource.group_resource(), name)? else {
        return Ok(());
    };
    let subject = Subject { resource, name };
    match Judged::of(resource) {
        Some(Judged::Pod) => match object.pod() {
            Some(pod) => create_pod(resources, node, &subject, pod),
            None => subject.refusal("unexpected type"),
        },
        Some(Judged::Node) => {
            own_node(node, &subject)?;
            let labels = forbidden_labels(object.meta().labels.as_ref(), None);
            if labels.is_empty() {
                return Ok(());
            }
            subject.refusal(format!(
                "node {node:?} is not allowed to set the following labels: {labels}"
            ))
        }
        Some(Judged::Lease) => own_lease(node, &subject, object.meta()),
        None => Ok(()),
    }
}

/// An updated object, through the object itself or a subresource.
pub(super) fn update(
    permit: &Permit,
    resource: &Resource,
    object: &dyn Object,
    old: &dyn Object,
) -> Result<(), Failure> {
    let name = name_of(old);
    let Some(node) = requesting_node(permit, resource.group_resource(), name)? else {
        return Ok(());
    };
    let subject = Subject { resource, name };
    match Judged::of(resource) {
        // The authorizer allows a node to write the status only.
        Some(Judged::Pod) => pod_status(node, &subject, object, old),
        Some(Judged::Node) => {
            own_node(node, &subject)?;
            update_node(node, &subject, object, old)
        }
        Some(Judged::Lease) => own_lease(node, &subject, old.meta()),
        None => Ok(()),
    }
}

/// A deletion.
pub(super) fn delete(
    permit: &Permit,
    resource: &Resource,
    namespace: &str,
    name: &str,
) -> Result<(), Failure> {
    let Some(node) = requesting_node(permit, resource.group_resource(), name)? else {
        return Ok(());
    };
    let subject = Subject { resource, name };
    match Judged::of(resource) {
        Some(Judged::Pod) => {
            let pod: Pod = cached(resource, namespace, name)?;
            if node_of(&pod) == node {
                return Ok(());
            }
            subject.refusal(format!(
                "node {node:?} can only delete pods with spec.nodeName set to itself"
            ))
        }
        Some(Judged::Node) => own_node(node, &subject),
        Some(Judged::Lease) | None => Ok(()),
    }
}

pub(super) fn cached<T: DeserializeOwned>(
    resource: &Resource,
    namespace: &str,
    name: &str,
) -> Result<T, Failure> {
    let found = resource
        .shard()
        .get(&resource.key(namespace, name))
        .ok_or_else(|| Failure::not_found(resource.group_resource(), name))?;
    serde_json::from_slice(&found.bytes)
        .map_err(|_| Failure::internal("the stored object cannot be read"))
}

pub(super) fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn create_pod(
    resources: &Resources,
    node: &str,
    subject: &Subject<'_>,
    pod: &Pod,
) -> Result<(), Failure> {
    if !is_mirror(pod) {
        return subject.refusal(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if node_of(pod) != node {
        return subject.refusal(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    mirror_owner(resources, node, subject, pod)?;
    let Some(spec) = &pod.spec else { return Ok(()) };
    if let Some(found) = references::of(spec).first() {
        let what = match found.kind {
            ReferenceKind::ServiceAccount => "a service account",
            kind @ (ReferenceKind::Secret | ReferenceKind::ConfigMap) => kind.plural(),
        };
        return subject.refusal(format!("node {node:?} can not create pods that reference {what}"));
    }
    let claims = |volume: &k8s_openapi::api::core::v1::Volume| {
        volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
    };
    if spec.volumes.iter().flatten().any(claims) {
        return subject.refusal(format!(
            "node {node:?} can not create pods that reference persistentvolumeclaims"
        ));
    }
    Ok(())
}

/// A mirror pod belongs to its node, by an owner reference that says which node exactly.
fn mirror_owner(
    resources: &Resources,
    node: &str,
    subject: &Subject<'_>,
    pod: &Pod,
) -> Result<(), Failure> {
    let itself = "set to itself";
    let owner = match pod.metadata.owner_references.as_deref().unwrap_or_default() {
        [only] => only,
        [] => {
            return subject.refusal(format!(
                "node {node:?} can only create pods with an owner reference {itself}"
            ));
        }
        _ => {
            return subject.refusal(format!(
                "node {node:?} can only create pods with a single owner reference {itself}"
            ));
        }
    };
    if (owner.api_version.as_str(), owner.kind.as_str(), owner.name.as_str())
        != ("v1", "Node", node)
    {
        return subject.refusal(format!(
            "node {node:?} can only create pods with an owner reference {itself}"
        ));
    }
    if owner.controller != Some(true) {
        return subject.refusal(format!(
            "node {node:?} can only create pods with a controller owner reference {itself}"
        ));
    }
    if owner.block_owner_deletion == Some(true) {
        return subject.refusal(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let found: Node = cached(resources.of::<Node>(), "", node)?;
    let uid = found.metadata.uid.unwrap_or_default();
    if owner.uid != uid {
        return subject
            .refusal(format!("node {node} UID mismatch: expected {} got {uid}", owner.uid));
    }
    Ok(())
}

fn pod_status(
    node: &str,
    subject: &Subject<'_>,
    object: &dyn Object,
    old: &dyn Object,
) -> Result<(), Failure> {
    if old.pod().map(node_of) != Some(node) {
        return subject.refusal(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    let labels = |meta: &ObjectMeta| meta.labels.clone().unwrap_or_default();
    if labels(object.meta()) != labels(old.meta()) {
        return subject.refusal(format!("node {node:?} cannot update labels through pod status"));
    }
    Ok(())
}

fn own_node(node: &str, subject: &Subject<'_>) -> Result<(), Failure> {
    if subject.name == node {
        return Ok(());
    }
    subject.refusal(format!("node {node:?} is not allowed to modify node {:?}", subject.name))
}

fn update_node(
    node: &str,
    subject: &Subject<'_>,
    object: &dyn Object,
    old: &dyn Object,
) -> Result<(), Failure> {
    let spec = |object: &dyn Object| {
        object.of_kind::<Node>().and_then(|node| node.spec.clone()).unwrap_or_default()
    };
    let (new_spec, old_spec) = (spec(object), spec(old));
    let source = &new_spec.config_source;
    if source.is_some() && !equal(source, &old_spec.config_source) {
        return subject.refusal(format!(
            "node {node:?} is not allowed to update configSource to a new non-nil configSource"
        ));
    }
    let taints =
        |spec: &k8s_openapi::api::core::v1::NodeSpec| spec.taints.clone().unwrap_or_default();
    if taints(&new_spec) != taints(&old_spec) {
        return subject.refusal(format!("node {node:?} is not allowed to modify taints"));
    }
    let labels = forbidden_labels(object.meta().labels.as_ref(), old.meta().labels.as_ref());
    if !labels.is_empty() {
        return subject.refusal(format!("is not allowed to modify labels: {labels}"));
    }
    let owners = |meta: &ObjectMeta| meta.owner_references.clone().unwrap_or_default();
    if owners(object.meta()) != owners(old.meta()) {
        return subject.refusal(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    Ok(())
}

fn own_lease(node: &str, subject: &Subject<'_>, meta: &ObjectMeta) -> Result<(), Failure> {
    if meta.namespace.as_deref() != Some(LEASES) {
        return subject
            .refusal(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    if subject.name != node {
        return subject
            .refusal("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

/// Labels of Kubernetes' own that a kubelet may set on its Node.
const KUBELET_LABELS: [&str; 11] = [
    label::HOSTNAME,
    label::ZONE,
    label::REGION,
    label::ZONE_BETA,
    label::REGION_BETA,
    label::INSTANCE_TYPE,
    label::INSTANCE_TYPE_BETA,
    label::OS,
    label::ARCH,
    label::OS_BETA,
    label::ARCH_BETA,
];
/// Prefixes whose labels a kubelet may set.
const KUBELET_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// The prefix by which others keep workloads away from nodes that they do not trust.
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";

/// Changed labels that a node may not change, sorted and joined.
fn forbidden_labels(
    new: Option<&BTreeMap<String, String>>,
    old: Option<&BTreeMap<String, String>>,
) -> String {
    let value = |labels: Option<&BTreeMap<String, String>>, key: &String| {
        labels.and_then(|labels| labels.get(key)).cloned()
    };
    let keys: BTreeSet<&String> = new.into_iter().chain(old).flat_map(BTreeMap::keys).collect();
    let changed = keys.into_iter().filter(|key| value(new, key) != value(old, key));
    let forbidden: Vec<&str> =
        changed.map(String::as_str).filter(|key| is_forbidden(key)).collect();
    forbidden.join(", ")
}

fn is_forbidden(key: &str) -> bool {
    let domain = key.split_once('/').map(|(domain, _)| domain).unwrap_or_default();
    let within = |of: &str| domain == of || domain.ends_with(&format!(".{of}"));
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    let kubelets = KUBELET_LABELS.contains(&key) || KUBELET_DOMAINS.iter().any(|it| within(it));
    within(RESTRICTED_DOMAIN) || (kubernetes && !kubelets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_set_its_own_labels_and_none_that_draw_workloads() {
        for (label, forbidden) in [
            ("disk", false),
            ("example.com/rack", false),
            ("kubernetes.io/hostname", false),
            ("node.kubernetes.io/instance-type", false),
            ("pool.node.kubernetes.io/x", false),
            ("kubelet.kubernetes.io/x", false),
            ("node-restriction.kubernetes.io/secure", true),
            ("x.node-restriction.kubernetes.io/secure", true),
            ("node-role.kubernetes.io/control-plane", true),
            ("kubernetes.io/other", true),
            ("k8s.io/x", true),
        ] {
            assert_eq!(is_forbidden(label), forbidden, "{label}");
        }
    }

    #[test]
    fn only_labels_that_change_are_looked_at() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let old: BTreeMap<String, String> =
            map(&[("node-restriction.kubernetes.io/a", "1"), ("k8s.io/b", "1"), ("c", "1")]);
        let new: BTreeMap<String, String> =
            map(&[("node-restriction.kubernetes.io/a", "1"), ("k8s.io/b", "2"), ("c", "2")]);
        assert_eq!(forbidden_labels(Some(&new), Some(&old)), "k8s.io/b");
        assert_eq!(
            forbidden_labels(None, Some(&old)),
            "k8s.io/b, node-restriction.kubernetes.io/a"
        );
    }
}
