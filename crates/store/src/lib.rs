//! Revisions, compare-and-swap and watch: the contract of every storage engine.
//!
//! The store has keys and opaque values; it knows nothing of kinds, JSON and HTTP. Keys are like etcd's
//! (`/registry/secrets/myns/mysecret`), so that a prefix selects a kind or a namespace of it. The registry
//! writes; [`Store::watch`] returns the changes.

pub mod embedded;
pub mod sealed;

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use zeroize::Zeroizing;

/// Position in the one sequence of writes over the whole store. The first write gets 1.
pub type Revision = u64;

/// Stored bytes, erased from memory when the last holder drops them. `Debug` prints a length only.
#[derive(Clone)]
pub struct Value(Arc<Content>);

struct Content {
    bytes: Zeroizing<Vec<u8>>,
    /// If the bytes were sealed by this process: for which key, and from which value. A watcher that gets the
    /// same value of a write then need not decrypt it.
    sealed_from: Option<(Box<str>, Value)>,
    note: Option<Note>,
}

/// What a writer knows of a value beyond its bytes, for a watcher in the same process, so that it need
/// not read them again. Nothing of it is stored: a watcher finds it with a value that it is handed right
/// after the write, and has to do without it otherwise. It is dropped with the value.
pub type Note = Arc<dyn Any + Send + Sync>;

impl Value {
    /// Takes ownership of the bytes; no copy is made.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Content { bytes: Zeroizing::new(bytes), sealed_from: None, note: None }))
    }

    /// As [`Value::new`], with a note for watchers in this process.
    pub fn noted(bytes: Vec<u8>, note: Note) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self(Arc::new(Content { bytes, sealed_from: None, note: Some(note) }))
    }

    /// The writer's note, if this is the very value that it wrote.
    pub fn note(&self) -> Option<&Note> {
        self.0.note.as_ref()
    }

    /// Bytes that were just sealed for a key, and the value that they were sealed from.
    pub(crate) fn sealed(bytes: Vec<u8>, key: &str, from: Value) -> Self {
        let sealed_from = Some((key.into(), from));
        Self(Arc::new(Content { bytes: Zeroizing::new(bytes), sealed_from, note: None }))
    }

    /// The value that these bytes were sealed from, if this process did it for this key.
    pub(crate) fn sealed_from(&self, key: &str) -> Option<&Value> {
        self.0.sealed_from.as_ref().filter(|(sealed_for, _)| **sealed_for == *key).map(|it| &it.1)
    }

    /// The stored bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Value {}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({} bytes)", self.as_bytes().len())
    }
}

/// One key's state at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The key, as written.
    pub key: String,
    /// The bytes, as written.
    pub value: Value,
    /// The revision of the write that made this state.
    pub revision: Revision,
}

/// Which part of a prefix to list, and at which revision.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// At most this many items; `None` for all.
    pub limit: Option<usize>,
    /// Start strictly after this key: the last key of the page before.
    pub after: Option<String>,
    /// The revision to read at; `None` for the newest. A compacted one returns [`StoreError::Compacted`], one
    /// that is not reached yet [`StoreError::Future`].
    pub revision: Option<Revision>,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// Items in key order.
    pub items: Vec<Versioned>,
    /// The revision the whole page was read at; pass it on to read the next page of the same state.
    pub revision: Revision,
    /// How many items of the prefix follow this page, 0 on the last one.
    pub remaining: usize,
}

/// What a write did to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key did not exist before.
    Created(Value),
    /// The key existed and has a new value. The value before the write is not read for this: a watcher that
    /// needs it has kept it.
    Updated(Value),
    /// The key was removed.
    Deleted,
}

/// One write, as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The revision of the write.
    pub revision: Revision,
    /// The key written.
    pub key: String,
    /// What happened to it.
    pub change: Change,
}

