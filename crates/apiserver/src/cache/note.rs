//! What the cache keeps of an object in addition to its bytes, and how a writer of this process hands it over.
//!
//! The registry has the typed object when it stores it. It notes on the stored value what the cache would
//! have to read out of the bytes again ([`Note`]); the cache takes it when the store's watch brings the
//! value, a moment later. Values that others wrote, or that are read at the start, have no note.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use coffer_store::Revision;
use parking_lot::Mutex;

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

/// A writer's note on the value it stores. Of a payload it holds no more than the value itself does, and
/// that only until writer and cache both have it.
pub(crate) struct Note {
    described: Mutex<Option<Described>>,
    stamped: Mutex<Option<(Revision, Bytes)>>,
}

impl Note {
    pub(crate) fn new(described: Described) -> Self {
        Self { described: Mutex::new(Some(described)), stamped: Mutex::new(None) }
    }

    /// What the writer says of the object; there is one cache, and it asks once.
    pub(super) fn take(&self) -> Option<Described> {
        self.described.lock().take()
    }

    /// The bytes that are served, made by the first that wants them: the writer, for its response, or the
    /// cache. The other takes them, so that the note keeps nothing of an object that the cache has dropped.
    ///
    /// # Errors
    /// What `stamp` returns.
    pub(crate) fn stamped<E>(
        &self,
        revision: Revision,
        stamp: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        // Under the lock, so that the second waits and does not make them again.
        let mut made = self.stamped.lock();
        if let Some((_, bytes)) = made.take_if(|(of, _)| *of == revision) {
            return Ok(bytes);
        }
        let bytes = stamp()?;
        *made = Some((revision, bytes.clone()));
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn note() -> Note {
        Note::new(Described { entry: Entry::default(), facts: Vec::new() })
    }

    fn stamped(note: &Note, revision: Revision, bytes: &'static [u8]) -> Bytes {
        let Ok(bytes) = note.stamped(revision, || Ok::<_, Infallible>(Bytes::from_static(bytes)));
        bytes
    }

    #[test]
    fn writer_and_cache_share_the_bytes_and_the_note_keeps_none() {
        let note = note();
        assert_eq!(stamped(&note, 7, b"first"), "first");
        assert_eq!(stamped(&note, 7, b"second"), "first");
        assert!(note.stamped.lock().is_none());
    }

    /// An engine that hands a value on with a revision that the writer was not given.
    #[test]
    fn bytes_of_another_revision_are_not_served() {
        let note = note();
        assert_eq!(stamped(&note, 7, b"seven"), "seven");
        assert_eq!(stamped(&note, 8, b"eight"), "eight");
    }

    #[test]
    fn a_value_that_cannot_be_stamped_is_an_error_for_writer_and_cache() {
        let note = note();
        assert_eq!(note.stamped(7, || Err("not an object")), Err("not an object"));
        assert_eq!(stamped(&note, 7, b"seven"), "seven");
    }

    #[test]
    fn the_entry_and_facts_of_a_note_are_taken_once() {
        let note = note();
        assert!(note.take().is_some());
        assert!(note.take().is_none());
    }
}
