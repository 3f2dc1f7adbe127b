//! The three patches that clients send, as pure functions on documents: JSON patch (RFC 6902), JSON
//! merge patch (RFC 7386) and Kubernetes' strategic merge patch. Server-side apply is elsewhere.
//!
//! Data flow: the registry decodes a live object into a [`Document`], hands it over with the body
//! of the request, and gets a document that it decodes, defaults and validates like any update. No
//! error quotes a value of either; paths and field names may be quoted, keys of `data` among them.
//! What a patch removes or overwrites is erased.

mod json;
mod list;
mod merge;
mod order;
mod strategic;

use serde_json::Value;

use crate::document::{Document, erase};
use crate::go;
use crate::reason::Reason;
use crate::schema::Schema;
use crate::schema::read::{self, Budget, Unknown};
use crate::status::Failure;

/// A JSON patch with more operations is refused.
pub const OPERATIONS_MAX: usize = 10_000;

/// How much a JSON patch may add to a document by `copy`, in bytes of JSON: without a bound, sixty
/// operations that copy a document into itself would fill any memory.
pub const COPY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// How much memory those copies may take.
const COPY_MEMORY_BYTES_MAX: usize = 32 << 20;

/// Values that a JSON patch may walk over and list items that it may move, all operations together:
/// each insertion at a list's front moves the whole list, and each move looks at all it moves.
const STEPS_MAX: usize = 50_000_000;

/// How deep a JSON patch may nest a document: as deep as our JSON reader goes.
pub const NESTING_MAX: usize = 127;

/// Which patch a request's content type says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json`.
    Json,
    /// `application/merge-patch+json`.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
}

/// Why a patch was not applied. `Display` never holds a value of the patch or of its target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The body is not a patch of its kind.
    #[error("{0}")]
    Malformed(String),
    /// More than [`OPERATIONS_MAX`] operations.
    #[error("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {0}")]
    TooManyOperations(usize),
    /// The patch takes far more memory than its bytes.
    #[error("too many values for the length of the patch")]
    TooMuch,
    /// A good patch that this object cannot take.
    #[error("{0}")]
    NotApplicable(String),
    /// A strategic merge patch that contradicts the schema.
    #[error("{0}")]
    Unmergeable(String),
}

impl From<&PatchError> for Failure {
    fn from(error: &PatchError) -> Self {
        match error {
            PatchError::Malformed(_) => Self::bad_request(error.to_string()),
            PatchError::TooManyOperations(_) | PatchError::TooMuch => Self::plain(
                Reason::RequestEntityTooLarge,
                format!("Request entity too large: {error}"),
            ),
            PatchError::NotApplicable(_) => {
                let message = "the server rejected our request due to an error in our request";
                let mut failure = Self::plain(Reason::Invalid, message);
                failure.details = Some(Box::default());
                failure
            }
            // Upstream returns 500 and so blames itself; message and missing reason are upstream's.
            PatchError::Unmergeable(_) => Self::with_code(400, Reason::Unknown, error.to_string()),
        }
    }
}

/// The target with the patch applied.
///
/// # Errors
/// See [`PatchError`]; the target is erased then.
pub fn apply(
    kind: PatchKind,
    mut target: Document,
    body: &[u8],
    schema: Schema,
) -> Result<Document, PatchError> {
    match kind {
        PatchKind::Json => {
            let operations = json::decode(body)?;
            json::apply(target.value_mut(), &operations)?;
        }
        PatchKind::Merge => {
            let mut patch = decode_object(body).map_err(|error| match error {
                PatchError::Malformed(why) => {
                    PatchError::Malformed(format!("error decoding patch: {why}"))
                }
                other => other,
            })?;
            merge::apply(target.value_mut(), patch.value_mut().take());
        }
        PatchKind::Strategic => {
            let patch = decode_object(body)?;
            strategic::apply(target.value_mut(), patch.value(), schema)?;
        }
    }
    Ok(target)
}

/// Merges a document as JSON merge patch does: for callers that have one decoded.
pub fn merge(target: &mut Document, patch: &Document) {
    merge::apply(target.value_mut(), patch.value().clone());
}

/// The body as a JSON object, or what is wrong with it, in Go's words where it has the wrong type.
fn decode_object(body: &[u8]) -> Result<Document, PatchError> {
    let document = decode_json(body)?;
    match document.value() {
        Value::Object(_) => Ok(document),
        other => Err(PatchError::Malformed(wrong_type(other, "map[string]interface {}"))),
    }
}

fn decode_json(body: &[u8]) -> Result<Document, PatchError> {
    // Into a tree, so that the only errors are of syntax: those quote nothing.
    let mut budget = Budget::of_body(body.len());
    let read = read::read_json(body, None, Unknown::Keep, &mut budget);
    if budget.is_exceeded() {
        return Err(PatchError::TooMuch);
    }
    read.map(Document::new).map_err(|error| PatchError::Malformed(go::json_error(&error)))
}

fn wrong_type(found: &Value, expected: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {expected}", json_type(found))
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Drops a value that a patch removed, so that it is not left in freed memory.
fn discard(value: Option<Value>) {
    if let Some(mut value) = value {
        erase(&mut value);
    }
}

#[cfg(test)]
mod tests;
