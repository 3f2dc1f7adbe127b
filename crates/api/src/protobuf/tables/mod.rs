//! The messages that requests carry, as data: one file for each API group.
//!
//! A row is a field: its number, its name in JSON, its type. To follow a newer Kubernetes, add the
//! rows that `generated.proto` and the Go types next to it have more; a test compares every name and
//! type with [`crate::schema`], and says what is missing here or there.

mod apps;
mod authentication;
mod authorization;
mod autoscaling;
mod certificates;
mod coordination;
mod core;
mod events;
mod meta;
mod node;
mod policy;
mod rbac;

use super::message::Message;

/// A kind that comes in request bodies.
pub(super) struct Kind {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) message: &'static Message,
}

/// All but `DeleteOptions`, which every group version has.
pub(super) static KINDS: &[Kind] = &[
    kind("v1", "Binding", &core::BINDING),
    kind("v1", "ConfigMap", &core::CONFIG_MAP),
    kind("v1", "Event", &core::EVENT),
    kind("v1", "Namespace", &core::NAMESPACE),
    kind("v1", "Node", &core::NODE),
    kind("v1", "Pod", &core::POD),
    kind("v1", "ReplicationController", &core::REPLICATION_CONTROLLER),
    kind("v1", "ResourceQuota", &core::RESOURCE_QUOTA),
    kind("v1", "Secret", &core::SECRET),
    kind("v1", "Service", &core::SERVICE),
    kind("v1", "ServiceAccount", &core::SERVICE_ACCOUNT),
    kind("apps/v1", "Deployment", &apps::DEPLOYMENT),
    kind("apps/v1", "ReplicaSet", &apps::REPLICA_SET),
    kind("coordination.k8s.io/v1", "Lease", &coordination::LEASE),
    kind("events.k8s.io/v1", "Event", &events::EVENT),
    kind("node.k8s.io/v1", "RuntimeClass", &node::RUNTIME_CLASS),
    kind("rbac.authorization.k8s.io/v1", "ClusterRole", &rbac::CLUSTER_ROLE),
    kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", &rbac::CLUSTER_ROLE_BINDING),
    kind("rbac.authorization.k8s.io/v1", "Role", &rbac::ROLE),
    kind("rbac.authorization.k8s.io/v1", "RoleBinding", &rbac::ROLE_BINDING),
    kind(
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
        &certificates::CERTIFICATE_SIGNING_REQUEST,
    ),
    kind("autoscaling/v1", "Scale", &autoscaling::SCALE),
    kind("policy/v1", "Eviction", &policy::EVICTION),
    kind("authentication.k8s.io/v1", "TokenReview", &authentication::TOKEN_REVIEW),
    kind("authentication.k8s.io/v1", "TokenRequest", &authentication::TOKEN_REQUEST),
    kind("authentication.k8s.io/v1", "SelfSubjectReview", &authentication::SELF_SUBJECT_REVIEW),
    kind(
        "authorization.k8s.io/v1",
        "LocalSubjectAccessReview",
        &authorization::LOCAL_SUBJECT_ACCESS_REVIEW,
    ),
    kind(
        "authorization.k8s.io/v1",
        "SelfSubjectAccessReview",
        &authorization::SELF_SUBJECT_ACCESS_REVIEW,
    ),
    kind(
        "authorization.k8s.io/v1",
        "SelfSubjectRulesReview",
        &authorization::SELF_SUBJECT_RULES_REVIEW,
    ),
    kind("authorization.k8s.io/v1", "SubjectAccessReview", &authorization::SUBJECT_ACCESS_REVIEW),
];

const fn kind(api_version: &'static str, kind: &'static str, message: &'static Message) -> Kind {
    Kind { api_version, kind, message }
}

/// The message of a kind.
pub(super) fn message(api_version: &str, kind: &str) -> Option<&'static Message> {
    if kind == "DeleteOptions" {
        return Some(&meta::DELETE_OPTIONS);
    }
    let known =
        KINDS.iter().find(|known| known.kind == kind && known.api_version == api_version)?;
    Some(known.message)
}
