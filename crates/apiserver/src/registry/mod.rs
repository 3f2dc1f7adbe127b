//! Reads and writes of objects: what upstream calls the generic registry.
//!
//! A write takes [`Admitted`] objects only, runs the kind's strategy (prepare, validate), encodes
//! once and lets the store decide by expected revision. It knows no HTTP: failures are [`Failure`]s.

mod delete;
mod expire;
mod list;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use coffer_api::reason::Reason;
use coffer_api::status::Failure;
use coffer_store::{Revision, Store, StoreError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) use delete::{DeleteOptions, Deleted, preconditions};
pub(crate) use expire::expire_events;
pub(crate) use list::{ListQuery, Listed, Selection};
pub(crate) use write::{Change, Written};

use crate::cache::{Cache, CacheError, CachedObject};
use crate::object::{Resource, Resources};

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

/// The store, its cache, and the table of kinds.
pub(crate) struct Registry {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) resources: Resources,
}

impl Registry {
    /// One object, as fresh as the store.
    ///
    /// # Errors
    /// 404, or 503 where the store does not answer.
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
        object.map(|object| Some(Arc::new(object))).map_err(unavailable)
    }
}

/// Now, in whole seconds, as object metadata has it.
pub(crate) fn now() -> Time {
    let seconds = jiff::Timestamp::now().as_second();
    Time(jiff::Timestamp::from_second(seconds).expect("the present is in range"))
}

/// What a cache failure looks like to a client.
pub(crate) fn unavailable(error: CacheError) -> Failure {
    match error {
        CacheError::Store(error) => store_failure(error),
        CacheError::Stale { .. } => Failure::plain(
            Reason::Timeout,
            "Timeout: the watch cache has not caught up with the store",
        ),
        CacheError::Decode { .. } => Failure::internal(error),
    }
}

/// What a store failure that the registry does not handle looks like to a client.
pub(crate) fn store_failure(error: StoreError) -> Failure {
    match error {
        StoreError::Compacted { .. } => {
            Failure::expired("The resourceVersion for the provided list is too old.")
        }
        // As kube-apiserver hands on what etcd says: a Status without a reason.
        StoreError::TooLarge { .. } => {
            Failure::plain(Reason::Unknown, "etcdserver: request is too large")
        }
        StoreError::NoSpace => {
            Failure::plain(Reason::Unknown, "etcdserver: mvcc: database space exceeded")
        }
        StoreError::Closed(_) => {
            Failure::plain(Reason::ServiceUnavailable, "the server is shutting down")
        }
        other => Failure::internal(other),
    }
}

/// The bytes of an object the store answered with a revision.
pub(crate) fn stamped(resource: &Resource, stored: &[u8], revision: Revision) -> Bytes {
    crate::encoded::stamp(resource.head(), stored, revision)
        .expect("the registry encodes with the kind's own head")
}
