//! Tables: what `kubectl get` shows of each kind, in `meta.k8s.io/v1` Table form.
//!
//! Columns, their order and every cell are upstream's (`pkg/printers/internalversion`), because
//! scripts cut them apart. Pure functions of one object and the time; the registry decides which
//! objects are shown and puts the rows into a Table. Rows always carry all columns; kubectl leaves
//! out those with a priority above 0 unless asked for `-o wide`.

mod csr;
mod doc;
mod event;
mod human;
mod node;
mod pod;
mod quota;
mod rbac;
mod simple;
mod workload;

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Serialize;
use serde_json::Value;

pub use human::human_duration;

/// One column of a Table: a `TableColumnDefinition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// The header; kubectl prints it in upper case.
    pub name: &'static str,
    /// OpenAPI type of the cells.
    #[serde(rename = "type")]
    pub type_: &'static str,
    /// OpenAPI format; `name` marks the column that names the object.
    pub format: &'static str,
    /// For people.
    pub description: &'static str,
    /// 0 is always shown, more only where there is room.
    pub priority: i32,
}

impl Column {
    const NAME: Self = Self { format: "name", ..Self::string("Name", doc::NAME) };
    const AGE: Self = Self::string("Age", doc::CREATION_TIMESTAMP);

    const fn string(name: &'static str, description: &'static str) -> Self {
        Self { name, type_: "string", format: "", description, priority: 0 }
    }

    const fn integer(name: &'static str, description: &'static str) -> Self {
        Self { type_: "integer", ..Self::string(name, description) }
    }

    const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// A `TableRowCondition`: what is special about a whole row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RowCondition {
    /// `Completed` is the only one that upstream knows.
    #[serde(rename = "type")]
    pub type_: &'static str,
    /// `True`.
    pub status: &'static str,
    /// Why.
    pub reason: &'static str,
    /// For people.
    pub message: &'static str,
}

/// A kind that can be shown as a table row.
pub trait Printed {
    /// The columns, in order.
    const COLUMNS: &'static [Column];

    /// One cell per column.
    fn cells(&self, now: Timestamp) -> Vec<Value>;

    /// Set on rows of objects that have run to completion.
    fn condition(&self) -> Option<RowCondition> {
        None
    }
}

/// The columns of a kind without a printer of its own; [`default_cells`] makes its rows.
pub const DEFAULT_COLUMNS: &[Column] = &[
    Column::NAME,
    Column { type_: "date", ..Column::string("Created At", doc::CREATION_TIMESTAMP) },
];

/// The cells of [`DEFAULT_COLUMNS`].
pub fn default_cells(metadata: &ObjectMeta) -> Vec<Value> {
    let created = match &metadata.creation_timestamp {
        Some(Time(at)) => rfc3339(*at),
        None => "<unknown>".to_owned(),
    };
    vec![name_of(metadata), created.into()]
}

/// The columns of a served resource.
pub fn columns(plural: &str, group: &str) -> &'static [Column] {
    use k8s_openapi::api::{apps::v1 as apps, certificates::v1 as certificates};
    use k8s_openapi::api::{coordination::v1 as coordination, core::v1 as core};
    use k8s_openapi::api::{node::v1 as node, rbac::v1 as rbac};
    match (group, plural) {
        ("", "configmaps") => core::ConfigMap::COLUMNS,
        ("" | "events.k8s.io", "events") => core::Event::COLUMNS,
        ("", "namespaces") => core::Namespace::COLUMNS,
        ("", "nodes") => core::Node::COLUMNS,
        ("", "pods") => core::Pod::COLUMNS,
        ("", "replicationcontrollers") => core::ReplicationController::COLUMNS,
        ("", "resourcequotas") => core::ResourceQuota::COLUMNS,
        ("", "secrets") => coffer_api::secret::Secret::COLUMNS,
        ("", "serviceaccounts") => core::ServiceAccount::COLUMNS,
        ("apps", "deployments") => apps::Deployment::COLUMNS,
        ("apps", "replicasets") => apps::ReplicaSet::COLUMNS,
        ("certificates.k8s.io", "certificatesigningrequests") => {
            certificates::CertificateSigningRequest::COLUMNS
        }
        ("coordination.k8s.io", "leases") => coordination::Lease::COLUMNS,
        ("node.k8s.io", "runtimeclasses") => node::RuntimeClass::COLUMNS,
        ("rbac.authorization.k8s.io", "clusterrolebindings") => rbac::ClusterRoleBinding::COLUMNS,
        ("rbac.authorization.k8s.io", "rolebindings") => rbac::RoleBinding::COLUMNS,
        _ => DEFAULT_COLUMNS,
    }
}

fn name_of(metadata: &ObjectMeta) -> Value {
    metadata.name.clone().unwrap_or_default().into()
}

fn name(object: &impl Metadata<Ty = ObjectMeta>) -> Value {
    name_of(object.metadata())
}

fn age(object: &impl Metadata<Ty = ObjectMeta>, now: Timestamp) -> Value {
    let created = object.metadata().creation_timestamp.as_ref().map(|Time(at)| *at);
    since(created, now).into()
}

/// Time passed since `then` as people read it; `<unknown>` if there is no `then`.
fn since(then: Option<Timestamp>, now: Timestamp) -> String {
    match then {
        Some(then) => human_duration(now.duration_since(then)),
        None => "<unknown>".to_owned(),
    }
}

/// RFC 3339 in whole seconds, as every Kubernetes timestamp but MicroTime.
fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests;
