//! Tables: what `kubectl get` shows of each kind, in `meta.k8s.io/v1` Table form.
//!
//! Columns, their order and every cell are upstream's (`pkg/printers/internalversion`), because
//! scripts cut them apart. A kind names its columns in its declaration and makes the cells; here is
//! what the kinds share. Rows always carry all columns; kubectl leaves out those with a priority
//! above 0 unless asked for `-o wide`.

mod human;

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
    pub(crate) const NAME: Self = Self { format: "name", ..Self::string("Name", NAME) };
    pub(crate) const AGE: Self = Self::string("Age", CREATION_TIMESTAMP);

    pub(crate) const fn string(name: &'static str, description: &'static str) -> Self {
        Self { name, type_: "string", format: "", description, priority: 0 }
    }

    pub(crate) const fn integer(name: &'static str, description: &'static str) -> Self {
        Self { type_: "integer", ..Self::string(name, description) }
    }

    pub(crate) const fn wide(self) -> Self {
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

/// The columns of a kind without a printer of its own; [`default_cells`] makes its rows.
pub const DEFAULT_COLUMNS: &[Column] =
    &[Column::NAME, Column { type_: "date", ..Column::string("Created At", CREATION_TIMESTAMP) }];

/// The cells of [`DEFAULT_COLUMNS`].
pub fn default_cells(metadata: &ObjectMeta) -> Vec<Value> {
    let created = match &metadata.creation_timestamp {
        Some(Time(at)) => rfc3339(*at),
        None => "<unknown>".to_owned(),
    };
    vec![name_of(metadata), created.into()]
}

fn name_of(metadata: &ObjectMeta) -> Value {
    metadata.name.clone().unwrap_or_default().into()
}

/// The cell of [`Column::NAME`].
pub(crate) fn name(object: &impl Metadata<Ty = ObjectMeta>) -> Value {
    name_of(object.metadata())
}

/// The cell of [`Column::AGE`].
pub(crate) fn age(object: &impl Metadata<Ty = ObjectMeta>, now: Timestamp) -> Value {
    let created = object.metadata().creation_timestamp.as_ref().map(|Time(at)| *at);
    since(created, now).into()
}

/// Time passed since `then` as people read it; `<unknown>` if there is no `then`.
pub(crate) fn since(then: Option<Timestamp>, now: Timestamp) -> String {
    match then {
        Some(then) => human_duration(now.duration_since(then)),
        None => "<unknown>".to_owned(),
    }
}

/// RFC 3339 in whole seconds, as every Kubernetes timestamp but MicroTime.
fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text.to_owned() }
}

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const CREATION_TIMESTAMP: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
