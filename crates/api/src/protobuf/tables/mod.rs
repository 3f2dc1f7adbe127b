//! The messages that requests carry, as data: one file for each API group.
//!
//! A kind that is served names its message in its declaration, and may have it in its own file; here
//! are those that older kinds and several kinds have.
//!
//! A row is a field: its number, its name in JSON, its type. To follow a newer Kubernetes, add the
//! rows that `generated.proto` and the Go types beside it have more; a test compares every name and
//! type with [`crate::schema`], and says what is missing here or there.

pub(crate) mod apps;
mod authentication;
mod authorization;
mod autoscaling;
pub(crate) mod certificates;
pub(crate) mod coordination;
pub(crate) mod core;
pub(crate) mod events;
pub(crate) mod meta;
pub(crate) mod node;
mod policy;
pub(crate) mod rbac;

use super::message::Message;
use crate::kinds;

/// A kind that comes in request bodies and is not stored.
pub(super) struct Unstored {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) message: &'static Message,
}

/// All but `DeleteOptions`, which every group version has.
pub(super) static UNSTORED: &[Unstored] = &[
    kind("v1", "Binding", &core::BINDING),
    kind("v1", "Service", &core::SERVICE),
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

const fn kind(
    api_version: &'static str,
    kind: &'static str,
    message: &'static Message,
) -> Unstored {
    Unstored { api_version, kind, message }
}

/// The message of a kind: a served one's own, or one of [`UNSTORED`].
pub(super) fn message(api_version: &str, kind: &str) -> Option<&'static Message> {
    if kind == "DeleteOptions" {
        return Some(&meta::DELETE_OPTIONS);
    }
    let version = |info: &kinds::KindInfo| match api_version.split_once('/') {
        Some(group_version) => group_version == (info.group, info.version),
        None => info.group.is_empty() && api_version == info.version,
    };
    let served = kinds::ALL.iter().find(|info| info.kind == kind && version(info));
    let unstored = || UNSTORED.iter().find(|it| it.kind == kind && it.api_version == api_version);
    served.map(|info| info.message).or_else(|| unstored().map(|it| it.message))
}
