//! Rows of role bindings. Roles have no printer upstream: they show their name and when they were made.

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::api::rbac::v1::{RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::table::{Column, age, name};

pub(super) const ROLE_BINDING: &[Column] = &[
    Column::NAME,
    Column::string("Role", ROLE_REF),
    Column::AGE,
    Column::string("Users", "Users in the roleBinding").wide(),
    Column::string("Groups", "Groups in the roleBinding").wide(),
    Column::string("ServiceAccounts", "ServiceAccounts in the roleBinding").wide(),
];

pub(super) const CLUSTER_ROLE_BINDING: &[Column] = &[
    Column::NAME,
    Column::string("Role", CLUSTER_ROLE_REF),
    Column::AGE,
    Column::string("Users", "Users in the clusterRoleBinding").wide(),
    Column::string("Groups", "Groups in the clusterRoleBinding").wide(),
    Column::string("ServiceAccounts", "ServiceAccounts in the clusterRoleBinding").wide(),
];

/// The row of a binding of either kind.
pub(super) fn cells(
    binding: &impl Metadata<Ty = ObjectMeta>,
    role_ref: &RoleRef,
    bound: Option<&[Subject]>,
    now: Timestamp,
) -> Vec<Value> {
    let mut cells = vec![name(binding), role(role_ref), age(binding, now)];
    cells.extend(subjects(bound));
    cells
}

fn role(role: &RoleRef) -> Value {
    format!("{}/{}", role.kind, role.name).into()
}

/// Users, groups and service accounts, each a comma-separated cell.
fn subjects(subjects: Option<&[Subject]>) -> [Value; 3] {
    ["User", "Group", "ServiceAccount"].map(|kind| {
        let of_kind = subjects.unwrap_or_default().iter().filter(|subject| subject.kind == kind);
        let names: Vec<String> = of_kind
            .map(|subject| match kind {
                "ServiceAccount" => {
                    let namespace = subject.namespace.as_deref().unwrap_or_default();
                    format!("{namespace}/{}", subject.name)
                }
                _ => subject.name.clone(),
            })
            .collect();
        names.join(", ").into()
    })
}

const ROLE_REF: &str = "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.";
const CLUSTER_ROLE_REF: &str = "RoleRef can only reference a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.";
