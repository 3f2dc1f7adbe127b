//! `/openapi/v2` and `/openapi/v3`: which document, in which encoding, unless the client has it.

use coffer_api::status::Failure;
use http::header::{
    ACCEPT, CACHE_CONTROL, ETAG, EXPIRES, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION, VARY,
};
use http::{HeaderMap, StatusCode};
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

use crate::openapi::{self, Encoded, V2_PROTO};
use crate::request::Query;
use crate::respond::{self, Response};

/// The document at a path below `/openapi/`.
///
/// # Errors
/// 404 for a group or version that is not served.
pub(crate) fn response(
    path: &str,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
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
            let found = found.ok_or_else(Failure::no_such_path)?;
            match query.get("hash").filter(|hash| !hash.is_empty()) {
                None => Ok(document(found, json, headers)),
                Some(hash) if hash == found.hash => {
                    let mut response = document(found, json, headers);
                    allow_caching(&mut response);
                    Ok(response)
                }
                Some(_) => Ok(redirect(&format!("{path}?hash={}", found.hash))),
            }
        }
    }
}

/// The response at a path with the right hash never changes: clients may keep it for a year.
fn allow_caching(response: &mut Response) {
    let next_year = Timestamp::now().to_zoned(TimeZone::UTC).saturating_add(1.year());
    let expires = next_year.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    set(response, VARY, "Accept");
    set(response, CACHE_CONTROL, "public, immutable");
    set(response, EXPIRES, &expires);
}

/// A redirect to the address of the document as it is now.
fn redirect(address: &str) -> Response {
    let empty = respond::full(bytes::Bytes::new());
    let mut response = respond::typed(StatusCode::MOVED_PERMANENTLY, "text/plain", empty);
    set(&mut response, LOCATION, address);
    response
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn document(
    encoded: &'static Encoded,
    content_type: &'static str,
    headers: &HeaderMap,
) -> Response {
    let etag = format!("\"{}\"", encoded.hash);
    let known = headers.get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == etag.as_bytes());
    let (status, body) = match known {
        true => (StatusCode::NOT_MODIFIED, respond::full(bytes::Bytes::new())),
        false => (StatusCode::OK, respond::full(bytes::Bytes::from_static(&encoded.bytes))),
    };
    let mut response = respond::typed(status, content_type, body);
    set(&mut response, ETAG, &etag);
    response
}
