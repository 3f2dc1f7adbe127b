//! The kinds Coffer serves, each with what upstream calls its strategy: names, defaults, what a
//! client may write at which door, and what is valid.
//!
//! The API server is generic over [`Kind`] and knows none of them. A request's object goes
//! `set_defaults` → (admission) → `prepare_for_create` / `prepare_for_update` → `validate` /
//! `validate_update`; the server itself owns uid, resourceVersion, timestamps and managedFields.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::field::ErrorList;
use crate::names::NameRule;

pub mod binding;
pub mod certificate_signing_request;
pub mod config_map;
mod equality;
pub mod event;
mod lease;
pub mod meta;
pub mod namespace;
mod node;
mod optional;
pub mod pod;
pub mod rbac;
mod resource_quota;
mod runtime_class;
pub mod secret;
mod service_account;
mod shown;
#[cfg(test)]
mod testing;
mod workloads;

pub use crate::secret::Secret;
pub use equality::{drop_zeros, equal};
pub use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
pub use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
pub use k8s_openapi::api::coordination::v1::Lease;
pub use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Namespace, Node, Pod, ReplicationController, ResourceQuota, ServiceAccount,
};
pub use k8s_openapi::api::events::v1::Event as SeriesEvent;
pub use k8s_openapi::api::node::v1::RuntimeClass;
pub use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};

/// A path below an object that is served on its own: `pods/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// Last segment of the path.
    pub name: &'static str,
    /// Group of the kind that is read and written there, empty for core.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its kind: the parent's own for `status`, `Scale`, `Binding`, …
    pub kind: &'static str,
    /// Verbs as discovery lists them.
    pub verbs: &'static [&'static str],
}

impl Subresource {
    /// `status`: the object itself, of which only the status is written.
    const fn status(group: &'static str, kind: &'static str) -> Self {
        Self { name: "status", group, version: "v1", kind, verbs: &["get", "patch", "update"] }
    }
}

/// What is known of a kind without an object of it: what discovery, routing and selectors need.
#[derive(Clone, Copy, Debug)]
pub struct KindInfo {
    /// API group, empty for core.
    pub group: &'static str,
    /// Version within the group.
    pub version: &'static str,
    /// `Pod`.
    pub kind: &'static str,
    /// `PodList`.
    pub list_kind: &'static str,
    /// `pods`: the resource in URLs.
    pub plural: &'static str,
    /// `pod`.
    pub singular: &'static str,
    /// `po`.
    pub short_names: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Paths below an object.
    pub subresources: &'static [Subresource],
    /// Whether `metadata.generation` counts changes of the spec.
    pub tracks_generation: bool,
    /// Whether a PUT to a name that does not exist creates it (upstream's `AllowCreateOnUpdate`).
    pub create_on_update: bool,
    /// Whether a PUT may leave out the resourceVersion (upstream's `AllowUnconditionalUpdate`).
    pub unconditional_update: bool,
    /// What object names look like.
    pub name_rule: NameRule,
    /// Labels that field selectors may use, beyond `metadata.name` and `metadata.namespace`.
    pub field_labels: &'static [&'static str],
}

impl KindInfo {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The subresource of this name, if the kind has it.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// The values most kinds share; each kind overrides what differs.
    const fn of(
        group: &'static str,
        kind: &'static str,
        list_kind: &'static str,
        plural: &'static str,
        singular: &'static str,
    ) -> Self {
        Self {
            group,
            version: "v1",
            kind,
            list_kind,
            plural,
            singular,
            short_names: &[],
            categories: &[],
            namespaced: true,
            subresources: &[],
            tracks_generation: false,
            create_on_update: false,
            unconditional_update: true,
            name_rule: crate::names::subdomain_name,
            field_labels: &[],
        }
    }
}

