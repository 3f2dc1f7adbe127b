//! An untyped JSON object on its way to or from a typed one: bodies before decoding, patch targets.
//!
//! It may hold a Secret, so it erases every string when dropped and does not print its content.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

/// How deep an object that is stored may be nested. It has to be read again: by the server, and within a list, a
/// table or an event of a watch by clients, of which .NET's read 64 levels and Rust's 128. YAML is read no deeper
/// either, because each level takes of a thread's stack. Go's decoders read 10,000 levels, so that upstream takes
/// any. No kind needs half as much but for what nothing looks at: the fields of managers, which a pod template may
/// have, too.
pub const NESTING_MAX: usize = 48;

/// A JSON tree that erases its strings on drop.
#[derive(Clone, Default, PartialEq)]
pub struct Document(Value);

impl Document {
    /// Wraps a tree; from here on it is erased on drop.
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    /// The tree.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// The tree, to change in place. What is cut out of it is the caller's to wrap again.
    pub fn value_mut(&mut self) -> &mut Value {
        &mut self.0
    }

    /// The typed object this document describes.
    ///
    /// # Errors
    /// What does not fit the type, as serde says it.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.0)
    }

    /// The document of a typed object.
    ///
    /// # Errors
    /// Only a map with keys that are not strings fails; no API type has one.
    pub fn encode<T: Serialize>(object: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_value(object).map(Self)
    }

    /// How many objects and lists are within each other at the deepest place, the outermost counted.
    pub fn nesting(&self) -> usize {
        nesting(&self.0)
    }

    /// Its length as JSON, in bytes.
    pub fn json_len(&self) -> usize {
        json_len(&self.0)
    }

    /// The document as JSON, written in one piece: a buffer that grows leaves copies behind.
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(json_len(&self.0)));
        // As in `json_len`.
        let _ = serde_json::to_writer(&mut *bytes, &self.0);
        bytes
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Document(..)")
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        erase(&mut self.0);
    }
}

/// As [`Document::nesting`].
pub(crate) fn nesting(value: &Value) -> usize {
    let of = |deepest: Option<usize>| 1 + deepest.unwrap_or(0);
    match value {
        Value::Array(items) => of(items.iter().map(nesting).max()),
        Value::Object(fields) => of(fields.values().map(nesting).max()),
        _ => 0,
    }
}

/// Overwrites every string value in the tree.
pub fn erase(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(erase),
        Value::Object(fields) => fields.values_mut().for_each(erase),
        _ => {}
    }
}

/// The size of a value as JSON, without writing it anywhere.
pub(crate) fn json_len(value: &Value) -> usize {
    struct Count(usize);

    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    // A tree writes without error into something that takes everything.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}
