//! Reads and writes of objects: what upstream calls the generic registry.
//!
//! A write takes [`Admitted`](crate::admission::admitted::Admitted) objects only, runs the kind's
//! strategy (prepare, validate), encodes once and lets the store decide by expected revision. It knows no HTTP: failures are [`Failure`]s.

mod delete;
mod list;
mod write;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use coffer_api::status::Failure;
use coffer_store::{Revision, Store, StoreError, Value};
use zeroize::Zeroizing;

pub(crate) use delete::{DeleteOptions, Deleted, preconditions};
pub(crate) use list::{ListQuery, Listed, Selection};
pub(crate) use write::{Change, Written};

use crate::cache::{Cache, CacheError, CachedObject, Described, Note};
use crate::failure::{store_failure, unavailable};
use crate::object::{self, Object, Resource, Resources};

/// Largest object that is written, in bytes, encoded and with its managedFields: what etcd takes of one
/// request.
pub(crate) const OBJECT_BYTES_MAX: usize = 3 * 512 * 1024;

/// Refuses an object that is too large. What an earlier release took may be replaced by what is no
/// larger: `old_bytes` is the length of what is replaced, 0 for nothing.
pub(crate) fn check_size(key: &str, bytes: usize, old_bytes: usize) -> Result<(), StoreError> {
    if bytes <= OBJECT_BYTES_MAX.max(old_bytes) {
        return Ok(());
    }
    Err(StoreError::TooLarge { key: key.to_owned(), bytes })
}

/// The store, its cache, and the table of kinds. Nothing above reaches the store: reads have the
/// methods here, writes take what admission yields.
pub(crate) struct Registry {
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    resources: Arc<Resources>,
}

impl Registry {
    /// A registry of what the store holds and the cache has loaded.
    pub(crate) fn new(store: Arc<dyn Store>, cache: Arc<Cache>, resources: Arc<Resources>) -> Self {
        Self { store, cache, resources }
    }

    /// The table of kinds.
    pub(crate) fn resources(&self) -> &Resources {
        &self.resources
    }

    /// The newest revision that reads from the cache see.
    pub(crate) fn revision(&self) -> Revision {
        self.cache.revision()
    }

    /// Waits until the cache has everything written before this call. Returns the revision that it
    /// has then.
    ///
    /// # Errors
    /// 503 or 504 where the store or the cache does not get there in time.
    pub(crate) async fn fresh(&self) -> Result<Revision, Failure> {
        self.cache.fresh().await.map_err(unavailable)
    }

    /// Waits until the cache has what was just written; for callers that go on to read it.
    ///
    /// # Errors
    /// As [`Registry::fresh`].
    pub(crate) async fn settle(&self) -> Result<(), Failure> {
        self.fresh().await.map(drop)
    }

    /// Whether the store can be read.
    pub(crate) async fn store_is_ready(&self) -> bool {
        self.store.revision().await.is_ok()
    }

    /// One object, as fresh as the store.
    ///
    /// # Errors
    /// 404, or 503 where the store cannot be read.
    pub(crate) async fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<CachedObject>, Failure> {
        let key = resource.key(namespace, name);
        let found = match self.cache.fresh().await {
            Ok(_) => resource.shard().get(&key),
            Err(CacheError::Stale { .. }) => self.stored(resource, &key).await?,
            Err(error) => return Err(unavailable(error)),
        };
        found.ok_or_else(|| Failure::not_found(resource.group_resource(), name))
    }

    /// One object from the store itself: where the cache is behind, reads are slow and not wrong.
    async fn stored(
        &self,
        resource: &Resource,
        key: &str,
    ) -> Result<Option<Arc<CachedObject>>, Failure> {
        let Some(found) = self.store.get(key).await.map_err(store_failure)? else {
            return Ok(None);
        };
        let object = resource.shard().index(key, found.value.as_bytes(), found.revision);
        Ok(Some(Arc::new(object)))
    }
}

/// An object on its way into the store: the value, which the cache need not decode.
struct Encoded<'a> {
    resource: &'a Resource,
    value: Value,
    note: Arc<Note>,
}

impl<'a> Encoded<'a> {
    /// The value of an object that is not changed any more.
    fn new(resource: &'a Resource, object: &dyn Object, mut encoded: Zeroizing<Vec<u8>>) -> Self {
        let facts = resource.shard().facts(object.as_any(), encoded.len());
        let note = Arc::new(Note::new(Described { entry: object::entry(object), facts }));
        let value = Value::noted(std::mem::take(&mut *encoded), note.clone());
        Self { resource, value, note }
    }

    /// The bytes that are served, which the cache has, too.
    fn stamped(&self, revision: Revision) -> Bytes {
        let stamp = || Ok::<_, Infallible>(stamped(self.resource, self.value.as_bytes(), revision));
        let Ok(bytes) = self.note.stamped(revision, stamp);
        bytes
    }
}

/// The bytes of an object that the store has given a revision.
pub(crate) fn stamped(resource: &Resource, stored: &[u8], revision: Revision) -> Bytes {
    crate::encoded::stamp(resource.head(), stored, revision)
        .expect("the registry encodes with the kind's own head")
}
