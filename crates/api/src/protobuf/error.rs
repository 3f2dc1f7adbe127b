//! Why a body is refused. No message holds a value from it.

use std::fmt;

/// Why a protobuf body is not an object. The first three are worded as upstream words them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// No bytes at all.
    #[error("empty data")]
    EmptyData,
    /// The four bytes before every envelope are missing.
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    NoPrefix,
    /// Nothing follows the four bytes.
    #[error("empty body")]
    EmptyBody,
    /// The envelope itself cannot be read.
    #[error("malformed envelope: {0}")]
    Envelope(Malformed),
    /// The envelope says that the object is compressed or otherwise wrapped; no client does that.
    #[error("the envelope's contentEncoding is not supported")]
    ContentEncoding,
    /// The envelope does not say what it holds.
    #[error("Object '{0}' is missing in the envelope")]
    MissingType(&'static str),
    /// No request carries an object of this kind.
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind {
        /// As the envelope has it.
        api_version: String,
        /// As the envelope has it.
        kind: String,
    },
    /// The object's message cannot be read.
    #[error("{path}: {cause}")]
    Field {
        /// The place in the JSON, as far as it was understood: `spec.containers[0].name`.
        path: FieldPath,
        /// What is wrong there.
        cause: Malformed,
    },
}

/// What is wrong with bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A length or a number runs past the end.
    #[error("unexpected EOF")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("integer overflow")]
    Overflow,
    /// A field number that no message can have, or a wire type that does not exist.
    #[error("illegal tag")]
    IllegalTag,
    /// The end of a group that was not begun.
    #[error("unexpected end of group")]
    EndOfGroup,
    /// The field is known and is of another type.
    #[error("wrong wire type")]
    WireType,
    /// Text that is not UTF-8.
    #[error("invalid UTF-8")]
    NotUtf8,
    /// Embedded JSON that is not JSON.
    #[error("invalid JSON")]
    NotJson,
    /// Far more memory than bytes.
    #[error("too many values")]
    TooMuch,
    /// A time beyond the years that RFC 3339 can write, or a union's unknown member.
    #[error("value out of range")]
    OutOfRange,
}

/// Where in an object; built from the inside out, while an error travels up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(String);

impl ProtobufError {
    /// The same error, seen from one field further out.
    pub(super) fn within(mut self, field: &str) -> Self {
        if let Self::Field { path: FieldPath(path), .. } = &mut self {
            let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
            path.insert_str(0, dot);
            path.insert_str(0, field);
        }
        self
    }

    /// The same error, seen from the list that holds the item.
    pub(super) fn at_index(self, index: usize) -> Self {
        self.within(&format!("[{index}]"))
    }
}

/// At the place itself.
impl From<Malformed> for ProtobufError {
    fn from(cause: Malformed) -> Self {
        Self::Field { path: FieldPath::default(), cause }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "object" } else { &self.0 })
    }
}
