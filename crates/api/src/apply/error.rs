//! Why an apply is refused, and the Status that says so.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{StatusCause, StatusDetails};
use serde_json::Value;

use super::Writer;
use super::element::Element;
use crate::reason::{CAUSE_FIELD_MANAGER_CONFLICT, Reason};
use crate::status::{self, Failure};

/// A field that would change and that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// `"kubectl-client-side-apply" using v1`.
    pub manager: String,
    /// `.data.foo`.
    pub path: String,
    pub(super) elements: Vec<Element>,
}

impl Conflict {
    pub(super) fn new(manager: String, elements: Vec<Element>) -> Self {
        let path = elements.iter().map(ToString::to_string).collect();
        Self { manager, path, elements }
    }
}

/// Why an apply is refused. Fields are named by path; no value is quoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The patch is of another version or kind than the URL.
    #[error("invalid object type: {0}")]
    WrongType(String),
    /// The patch says who owns what; only the server does.
    #[error("metadata.managedFields must be nil")]
    ManagedFieldsInPatch,
    /// The patch does not fit the schema.
    #[error("failed to create typed patch object ({object}): {}", joined(faults))]
    Untyped {
        /// `default/name; /v1, Kind=Secret`.
        object: String,
        /// Each `.spec.foo: field not declared in schema`.
        faults: Vec<String>,
    },
    /// The live object's managedFields cannot be read.
    #[error("failed to decode managed fields: {0}")]
    ManagedFields(String),
    /// Who owns what would alone be longer than any object may be; etcd's words.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// Others own what would change.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
}

impl From<&ApplyError> for Failure {
    fn from(error: &ApplyError) -> Self {
        match error {
            ApplyError::WrongType(_) | ApplyError::ManagedFieldsInPatch => {
                Self::bad_request(error.to_string())
            }
            // Upstream returns 500 and so blames itself; message and missing reason are upstream's.
            ApplyError::Untyped { .. } => Self::with_code(400, Reason::Unknown, error.to_string()),
            ApplyError::ManagedFields(_) | ApplyError::TooLarge => {
                Self::plain(Reason::Unknown, error.to_string())
            }
            ApplyError::Conflicts(conflicts) => {
                let mut failure = Self::plain(Reason::Conflict, error.to_string());
                failure.details = Some(Box::new(StatusDetails {
                    causes: Some(status::bounded(conflicts.iter().map(cause))),
                    ..Default::default()
                }));
                failure
            }
        }
    }
}

fn cause(conflict: &Conflict) -> StatusCause {
    StatusCause {
        reason: Some(CAUSE_FIELD_MANAGER_CONFLICT.to_owned()),
        message: Some(format!("conflict with {}", conflict.manager)),
        field: Some(conflict.path.clone()),
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [conflict] = conflicts {
        let Conflict { manager, path, .. } = conflict;
        return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
    }
    let mut lines = Vec::new();
    let mut last = None;
    let mut left = status::TEXT_BYTES_MAX;
    // They come grouped by manager.
    for (at, conflict) in conflicts.iter().enumerate() {
        let bytes = conflict.manager.len() + conflict.path.len();
        if bytes > left {
            lines.push(format!("- {} more", conflicts.len() - at));
            break;
        }
        left -= bytes;
        if last != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
            last = Some(&conflict.manager);
        }
        lines.push(format!("- {}", conflict.path));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// As much of it as an answer takes; [`Failure::plain`] cuts the rest.
fn joined(faults: &[String]) -> String {
    match faults {
        [fault] => fault.clone(),
        _ => {
            let mut lines = String::from("errors:");
            for fault in faults {
                if lines.len() > status::TEXT_BYTES_MAX {
                    break;
                }
                lines.push_str("\n  ");
                lines.push_str(fault);
            }
            lines
        }
    }
}

/// `default/name; /v1, Kind=Secret`.
pub(super) fn describe(object: &Value, writer: &Writer<'_>) -> String {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    let type_ = group_version_kind(writer.api_version, writer.kind);
    format!("{}/{}; {type_}", text("namespace"), text("name"))
}

/// `apps/v1, Kind=Deployment`, as Go prints a GroupVersionKind.
pub(super) fn group_version_kind(api_version: &str, kind: &str) -> String {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    format!("{group}/{version}, Kind={kind}")
}
