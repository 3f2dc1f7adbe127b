//! `/openapi/v2` and `/openapi/v3`.

use coffer_api::status::Failure;
use http::{HeaderMap, StatusCode};

use crate::respond::{self, Answer};

/// The document at a path below `/openapi/`.
///
/// # Errors
/// 404 for a group or version that is not served.
pub(crate) fn answer(path: &str, headers: &HeaderMap) -> Result<Answer, Failure> {
    let _ = (path, headers);
    Ok(respond::text(StatusCode::NOT_FOUND, "404 page not found\n"))
}