/// Why an operation failed. No variant contains a value.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// `create` found the key in place.
    #[error("key exists: {key}")]
    Exists {
        /// The key.
        key: String,
    },
    /// `update` or `delete` found no such key.
    #[error("key not found: {key}")]
    NotFound {
        /// The key.
        key: String,
    },
    /// `update` or `delete` expected a revision that the key no longer has.
    #[error("revision conflict on {key}: expected {expected}, found {found}")]
    Conflict {
        /// The key.
        key: String,
        /// What the caller expected.
        expected: Revision,
        /// What the store holds.
        found: Revision,
    },
    /// The revision asked for has been compacted away.
    #[error("revision {requested} has been compacted; the oldest is {oldest}")]
    Compacted {
        /// What the caller asked for.
        requested: Revision,
        /// The oldest revision still served.
        oldest: Revision,
    },
    /// The revision asked for has not happened yet.
    #[error("revision {requested} is in the future; the newest is {newest}")]
    Future {
        /// What the caller asked for.
        requested: Revision,
        /// The newest revision.
        newest: Revision,
    },
    /// The watcher read too slowly and its bounded queue overflowed; it must list again.
    #[error("watcher fell behind at revision {at}")]
    Lagged {
        /// The last revision that was delivered or queued.
        at: Revision,
    },
    /// A value could not be sealed or opened (wrong key, changed bytes, moved to another key).
    #[error("sealed value at {key} cannot be opened: {reason}")]
    Sealed {
        /// The key.
        key: String,
        /// Why, without any byte of the value.
        reason: String,
    },
    /// The key or the value is longer than the store's limits.
    #[error("{key}: a value of {bytes} bytes, or its key, is too large for the store")]
    TooLarge {
        /// The key, or its beginning.
        key: String,
        /// The length of the value.
        bytes: usize,
    },
    /// The quota is exceeded: only writes that free space succeed.
    #[error("database space exceeded")]
    NoSpace,
    /// The store is shutting down or its writer has failed; nothing later was written.
    #[error("store is closed: {0}")]
    Closed(String),
    /// The disk or the network returned an error.
    #[error("store I/O: {0}")]
    Io(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The guarantees of every engine.
///
/// *Durability*: a write returns after it has been fsynced, never before. *Order*: revisions are dense and
/// start at 1; a watcher gets every write of its prefix once, in revision order; before a write returns its
/// event is queued for every watcher. *Atomicity*: after a crash, a write that did not return is either
/// complete or absent. A caller that stops waiting for a write does not undo it.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The newest state of one key.
    async fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError>;

    /// A page of the keys that start with `prefix`.
    async fn list(&self, prefix: &str, options: ListOptions) -> Result<Page, StoreError>;

    /// Writes a key that must not exist; returns its revision.
    async fn create(&self, key: &str, value: Value) -> Result<Revision, StoreError>;

    /// Replaces the value of a key that is still at `expected`; returns its new revision.
    async fn update(
        &self,
        key: &str,
        value: Value,
        expected: Revision,
    ) -> Result<Revision, StoreError>;

    /// Removes a key that is still at `expected`; returns the revision of the removal.
    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, StoreError>;

    /// Every write under `prefix` with a revision greater than `after`, and those to come. An
    /// `after` whose following writes are no longer all there is [`StoreError::Compacted`], one that
    /// has not been reached is [`StoreError::Future`]. The stream ends after an error; a dropped
    /// stream costs nothing further.
    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Event, StoreError>>, StoreError>;

    /// The revision of the newest write that has returned or is visible to reads.
    async fn revision(&self) -> Result<Revision, StoreError>;

    /// Removes history before `before`: its states can no longer be listed nor watched from. The state at
    /// `before` itself can. Engines also compact by themselves.
    async fn compact(&self, before: Revision) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine that confuses two keys must not return the wrong plaintext because of this shortcut.
    #[test]
    fn the_value_that_was_sealed_is_returned_for_its_own_key_only() {
        let sealed = Value::sealed(b"sealed".to_vec(), "/a", Value::new(b"plain".to_vec()));
        assert_eq!(sealed.sealed_from("/a").map(Value::as_bytes), Some(&b"plain"[..]));
        assert!(sealed.sealed_from("/b").is_none());
        assert_eq!(sealed, Value::new(b"sealed".to_vec()));
        assert!(Value::new(b"sealed".to_vec()).sealed_from("/a").is_none());
    }
}
