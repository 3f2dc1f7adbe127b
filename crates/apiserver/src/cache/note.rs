//! What the cache keeps of an object beside its bytes, and how a writer of this process hands it over.
//!
//! The registry has the typed object when it stores it. It notes on the stored value what the cache would
//! have to read out of the bytes again ([`Note`]); the cache takes it when the store's watch brings the
//! value, a moment later. Values that others wrote, or that are read at the start, have no note.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use coffer_store::Revision;

/// What an observer made of an object.
pub(crate) type Facts = Arc<dyn Any + Send + Sync>;

/// What objects are found by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Selectable fields beyond `metadata.name` and `metadata.namespace`.
    pub(crate) fields: Vec<(&'static str, String)>,
}

/// An entry, and for each observer of the kind what it made of the object.
pub(crate) struct Described {
    pub(crate) entry: Entry,
    pub(crate) facts: Vec<Option<Facts>>,
}

/// A writer's note on the value it stores.
pub(crate) struct Note {
    described: Mutex<Option<Described>>,
    stamped: OnceLock<(Revision, Bytes)>,
}

impl Note {
    pub(crate) fn new(described: Described) -> Self {
        Self { described: Mutex::new(Some(described)), stamped: OnceLock::new() }
    }

    /// What the writer says of the object; there is one cache, and it asks once.
    pub(super) fn take(&self) -> Option<Described> {
        self.described.lock().expect("no panic happens under this lock").take()
    }

    /// The bytes that are served, made by the first that wants them: the writer, for its answer, or the
    /// cache. The other shares them.
    pub(crate) fn stamped<E>(
        &self,
        revision: Revision,
        stamp: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let made = match self.stamped.get() {
            Some(made) => made,
            None => {
                let bytes = stamp()?;
                self.stamped.get_or_init(|| (revision, bytes))
            }
        };
        debug_assert_eq!(made.0, revision, "a value is written once");
        Ok(made.1.clone())
    }
}
