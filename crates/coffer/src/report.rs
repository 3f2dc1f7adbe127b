//! An error as one line for standard error and for the log.

use std::error::Error as StdError;

use coffer_client::error::held_back;
use tokio::task::JoinError;

/// An error with its causes. A cause that its parent already quotes is not repeated. Of errors that are
/// known to quote credentials, responses or data it has what may be said, and not their own causes.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let raw = cause.to_string();
        let safe = safe(cause);
        let message = match &safe {
            Some(safe) if raw.is_empty() => safe,
            Some(safe) => {
                // A parent that quotes it has quoted it as it was.
                text = text.replace(&raw, safe);
                safe
            }
            None => &raw,
        };
        if text.is_empty() {
            text.clone_from(message);
        } else if !text.contains(&**message) {
            text.push_str(": ");
            text.push_str(message);
        }
        if safe.is_some() {
            break;
        }
    }
    text.replace(char::is_control, " ")
}

/// What may be said of an error that is known to quote what it is about.
fn safe(error: &(dyn StdError + 'static)) -> Option<String> {
    // The message of a panic may quote anything; the log has where it was.
    let panicked = error.downcast_ref::<JoinError>().is_some_and(JoinError::is_panic);
    panicked.then(|| "it panicked".to_owned()).or_else(|| held_back(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot wait: {0}")]
    struct Quoting(#[source] kube::Error);

    #[test]
    fn credentials_responses_and_panics_are_not_quoted() {
        use kube::client::AuthError;
        let auth = || kube::Error::Auth(AuthError::AuthExec("hunter2".to_owned()));
        let unread = serde_json::from_str::<u32>("\"hunter2\"").unwrap_err();
        for (error, expected) in [
            (anyhow::Error::new(auth()), "the credentials cannot be used"),
            (
                anyhow::Error::new(auth()).context("cannot join"),
                "cannot join: the credentials cannot be used",
            ),
            (anyhow::Error::new(Quoting(auth())), "cannot wait: the credentials cannot be used"),
            (
                anyhow::Error::new(Quoting(kube::Error::Service(Box::new(auth())))),
                "cannot wait: the credentials cannot be used",
            ),
            (
                anyhow::Error::new(kube::Error::SerdeError(unread)),
                "the response does not decode: invalid type: string, expected u32 at line 1 column 9",
            ),
        ] {
            assert_eq!(one_line(&error), expected);
        }
    }

    #[tokio::test]
    async fn a_panic_is_not_quoted() {
        let panic = tokio::spawn(async { panic!("{}", String::from("hunter2")) }).await;
        let error = anyhow::Error::new(panic.unwrap_err()).context("a part of Coffer failed");
        assert_eq!(one_line(&error), "a part of Coffer failed: it panicked");
    }

    #[test]
    fn an_error_is_printed_as_one_line_without_repetitions() {
        let cause = std::io::Error::other("disk is full");
        let error =
            anyhow::Error::new(cause).context("store: disk is full").context("cannot\nstart");
        assert_eq!(one_line(&error), "cannot start: store: disk is full");
    }
}
