//! Why a reconciliation did not finish. All of them are retried; what differs is how loudly they
//! are logged. None quotes the body of an object: answers that do not decode are reduced to where.

use coffer_api::reason::{CAUSE_NAMESPACE_TERMINATING, Reason};
use coffer_api::redact;

/// What went wrong while talking to the API.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
}

impl Error {
    /// Names the operation that a kube error belongs to: `.map_err(Error::api("bind pod"))`.
    pub fn api(operation: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { operation, source }
    }

    /// Whether somebody else wrote first, so that a fresh read settles it.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { source, .. } if is_conflict(source))
    }

    /// Whether this is expected in normal operation and needs no warning.
    pub fn is_routine(&self) -> bool {
        self.is_conflict() || matches!(self, Self::Unfinished(_))
    }
}

/// The object, or what it depends on, does not exist.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// A precondition or resourceVersion no longer holds.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if Reason::from(&*status.reason) == Reason::Conflict)
}

/// The name is taken.
pub fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if Reason::from(&*status.reason) == Reason::AlreadyExists)
}

/// The object does not pass validation; for a patch that names a uid: it is another object now.
pub fn is_invalid(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 422)
}

/// The namespace is being deleted: nothing can be created in it, and nothing needs to be.
pub fn is_namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.any(|cause| cause.reason == CAUSE_NAMESPACE_TERMINATING)
}

/// The message of an API error as the server words it.
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => shown(other).to_string(),
    }
}

/// An error as it may be logged: what serde quotes of an answer that does not decode is left out.
pub fn shown(error: &kube::Error) -> impl std::fmt::Display + '_ {
    struct Shown<'a>(&'a kube::Error);
    impl std::fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self.0 {
                kube::Error::Api(status) => write!(f, "{} ({})", status.message, status.code),
                kube::Error::SerdeError(error) => {
                    write!(f, "the answer does not decode: {}", redact::json(error))
                }
                other => write!(f, "{other}"),
            }
        }
    }
    Shown(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A secret that is not base64 must not reach a log through serde's "invalid value" message.
    #[test]
    fn an_answer_that_does_not_decode_is_not_quoted() {
        let source = serde_json::from_str::<u32>("\"hunter2\"").unwrap_err();
        let error = Error::api("list secrets")(kube::Error::SerdeError(source));
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(error.to_string().starts_with("list secrets: the answer does not decode"));
    }
}