/// An object type that is served: upstream's strategy for it.
///
/// All of it is pure. `sub` is `None` for the object itself and the subresource's name otherwise.
pub trait Kind:
    Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// What is known of the kind without an object.
    const INFO: &'static KindInfo;

    /// Fills in what the version's defaulting fills in. Idempotent; called on every decoded body,
    /// on what a patch made, and on nothing read from the store.
    fn set_defaults(&mut self) {}

    /// Takes away what a client may not set at creation and sets what every new object has.
    fn prepare_for_create(&mut self) {}

    /// Carries over from `old` what this door does not write: the status for an update of the
    /// object, everything else for an update of its status. Counts up the generation.
    fn prepare_for_update(&mut self, old: &Self, sub: Option<&str>) {
        let _ = (old, sub);
    }

    /// Everything wrong with a new object, metadata included.
    fn validate(&self) -> ErrorList;

    /// Everything wrong with `self` as the successor of `old`.
    fn validate_update(&self, old: &Self, sub: Option<&str>) -> ErrorList;

    /// The values of [`KindInfo::field_labels`], in any order; an absent field is `""`.
    fn fields(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// What the client should be told though the request succeeds: `Warning` headers.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Calls a macro with the path of every served kind, in discovery's order:
/// `for_each_kind!(register)` expands to `register!($crate::kinds::Namespace); …`.
#[macro_export]
macro_rules! for_each_kind {
    ($each:ident) => {
        $each!($crate::kinds::ConfigMap);
        $each!($crate::kinds::Event);
        $each!($crate::kinds::Namespace);
        $each!($crate::kinds::Node);
        $each!($crate::kinds::Pod);
        $each!($crate::kinds::ReplicationController);
        $each!($crate::kinds::ResourceQuota);
        $each!($crate::kinds::Secret);
        $each!($crate::kinds::ServiceAccount);
        $each!($crate::kinds::Deployment);
        $each!($crate::kinds::ReplicaSet);
        $each!($crate::kinds::CertificateSigningRequest);
        $each!($crate::kinds::Lease);
        $each!($crate::kinds::SeriesEvent);
        $each!($crate::kinds::RuntimeClass);
        $each!($crate::kinds::ClusterRole);
        $each!($crate::kinds::ClusterRoleBinding);
        $each!($crate::kinds::Role);
        $each!($crate::kinds::RoleBinding);
    };
}

/// Every served kind.
pub static ALL: &[&KindInfo] = &[
    <ConfigMap as Kind>::INFO,
    <Event as Kind>::INFO,
    <Namespace as Kind>::INFO,
    <Node as Kind>::INFO,
    <Pod as Kind>::INFO,
    <ReplicationController as Kind>::INFO,
    <ResourceQuota as Kind>::INFO,
    <Secret as Kind>::INFO,
    <ServiceAccount as Kind>::INFO,
    <Deployment as Kind>::INFO,
    <ReplicaSet as Kind>::INFO,
    <CertificateSigningRequest as Kind>::INFO,
    <Lease as Kind>::INFO,
    <SeriesEvent as Kind>::INFO,
    <RuntimeClass as Kind>::INFO,
    <ClusterRole as Kind>::INFO,
    <ClusterRoleBinding as Kind>::INFO,
    <Role as Kind>::INFO,
    <RoleBinding as Kind>::INFO,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ALL, Kind};

    #[test]
    fn the_table_and_the_macro_list_the_same_kinds_once() {
        let mut listed = Vec::new();
        macro_rules! list {
            ($kind:ty) => {
                listed
                    .push(<$kind as Kind>::INFO.api_version() + "/" + <$kind as Kind>::INFO.plural);
            };
        }
        crate::for_each_kind!(list);
        let table: Vec<_> = ALL.iter().map(|it| it.api_version() + "/" + it.plural).collect();
        assert_eq!(listed, table);
        assert_eq!(table.iter().collect::<BTreeSet<_>>().len(), table.len());
    }

    #[test]
    fn what_a_kind_says_of_itself_agrees_with_its_type() {
        macro_rules! agree {
            ($kind:ty) => {
                let info = <$kind as Kind>::INFO;
                assert_eq!(info.kind, <$kind as k8s_openapi::Resource>::KIND);
                assert_eq!(info.group, <$kind as k8s_openapi::Resource>::GROUP);
                assert_eq!(info.version, <$kind as k8s_openapi::Resource>::VERSION);
                assert_eq!(info.plural, <$kind as k8s_openapi::Resource>::URL_PATH_SEGMENT);
                assert_eq!(info.list_kind, format!("{}List", info.kind));
                assert_eq!(info.singular, info.kind.to_lowercase());
            };
        }
        crate::for_each_kind!(agree);
    }

    #[test]
    fn an_empty_object_answers_all_its_field_labels_and_does_not_panic() {
        macro_rules! check {
            ($kind:ty) => {
                let mut object: $kind = serde_json::from_str("{\"metadata\":{}}").unwrap();
                object.set_defaults();
                object.prepare_for_create();
                assert!(!object.validate().is_empty());
                let old: $kind = serde_json::from_str("{\"metadata\":{}}").unwrap();
                for sub in std::iter::once(None)
                    .chain(<$kind as Kind>::INFO.subresources.iter().map(|sub| Some(sub.name)))
                {
                    object.prepare_for_update(&old, sub);
                    object.validate_update(&old, sub);
                }
                object.warnings();
                let labels: Vec<_> = object.fields().iter().map(|(label, _)| *label).collect();
                for label in <$kind as Kind>::INFO.field_labels {
                    assert_eq!(labels.iter().filter(|it| *it == label).count(), 1, "{label}");
                }
            };
        }
        crate::for_each_kind!(check);
    }
}
