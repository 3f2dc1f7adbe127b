//! `/openapi/v2` and `/openapi/v3`: which document, in which encoding, unless the client has it.

use coffer_api::status::Failure;
use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};

use crate::openapi::{self, Encoded, V2_PROTO};
use crate::respond::{self, Answer};

/// The document at a path below `/openapi/`.
///
/// # Errors
/// 404 for a group or version that is not served.
pub(crate) fn answer(path: &str, headers: &HeaderMap) -> Result<Answer, Failure> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let json = "application/json";
    match path.trim_start_matches("/openapi/") {
        // kubectl below 1.27 asks for protobuf and takes nothing else.
        "v2" if accept.contains("proto-openapi.spec.v2") => {
            Ok(document(openapi::v2_proto(), V2_PROTO, headers))
        }
        "v2" => Ok(document(openapi::v2_json(), json, headers)),
        "v3" => Ok(document(openapi::v3_index(), json, headers)),
        other => {
            let found = other.strip_prefix("v3/").and_then(openapi::v3);
            Ok(document(found.ok_or_else(Failure::no_such_path)?, json, headers))
        }
    }
}

fn document(encoded: &'static Encoded, content_type: &'static str, headers: &HeaderMap) -> Answer {
    let etag = format!("\"{}\"", encoded.hash);
    let known = headers.get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == etag.as_bytes());
    let (status, body) = match known {
        true => (StatusCode::NOT_MODIFIED, respond::full(bytes::Bytes::new())),
        false => (StatusCode::OK, respond::full(bytes::Bytes::from_static(&encoded.bytes))),
    };
    let mut answer = respond::typed(status, content_type, body);
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        answer.headers_mut().insert(ETAG, etag);
    }
    answer
}
