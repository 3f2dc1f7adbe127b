//! Why a reconciliation did not finish. All of them are retried; what differs is how loudly they
//! are logged. None quotes the body of an object: of responses that do not decode they say the place only.

use coffer_api::reason::{CAUSE_NAMESPACE_TERMINATING, Reason};

pub(crate) use coffer_client::error::shown;

/// What went wrong while talking to the API.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server refused or could not be reached.
    #[error("{operation}: {}", shown(.source))]
    Api {
        /// What was being done, in words: `bind pod`.
        operation: &'static str,
        /// What kube says.
        source: kube::Error,
    },
    /// An object cannot be acted on as it is, for example because its selector is malformed.
    #[error("{0}")]
    Object(String),
    /// Part of the work is waiting for something that no watch will announce; try again soon.
    #[error("not finished: {0}")]
    Unfinished(&'static str),
    /// The work on a key panicked. What the panic says may quote an object and is not repeated.
    #[error("panicked: this is a bug")]
    Panicked,
}

impl Error {
    /// Names the operation that a kube error belongs to: `.map_err(Error::api("bind pod"))`.
    pub(crate) fn api(operation: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { operation, source }
    }

    /// Whether another client wrote first, so that a fresh read settles it.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { source, .. } if is_conflict(source))
    }

    /// Whether this is expected in normal operation and needs no warning.
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

/// The name is taken.
pub(crate) fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if Reason::from(&*status.reason) == Reason::AlreadyExists)
}

/// The object does not pass validation; for a patch that names a uid: it is another object now.
pub(crate) fn is_invalid(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 422)
}

/// The namespace is being deleted: nothing can be created in it, and nothing needs to be.
pub(crate) fn is_namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.any(|cause| cause.reason == CAUSE_NAMESPACE_TERMINATING)
}

/// Nothing is left to be done where the object no longer exists.
///
/// # Errors
/// Every other one.
pub(crate) fn ignore_not_found<T>(done: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(error) if is_not_found(&error) => Ok(()),
        other => other.map(drop),
    }
}

/// Nothing is left to be done where the object no longer exists, or was recreated (UID mismatch): for
/// writes whose one precondition is the uid.
///
/// # Errors
/// Every other one.
pub(crate) fn ignore_recreated<T>(done: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(error) if is_conflict(&error) => Ok(()),
        other => ignore_not_found(other),
    }
}

/// Nothing can be created in a namespace that is being deleted or does not exist, and nothing needs to
/// be where the object exists.
///
/// # Errors
/// Every other one.
pub(crate) fn ignore_uncreatable<T>(done: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(error) if is_already_exists(&error) || is_namespace_terminating(&error) => Ok(()),
        other => ignore_not_found(other),
    }
}

/// The message of an API error as the server words it.
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
