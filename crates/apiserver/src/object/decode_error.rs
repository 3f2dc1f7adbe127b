//! Typed decoding of documents, whose errors say where and why, and quote no value.

use coffer_api::schema::Schema;
use coffer_api::schema::fit::Step;
use coffer_api::{Document, redact, schema};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

/// Typed decoding went wrong: where, and why, without any value.
#[derive(Debug, thiserror::Error)]
#[error("{reason}{}", if path.is_empty() { String::new() } else { format!(" (at {path})") })]
pub(crate) struct DecodeError {
    /// Empty where the reason names the place itself.
    path: String,
    reason: String,
}

impl DecodeError {
    /// What stands in the store does not fit its type.
    pub(super) fn of_stored(error: &serde_json::Error) -> Self {
        Self { path: "object".to_owned(), reason: redact::json(error) }
    }

    /// Objects and lists are nested more deeply than what is stored may be.
    pub(crate) fn too_deep() -> Self {
        Self { path: String::new(), reason: "exceeded max depth".to_owned() }
    }
}

/// A typed value from a document; the error names the field.
pub(crate) fn typed<T: DeserializeOwned>(document: &Document) -> Result<T, DecodeError> {
    let text = |name: &str| document.value()[name].as_str();
    let schema = text("apiVersion").zip(text("kind"));
    let schema = schema.and_then(|(version, kind)| schema::of(version, kind));
    typed_as(document, schema)
}

/// As [`typed`], of a document that need not say what it is.
pub(crate) fn typed_as<T: DeserializeOwned>(
    document: &Document,
    schema: Option<Schema>,
) -> Result<T, DecodeError> {
    // Most fit: only what does not is read again, to find out where.
    if let Ok(object) = T::deserialize(document.value()) {
        let time = schema.and_then(|it| schema::fit::time_out_of_range(document.value(), it));
        return match time {
            Some(time) => {
                let reason = time.to_string();
                Err(DecodeError { path: time.path, reason })
            }
            None => Ok(object),
        };
    }
    serde_path_to_error::deserialize(document.value()).map_err(|error| {
        let (root, path) = (document.value(), redact::path(error.path()));
        if let Some((steps, schema)) = steps(error.path()).zip(schema) {
            // What Go says of a value of the wrong type names the place itself.
            if let Some(reason) = schema::fit::misfit(root, schema, steps.iter().copied()) {
                return DecodeError { path: String::new(), reason };
            }
            if let Some(corrupt) = schema::fit::corrupt_base64(root, schema, steps) {
                return DecodeError { path, reason: corrupt.to_string() };
            }
        }
        DecodeError { path, reason: redact::json(error.inner()) }
    })
}

fn steps(path: &serde_path_to_error::Path) -> Option<Vec<Step<'_>>> {
    path.iter()
        .map(|segment| match segment {
            Segment::Map { key } => Some(Step::Key(key)),
            Segment::Seq { index } => Some(Step::Index(*index)),
            _ => None,
        })
        .collect()
}
