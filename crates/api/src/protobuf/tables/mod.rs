//! The messages that requests carry, as data: one file for each API group.
//!
//! A row is a field: its number, its name in JSON, its type. To follow a newer Kubernetes, add the
//! rows that `generated.proto` and the Go types beside it have more; a test compares every name and
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
    Kind { api_version: "v1", kind: "Binding", message: &core::BINDING },
    Kind { api_version: "v1", kind: "ConfigMap", message: &core::CONFIG_MAP },
    Kind { api_version: "v1", kind: "Event", message: &core::EVENT },
    Kind { api_version: "v1", kind: "Namespace", message: &core::NAMESPACE },
    Kind { api_version: "v1", kind: "Node", message: &core::NODE },
    Kind { api_version: "v1", kind: "Pod", message: &core::POD },
    Kind {
        api_version: "v1",
        kind: "ReplicationController",
        message: &core::REPLICATION_CONTROLLER,
    },
    Kind { api_version: "v1", kind: "ResourceQuota", message: &core::RESOURCE_QUOTA },
    Kind { api_version: "v1", kind: "Secret", message: &core::SECRET },
    Kind { api_version: "v1", kind: "Service", message: &core::SERVICE },
    Kind { api_version: "v1", kind: "ServiceAccount", message: &core::SERVICE_ACCOUNT },
    Kind { api_version: "apps/v1", kind: "Deployment", message: &apps::DEPLOYMENT },
    Kind { api_version: "apps/v1", kind: "ReplicaSet", message: &apps::REPLICA_SET },
    Kind { api_version: "coordination.k8s.io/v1", kind: "Lease", message: &coordination::LEASE },
    Kind { api_version: "events.k8s.io/v1", kind: "Event", message: &events::EVENT },
    Kind {
        api_version: "rbac.authorization.k8s.io/v1",
        kind: "ClusterRole",
        message: &rbac::CLUSTER_ROLE,
    },
    Kind {
        api_version: "rbac.authorization.k8s.io/v1",
        kind: "ClusterRoleBinding",
        message: &rbac::CLUSTER_ROLE_BINDING,
    },
    Kind { api_version: "rbac.authorization.k8s.io/v1", kind: "Role", message: &rbac::ROLE },
    Kind {
        api_version: "rbac.authorization.k8s.io/v1",
        kind: "RoleBinding",
        message: &rbac::ROLE_BINDING,
    },
    Kind {
        api_version: "certificates.k8s.io/v1",
        kind: "CertificateSigningRequest",
        message: &certificates::CERTIFICATE_SIGNING_REQUEST,
    },
    Kind { api_version: "autoscaling/v1", kind: "Scale", message: &autoscaling::SCALE },
    Kind { api_version: "policy/v1", kind: "Eviction", message: &policy::EVICTION },
    Kind {
        api_version: "authentication.k8s.io/v1",
        kind: "TokenReview",
        message: &authentication::TOKEN_REVIEW,
    },
    Kind {
        api_version: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        message: &authentication::TOKEN_REQUEST,
    },
    Kind {
        api_version: "authentication.k8s.io/v1",
        kind: "SelfSubjectReview",
        message: &authentication::SELF_SUBJECT_REVIEW,
    },
    Kind {
        api_version: "authorization.k8s.io/v1",
        kind: "LocalSubjectAccessReview",
        message: &authorization::LOCAL_SUBJECT_ACCESS_REVIEW,
    },
    Kind {
        api_version: "authorization.k8s.io/v1",
        kind: "SelfSubjectAccessReview",
        message: &authorization::SELF_SUBJECT_ACCESS_REVIEW,
    },
    Kind {
        api_version: "authorization.k8s.io/v1",
        kind: "SelfSubjectRulesReview",
        message: &authorization::SELF_SUBJECT_RULES_REVIEW,
    },
    Kind {
        api_version: "authorization.k8s.io/v1",
        kind: "SubjectAccessReview",
        message: &authorization::SUBJECT_ACCESS_REVIEW,
    },
];

/// The message of a kind.
pub(super) fn message(api_version: &str, kind: &str) -> Option<&'static Message> {
    if kind == "DeleteOptions" {
        return Some(&meta::DELETE_OPTIONS);
    }
    let known =
        KINDS.iter().find(|known| known.kind == kind && known.api_version == api_version)?;
    Some(known.message)
}
