//! Errors of requests, as they may be logged and shown: no decoder's quotes, no credentials.

use std::error::Error as StdError;
use std::{fmt, io};

use coffer_api::reason::Reason;
use coffer_api::redact;

/// Whether the API server refused for one of these reasons. Where it gave none that is known, as a proxy
/// in front of it gives none, the HTTP code counts, as it does for upstream's clients.
pub fn has_reason(error: &kube::Error, reasons: &[Reason]) -> bool {
    let kube::Error::Api(status) = error else { return false };
    match Reason::from(&*status.reason) {
        Reason::Unknown => reasons.iter().any(|reason| reason.code() == status.code),
        found => reasons.contains(&found),
    }
}

/// The object, or what it depends on, does not exist.
pub fn is_not_found(error: &kube::Error) -> bool {
    has_reason(error, &[Reason::NotFound])
}

/// A precondition or the resourceVersion does not hold.
pub fn is_conflict(error: &kube::Error) -> bool {
    has_reason(error, &[Reason::Conflict])
}

/// The name is in use.
pub fn is_already_exists(error: &kube::Error) -> bool {
    has_reason(error, &[Reason::AlreadyExists])
}

/// The object is invalid. For a patch with a uid: the object was recreated.
pub fn is_invalid(error: &kube::Error) -> bool {
    has_reason(error, &[Reason::Invalid])
}

/// An error as it may be logged.
///
/// Kinds of errors are let through, not kept back: what authentication plugins and kubeconfigs say, for
/// one, holds what they are given.
pub fn shown(error: &kube::Error) -> impl fmt::Display + '_ {
    struct Shown<'a>(&'a kube::Error);
    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0 {
                kube::Error::Api(status) => write!(f, "{} ({})", status.message, status.code),
                kube::Error::SerdeError(error) => {
                    write!(f, "the response does not decode: {}", redact::json(error))
                }
                kube::Error::HyperError(error) => f.write_str(&root_cause(error)),
                kube::Error::Service(error) => f.write_str(&root_cause(&**error)),
                kube::Error::ReadEvents(error) => f.write_str(&root_cause(error)),
                kube::Error::HttpError(error) => f.write_str(&root_cause(error)),
                kube::Error::FromUtf8(_) => f.write_str("the response is not UTF-8"),
                kube::Error::BuildRequest(_) => f.write_str("the request cannot be built"),
                kube::Error::Auth(_) => f.write_str("the credentials cannot be used"),
                _ => f.write_str("the request failed in the client"),
            }
        }
    }
    Shown(error)
}

/// The server's message of an API error; of another error, what may be logged of it.
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => shown(other).to_string(),
    }
}

/// The innermost cause, which for a failed connection is the one that a person can act on. A decoder's
/// loses what it quotes.
pub fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    loop {
        // An error of I/O shows the one that it was made of, but has that one's source as its own.
        let inner: Option<&(dyn StdError + 'static)> =
            match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(made_of) => Some(made_of),
                None => cause.source(),
            };
        match inner {
            Some(inner) => cause = inner,
            None => break,
        }
    }
    match cause.downcast_ref() {
        Some(decoder) => redact::json(decoder),
        None => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder() -> serde_json::Error {
        serde_json::from_str::<u32>("\"hunter2\"").unwrap_err()
    }

    #[test]
    fn a_reason_counts_and_the_code_only_without_a_reason_that_is_known() {
        let refusal = |reason: &str, code| {
            let status = kube::core::Status::failure("no", reason).with_code(code);
            kube::Error::Api(Box::new(status))
        };
        assert!(is_not_found(&refusal("NotFound", 404)));
        assert!(is_conflict(&refusal("Conflict", 409)));
        assert!(!is_conflict(&refusal("AlreadyExists", 409)));
        assert!(is_already_exists(&refusal("AlreadyExists", 409)));
        assert!(is_invalid(&refusal("Invalid", 422)));
        assert!(is_not_found(&refusal("Failed to parse error data", 404)), "a proxy's");
        assert!(!is_not_found(&refusal("", 409)));
        let reasons = [Reason::Invalid, Reason::BadRequest];
        assert!(has_reason(&refusal("BadRequest", 400), &reasons));
        assert!(!has_reason(&kube::Error::SerdeError(decoder()), &reasons));
    }

    #[test]
    fn a_response_that_does_not_decode_is_not_quoted() {
        for error in [
            kube::Error::SerdeError(decoder()),
            kube::Error::Service(Box::new(decoder())),
            kube::Error::ReadEvents(std::io::Error::other(decoder())),
        ] {
            let shown = [shown(&error).to_string(), root_cause(&error)];
            assert!(shown.iter().all(|text| !text.contains("hunter2")), "{shown:?}");
            assert!(shown[0].contains("expected u32"), "{shown:?}");
        }
    }

    #[test]
    fn the_servers_message_and_code_are_shown() {
        let status = kube::core::Status::failure("pods \"a\" not found", "NotFound").with_code(404);
        let error = kube::Error::Api(status.boxed());
        assert_eq!(shown(&error).to_string(), "pods \"a\" not found (404)");
        assert!(is_not_found(&error));
        assert!(!is_not_found(&kube::Error::LinesCodecMaxLineLengthExceeded));
    }
}
