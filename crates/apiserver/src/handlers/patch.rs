//! PATCH: JSON patch, merge patch, strategic merge patch and server-side apply.

use coffer_api::status::Failure;
use http::HeaderMap;
use hyper::body::Incoming;

use super::{Call, Handlers};
use crate::respond::Answer;

impl Handlers {
    pub(super) async fn patch(&self, call: &Call, body: Incoming) -> Result<Answer, Failure> {
        let _ = (call, body);
        Err(Failure::method_not_allowed())
    }
}

/// A value that is not stored, patched.
pub(super) fn patched_value<T: serde::de::DeserializeOwned + serde::Serialize>(
    bytes: &[u8],
    headers: &HeaderMap,
    current: &T,
    kind: &str,
) -> Result<T, Failure> {
    let _ = (bytes, headers, current, kind);
    Err(Failure::method_not_allowed())
}
