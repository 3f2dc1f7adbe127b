//! The envelope around every object: `runtime.Unknown` behind four bytes.
//!
//! ```text
//! 6b 38 73 00                       "k8s\0"
//! 1: TypeMeta { 1: apiVersion, 2: kind }
//! 2: the object's message
//! 3: contentEncoding                empty: no one compresses inside the envelope
//! 4: contentType                    ignored, as upstream does
//! ```

use super::error::{Malformed, ProtobufError};
use super::wire::Reader;

const PREFIX: &[u8] = b"k8s\0";

/// What the envelope says and holds.
pub(super) struct Envelope<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) raw: &'a [u8],
}

/// Takes a body apart.
pub(super) fn open(body: &[u8]) -> Result<Envelope<'_>, ProtobufError> {
    if body.is_empty() {
        return Err(ProtobufError::EmptyData);
    }
    let unknown = body.strip_prefix(PREFIX).ok_or(ProtobufError::NoPrefix)?;
    if unknown.is_empty() {
        return Err(ProtobufError::EmptyBody);
    }
    let Parts { envelope, content_encoding } = read(unknown).map_err(ProtobufError::Envelope)?;
    if !content_encoding.is_empty() {
        return Err(ProtobufError::ContentEncoding);
    }
    if envelope.kind.is_empty() {
        return Err(ProtobufError::MissingType("Kind"));
    }
    if envelope.api_version.is_empty() {
        return Err(ProtobufError::MissingType("apiVersion"));
    }
    Ok(envelope)
}

struct Parts<'a> {
    envelope: Envelope<'a>,
    content_encoding: &'a [u8],
}

fn read(unknown: &[u8]) -> Result<Parts<'_>, Malformed> {
    let envelope = Envelope { api_version: "", kind: "", raw: &[] };
    let mut parts = Parts { envelope, content_encoding: &[] };
    let mut reader = Reader::new(unknown);
    while let Some((number, payload)) = reader.field()? {
        match number {
            1 => read_type(payload.bytes()?, &mut parts.envelope)?,
            2 => parts.envelope.raw = payload.bytes()?,
            3 => parts.content_encoding = payload.bytes()?,
            _ => {}
        }
    }
    Ok(parts)
}

fn read_type<'a>(type_meta: &'a [u8], envelope: &mut Envelope<'a>) -> Result<(), Malformed> {
    let mut reader = Reader::new(type_meta);
    while let Some((number, payload)) = reader.field()? {
        match number {
            1 => envelope.api_version = payload.text()?,
            2 => envelope.kind = payload.text()?,
            _ => {}
        }
    }
    Ok(())
}
