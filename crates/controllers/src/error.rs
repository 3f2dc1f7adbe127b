//! Errors of reconciliations. All are retried; expected ones are logged at debug level only. None quotes the
//! body of an object: the error of a response that does not decode has the position only.

use coffer_api::reason::{CAUSE_NAMESPACE_TERMINATING, Reason};

pub(crate) use coffer_client::error::shown;

/// Why a reconciliation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server rejected the request or could not be reached.
    #[error("{operation}: {}", shown(.source))]
    Api {
        /// The operation, for messages: `bind pod`.
        operation: &'static str,
        /// The error of the client.
        source: kube::Error,
    },
    /// The object is invalid, for example because its selector is malformed.
    #[error("{0}")]
    Object(String),
    /// Part of the work waits for something that is not watched; it is retried.
    #[error("not finished: {0}")]
    Unfinished(&'static str),
    /// The work on a key panicked. What the panic says may quote an object and is not repeated.
    #[error("panicked: this is a bug")]
    Panicked,
}

impl Error {
    /// Adds the operation to a client's error: `.map_err(Error::api("bind pod"))`.
    pub(crate) fn api(operation: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { operation, source }
    }

    /// Whether another client wrote first: it succeeds after a fresh read.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { source, .. } if is_conflict(source))
    }

    /// Whether this is expected in normal operation.
    pub(crate) fn is_routine(&self) -> bool {
        self.is_conflict() || matches!(self, Self::Unfinished(_))
    }
}

/// The object, or what it depends on, does not exist.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// A precondition or resourceVersion no longer holds.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if Reason::from(&*status.reason) == Reason::Conflict)
}

/// The name is in use.
pub(crate) fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if Reason::from(&*status.reason) == Reason::AlreadyExists)
}

/// The object is invalid. For a patch with a uid: the object was recreated.
pub(crate) fn is_invalid(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 422)
}

/// The namespace is being deleted: objects cannot and need not be created in it.
pub(crate) fn is_namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.any(|cause| cause.reason == CAUSE_NAMESPACE_TERMINATING)
}

/// Success where the object no longer exists.
///
/// # Errors
/// All others.
pub(crate) fn ignore_not_found<T>(done: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(error) if is_not_found(&error) => Ok(()),
        other => other.map(drop),
    }
}

/// Success where the object no longer exists, or was recreated (UID mismatch): for writes whose only
/// precondition is the uid.
///
/// # Errors
/// All others.
pub(crate) fn ignore_recreated<T>(done: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(error) if is_conflict(&error) => Ok(()),
        other => ignore_not_found(other),
    }
}

/// Success where the object exists already, or its namespace does not exist or is being deleted.
///
/// # Errors
/// All others.
pub(crate) fn ignore_uncreatable<T>(done: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(error) if is_already_exists(&error) || is_namespace_terminating(&error) => Ok(()),
        other => ignore_not_found(other),
    }
}

/// The server's message of an API error.
pub(crate) fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => shown(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A secret that is not base64 must not reach a log through serde's "invalid value" message.
    #[test]
    fn a_response_that_does_not_decode_is_not_quoted() {
        let source = serde_json::from_str::<u32>("\"hunter2\"").unwrap_err();
        let error = Error::api("list secrets")(kube::Error::SerdeError(source));
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(error.to_string().starts_with("list secrets: the response does not decode"));
    }
}
