//! Reading what the API server returns: into buffers that are erased, with errors that say where
//! something is wrong and not what is there.

pub(crate) use coffer_client::error::root_cause;
use http::StatusCode;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{FetchError, ObjectKey};

/// A body or watch line longer than this is not read to its end. An object is at most 1 MiB of
/// payload, as base64, perhaps twice (client-side apply keeps a copy in an annotation).
pub(super) const OBJECT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How much of a Status is read for its message.
pub(super) const STATUS_BYTES_MAX: usize = 64 * 1024;

pub(super) async fn read_body(mut body: Body, max: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let hint = http_body::Body::size_hint(&body);
    // Sized in one step where the length is known: a growing buffer leaves copies behind.
    let expected = usize::try_from(hint.lower()).unwrap_or(max).min(max);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| root_cause(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > max {
            return Err("the answer is too long".to_owned());
        }
        append(&mut bytes, &data);
    }
    Ok(bytes)
}

/// Appends, erasing the old buffer where it has to move.
fn append(bytes: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    if bytes.capacity() - bytes.len() < data.len() {
        let mut larger = Zeroizing::new(Vec::with_capacity((bytes.len() + data.len()) * 2));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
    bytes.extend_from_slice(data);
}

pub(super) fn refusal(key: &ObjectKey, code: StatusCode, body: &[u8]) -> FetchError {
    #[derive(Default, Deserialize)]
    struct Status {
        #[serde(default)]
        message: String,
    }
    if code == StatusCode::NOT_FOUND {
        return FetchError::NotFound(key.clone());
    }
    let status: Status = serde_json::from_slice(body).unwrap_or_default();
    let message = if status.message.is_empty() {
        format!("failed to get {key}: the API server returned {code}")
    } else {
        status.message
    };
    FetchError::Refused { key: key.clone(), message }
}

#[cfg(test)]
mod tests {
    use coffer_api::redact;
    use coffer_api::secret::Secret;

    use super::*;

    #[test]
    fn errors_are_worded_as_upstream_words_them() {
        let key = ObjectKey::secret("myns", "mysecret");
        let missing = refusal(&key, StatusCode::NOT_FOUND, b"");
        assert_eq!(missing.to_string(), "secret \"mysecret\" not found");
        let status =
            br#"{"kind":"Status","message":"secrets \"mysecret\" is forbidden: no","code":403}"#;
        let denied = refusal(&key, StatusCode::FORBIDDEN, status);
        assert_eq!(denied.to_string(), "secrets \"mysecret\" is forbidden: no");
        let odd = refusal(&key, StatusCode::BAD_GATEWAY, b"<html>");
        assert!(odd.to_string().contains("502 Bad Gateway"), "{odd}");
    }

    #[test]
    fn a_parse_error_does_not_quote_the_secret() {
        let body = br#"{"metadata":{"name":"s"},"data":{"k":"hunter2!"},"immutable":"canary"}"#;
        let error = serde_json::from_slice::<Secret>(body).expect_err("not base64");
        let text = redact::json(&error);
        assert!(!text.contains("hunter2") && !text.contains("canary"), "{text}");
        let text = root_cause(&kube::Error::SerdeError(error));
        assert!(!text.contains("hunter2") && !text.contains("canary"), "{text}");
    }
}
