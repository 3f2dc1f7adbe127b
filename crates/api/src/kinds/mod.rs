//! The kinds Coffer serves, each declared in one place: its strategy ([`Kind`]: names, defaults, what a
//! client may write where, what is valid) and its data ([`KindInfo`]: protobuf message, merge rules,
//! table columns, default roles, deletion).
//!
//! The API server knows none of them. Whatever goes through all kinds takes them from the list below:
//! [`ALL`] for the data, [`for_each`] for the types. To add one, write its file and a line here; see
//! CONTRIBUTING.md.
//!
//! A request's object goes `set_defaults` → (admission) → `prepare_for_create` /
//! `prepare_for_update` → `validate` / `validate_update`; the server itself owns uid,
//! resourceVersion, timestamps and managedFields.

pub mod binding;
pub mod certificate_signing_request;
pub mod config_map;
pub mod event;
mod info;
mod kind;
mod lease;
pub mod limit_range;
pub mod merge;
pub mod meta;
pub mod namespace;
mod node;
mod optional;
pub mod pod;
pub mod pod_disruption_budget;
mod pod_template;
pub mod priority_class;
pub mod rbac;
mod resource_quota;
pub mod roles;
mod runtime_class;
pub mod secret;
mod service_account;
mod shown;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod workloads;

pub use info::{Deletion, Dependents, KindInfo, Subresource};
pub use kind::{Kind, Scale, Visitor};

/// A kind of the list below: every server has it, so that what asks for it by its type finds it.
pub trait Served: Kind {}

/// Makes [`ALL`], [`for_each`] and [`Served`] of a list of types.
macro_rules! kinds {
    ($($($module:ident)::+ { $kind:ident })*) => {
        $(pub use $($module)::+::$kind;)*

        $(impl Served for $kind {})*

        /// Every served kind, in discovery's order.
        pub static ALL: &[&KindInfo] = &[$(<$kind as Kind>::INFO),*];

        /// Shows every served kind to a visitor, in the order of [`ALL`].
        pub fn for_each(visitor: &mut impl Visitor) {
            $(visitor.visit::<$kind>();)*
        }
    };
}

// Every served kind, in discovery's order: the file that declares it, and its type.
kinds! {
    config_map { ConfigMap }
    event { Event }
    limit_range { LimitRange }
    namespace { Namespace }
    node { Node }
    pod { Pod }
    pod_template { PodTemplate }
    workloads::replication_controller { ReplicationController }
    resource_quota { ResourceQuota }
    secret { Secret }
    service_account { ServiceAccount }
    workloads::deployment { Deployment }
    workloads::replica_set { ReplicaSet }
    certificate_signing_request { CertificateSigningRequest }
    lease { Lease }
    event { SeriesEvent }
    runtime_class { RuntimeClass }
    pod_disruption_budget { PodDisruptionBudget }
    rbac { ClusterRole }
    rbac { ClusterRoleBinding }
    rbac { Role }
    rbac { RoleBinding }
    priority_class { PriorityClass }
}
