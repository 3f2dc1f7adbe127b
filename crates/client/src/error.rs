//! Errors of requests, as they may be logged and shown: no decoder's quotes, no credentials.

use std::error::Error as StdError;
use std::{fmt, io};

use coffer_api::reason::Reason;
use coffer_api::redact;
use kube::client::AuthError;
use kube::config::{KubeconfigError, LoadDataError};

/// All that is said of credentials that cannot be used. Plugins and files of tokens are quoted by what they
/// are read with.
const CREDENTIALS: &str = "the credentials cannot be used";

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
                kube::Error::Api(status) if status.message.is_empty() => match &*status.reason {
                    "" => write!(f, "the response says nothing of the error ({})", status.code),
                    reason => write!(f, "{reason} ({})", status.code),
                },
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
                kube::Error::Auth(_) => f.write_str(CREDENTIALS),
                kube::Error::InferKubeconfig(error) => f.write_str(&kubeconfig(error)),
                kube::Error::RustlsTls(_) => f.write_str("the TLS settings cannot be used"),
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

/// What is wrong with a kubeconfig: names and paths, of the text no more than a place in it.
pub fn kubeconfig(error: &KubeconfigError) -> String {
    let load = |what: &str, error: &LoadDataError| match error {
        LoadDataError::ReadFile(error, path) => {
            format!("failed to read the {what} {}: {error}", path.display())
        }
        LoadDataError::DecodeBase64(_) => format!("the {what} is not base64"),
        LoadDataError::NoBase64DataOrFile => format!("no {what}"),
    };
    match error {
        KubeconfigError::CurrentContextNotSet
        | KubeconfigError::KindMismatch
        | KubeconfigError::ApiVersionMismatch
        | KubeconfigError::LoadContext(_)
        | KubeconfigError::LoadClusterOfContext(_)
        | KubeconfigError::FindPath
        | KubeconfigError::MissingClusterUrl => error.to_string(),
        KubeconfigError::ReadConfig(error, path) => {
            // What is read is decoded to text by the same call, whose errors quote nothing.
            format!("failed to read {}: {error}", path.display())
        }
        KubeconfigError::Parse(error) => match error.location() {
            Some(at) => format!("invalid YAML at line {} column {}", at.line(), at.column()),
            None => "invalid YAML".to_owned(),
        },
        KubeconfigError::ParseClusterUrl(_) => "invalid cluster url".to_owned(),
        KubeconfigError::ParseProxyUrl(_) => "invalid proxy url".to_owned(),
        KubeconfigError::LoadCertificateAuthority(error) => load("certificate authority", error),
        KubeconfigError::LoadClientCertificate(error) => load("client certificate", error),
        KubeconfigError::LoadClientKey(error) => load("client key", error),
        KubeconfigError::ParseCertificates(_) => "a certificate is not PEM".to_owned(),
    }
}

/// What may be said of an error that is known to quote what it is about; `None` for every other one.
pub fn held_back(error: &(dyn StdError + 'static)) -> Option<String> {
    if error.is::<AuthError>() {
        Some(CREDENTIALS.to_owned())
    } else if let Some(error) = error.downcast_ref() {
        Some(kubeconfig(error))
    } else if let Some(error) = error.downcast_ref::<serde_json::Error>() {
        Some(redact::json(error))
    } else {
        error.downcast_ref::<kube::Error>().map(|error| shown(error).to_string())
    }
}

/// The innermost cause, which for a failed connection is the one that a person can act on. A decoder's
/// loses what it quotes, and of credentials and kubeconfigs, wherever among the causes, it is said only
/// what [`held_back`] says.
pub fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    loop {
        if cause.is::<AuthError>() || cause.is::<KubeconfigError>() {
            break;
        }
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
    match cause.downcast_ref::<kube::Error>() {
        // It has no cause, so that what is said of it does not lead here again.
        Some(error) => shown(error).to_string(),
        None => held_back(cause).unwrap_or_else(|| cause.to_string()),
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

    /// The program's client passes requests on to another client, and a buffer is between the two.
    fn wrapped(error: AuthError) -> [kube::Error; 4] {
        let failed = |text: &str| AuthError::AuthExec(text.to_owned());
        let inner = kube::Error::Service(Box::new(failed("hunter2")));
        [
            kube::Error::Service(Box::new(kube::Error::Service(Box::new(error)))),
            kube::Error::Service(Box::new(inner)),
            kube::Error::ReadEvents(io::Error::other(failed("hunter2"))),
            kube::Error::Auth(failed("hunter2")),
        ]
    }

    #[test]
    fn of_credentials_nothing_is_quoted_wherever_the_error_is_among_the_causes() {
        let unread = serde_json::from_str::<u32>("\"hunter2\"").unwrap_err();
        let errors = [
            AuthError::ReadTokenFile(io::Error::other("hunter2"), "hunter2".into()),
            AuthError::ParseTokenKey(unread),
        ];
        for error in errors.into_iter().flat_map(wrapped) {
            let texts = [shown(&error).to_string(), root_cause(&error)];
            assert_eq!(texts, [CREDENTIALS, CREDENTIALS], "{error:?}");
        }
    }

    #[test]
    fn of_a_kubeconfig_places_and_names_are_said() {
        use kube::config::Kubeconfig;
        let text = "users:\n- name: u\n  user:\n    token: hunter2\n  - : hunter2\n";
        let error = Kubeconfig::from_yaml(text).unwrap_err();
        let said = kubeconfig(&error);
        assert!(said.starts_with("invalid YAML at line "), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        let error = kube::Error::Service(Box::new(kube::Error::InferKubeconfig(error)));
        assert_eq!(root_cause(&error), said);
        assert_eq!(shown(&error).to_string(), said);
        let unread = LoadDataError::ReadFile(io::Error::other("no such file"), "/a/b".into());
        let said = kubeconfig(&KubeconfigError::LoadClientKey(unread));
        assert_eq!(said, "failed to read the client key /a/b: no such file");
    }

    /// A watch whose events do not decode ends with a Status of nothing.
    #[test]
    fn an_error_without_a_message_is_said_by_its_reason() {
        let status = |reason| {
            let status = kube::core::Status::failure("", reason).with_code(500);
            shown(&kube::Error::Api(status.boxed())).to_string()
        };
        assert_eq!(status("InternalError"), "InternalError (500)");
        assert_eq!(status(""), "the response says nothing of the error (500)");
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
