//! What errors of the store and of the cache look like to a client, and failures that several handlers share.

use coffer_api::reason::Reason;
use coffer_api::status::Failure;
use coffer_store::StoreError;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cache::CacheError;

/// When a refused client should come back, in seconds.
const RETRY_AFTER_S: i32 = 1;

/// A read that the cache could not serve.
pub(crate) fn unavailable(error: CacheError) -> Failure {
    match error {
        CacheError::Store(error) => store_failure(error),
        CacheError::Stale { .. } => Failure::plain(
            Reason::Timeout,
            "Timeout: the watch cache has not caught up with the store",
        ),
    }
}

/// Refuses an object of another namespace than the URL's; one without a namespace is of that.
///
/// # Errors
/// 400.
pub(crate) fn same_namespace(meta: &ObjectMeta, namespace: &str) -> Result<(), Failure> {
    match meta.namespace.as_deref() {
        Some(own) if !own.is_empty() && own != namespace => Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
        _ => Ok(()),
    }
}

/// The failure for an error of the store that has no more specific one.
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
        StoreError::Closed(_) => shutting_down(),
        other => Failure::internal(other),
    }
}

/// 503 for work that the server does not begin any more.
pub(crate) fn shutting_down() -> Failure {
    Failure::plain(Reason::ServiceUnavailable, "the server is shutting down")
}

/// 429 with Retry-After.
pub(crate) fn too_many_requests() -> Failure {
    Failure::too_many_requests("Too many requests, please try again later.", RETRY_AFTER_S)
}
