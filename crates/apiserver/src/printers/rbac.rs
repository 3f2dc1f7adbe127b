//! RBAC rows. Roles have no printer upstream: they show their name and when they were made.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, Role, RoleBinding, RoleRef, Subject,
};
use serde_json::Value;

use super::{Column, DEFAULT_COLUMNS, Printed, age, default_cells, doc, name};

impl Printed for Role {
    const COLUMNS: &'static [Column] = DEFAULT_COLUMNS;

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        default_cells(&self.metadata)
    }
}

impl Printed for ClusterRole {
    const COLUMNS: &'static [Column] = DEFAULT_COLUMNS;

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        default_cells(&self.metadata)
    }
}

impl Printed for RoleBinding {
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::string("Role", doc::ROLE_REF),
        Column::AGE,
        Column::string("Users", "Users in the roleBinding").wide(),
        Column::string("Groups", "Groups in the roleBinding").wide(),
        Column::string("ServiceAccounts", "ServiceAccounts in the roleBinding").wide(),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![name(self), role(&self.role_ref), age(self, now)];
        cells.extend(subjects(self.subjects.as_deref()));
        cells
    }
}

impl Printed for ClusterRoleBinding {
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::string("Role", doc::CLUSTER_ROLE_REF),
        Column::AGE,
        Column::string("Users", "Users in the clusterRoleBinding").wide(),
        Column::string("Groups", "Groups in the clusterRoleBinding").wide(),
        Column::string("ServiceAccounts", "ServiceAccounts in the clusterRoleBinding").wide(),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![name(self), role(&self.role_ref), age(self, now)];
        cells.extend(subjects(self.subjects.as_deref()));
        cells
    }
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
