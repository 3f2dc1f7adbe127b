//! Kubernetes' protobuf bodies (`application/vnd.kubernetes.protobuf`), as JSON documents.
//!
//! kubectl's `create` verbs and client-go's typed clients send objects in this form and have no
//! other to fall back to; answers they take as JSON. [`decode`] gives what the same client would
//! have sent as JSON, so that everything behind it knows one form only.
//!
//! A body is an envelope ([`envelope`]) around one message. What a message's fields are called in
//! JSON is data: [`tables`], one file for each API group, in the terms of [`message`]. [`value`]
//! walks a message by its table and writes the document, [`scalar`] knows the types whose JSON is
//! not their message (times, quantities), [`wire`] knows the encoding and nothing of Kubernetes.
//!
//! A message may be a Secret: text and bytes go from the body straight into the [`Document`],
//! which erases them, also when decoding fails half way. Errors name fields, never values.

mod envelope;
mod error;
pub(crate) mod message;
mod scalar;
pub(crate) mod tables;
#[cfg(test)]
mod tests;
mod value;
mod wire;

use serde_json::{Map, Value};

use crate::Document;
use crate::schema::read::Budget;
use envelope::Envelope;
pub use error::{Malformed, ProtobufError};

/// The JSON document of the object in a protobuf body, its `apiVersion` and `kind` set.
///
/// The document is what Go's JSON encoder makes of the object, but that null is left out: absent
/// times, and lists and maps that Go's types do not mark `omitempty`. Fields with numbers that are
/// not known here are skipped, as upstream does: they are a newer client's.
///
/// # Errors
/// What is no envelope, is of a kind that no request carries, or is cut off or malformed.
pub fn decode(body: &[u8]) -> Result<Document, ProtobufError> {
    decode_within(body, &mut Budget::of_body(body.len()))
}

/// As [`decode`], within a budget.
///
/// # Errors
/// As [`decode`]; of no interest where the budget is exceeded.
pub fn decode_within(body: &[u8], budget: &mut Budget) -> Result<Document, ProtobufError> {
    let Envelope { api_version, kind, raw } = envelope::open(body)?;
    let message = tables::message(api_version, kind).ok_or_else(|| ProtobufError::UnknownKind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    })?;
    // A document from the beginning: what an error leaves half written is erased with it.
    let mut document = Document::new(Value::Object(Map::new()));
    let fields = document.value_mut().as_object_mut().expect("made an object above");
    value::message(raw, message, fields, budget)?;
    fields.insert("apiVersion".to_owned(), api_version.into());
    fields.insert("kind".to_owned(), kind.into());
    Ok(document)
}
