//! Answers: what the client accepts, and bytes in that form.
//!
//! JSON goes out as the cache holds it. YAML, Table and PartialObjectMetadata are made from it on
//! the way out; large lists leave in chunks so that no second copy of the list is ever whole.

use std::convert::Infallible;
use std::io::Write as _;

use bytes::Bytes;
use coffer_api::status::Failure;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde::Serialize;

use crate::limits::Place;

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// An answer.
pub(crate) type Answer = Response<Body>;

/// How the object itself is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is.
    Object,
    /// `meta.k8s.io/v1` Table.
    Table,
    /// `meta.k8s.io/v1` PartialObjectMetadata.
    Metadata,
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    Json,
    Yaml,
}

/// What was agreed with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) form: Form,
    pub(crate) syntax: Syntax,
}

impl Accept {
    /// The first alternative of the Accept header that is served; JSON where there is none.
    ///
    /// # Errors
    /// 406 with what is served.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let all: Vec<&str> =
            headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let all = all.join(",");
        if all.trim().is_empty() {
            return Ok(Self { form: Form::Object, syntax: Syntax::Json });
        }
        all.split(',').find_map(Self::alternative).ok_or_else(|| {
            Failure::plain(
                406,
                "NotAcceptable",
                "only the following media types are accepted: application/json, application/yaml",
            )
        })
    }

    fn alternative(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let syntax = match parts.next()? {
            "application/json" | "*/*" | "application/*" => Syntax::Json,
            "application/yaml" | "text/yaml" | "application/x-yaml" => Syntax::Yaml,
            _ => return None,
        };
        let (mut kind, mut group, mut version) = ("", "", "");
        for part in parts {
            match part.split_once('=') {
                Some(("as", value)) => kind = value,
                Some(("g", value)) => group = value,
                Some(("v", value)) => version = value,
                _ => {}
            }
        }
        let form = match (kind, group, version) {
            ("", ..) => Form::Object,
            ("Table", "meta.k8s.io", "v1") => Form::Table,
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => {
                Form::Metadata
            }
            _ => return None,
        };
        Some(Self { form, syntax })
    }
}

/// A whole body.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Bytes with a content type.
pub(crate) fn typed(status: StatusCode, content_type: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

/// JSON bytes in the agreed syntax.
pub(crate) fn json(status: StatusCode, syntax: Syntax, bytes: Bytes) -> Answer {
    match syntax {
        Syntax::Json => typed(status, "application/json", full(bytes)),
        Syntax::Yaml => typed(status, "application/yaml", full(yaml(&bytes))),
    }
}

fn yaml(json: &[u8]) -> Bytes {
    let document = coffer_api::Document::new(
        serde_json::from_slice(json).expect("the server's own JSON parses"),
    );
    let text = serde_saphyr::to_string(document.value()).expect("JSON values are YAML values");
    crate::encoded::erasing(zeroize::Zeroizing::new(text.into_bytes()))
}

/// A value of ours as JSON.
pub(crate) fn value<T: Serialize>(status: StatusCode, syntax: Syntax, value: &T) -> Answer {
    let bytes = serde_json::to_vec(value).expect("API types have string keys only");
    json(status, syntax, bytes.into())
}

/// Plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = typed(status, "text/plain; charset=utf-8", full(text));
    answer
        .headers_mut()
        .insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// A failure as a Status.
pub(crate) fn failure(failure: &Failure, syntax: Syntax) -> Answer {
    let code = StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = value(code, syntax, &failure.status());
    if let Some(seconds) = failure.details.as_ref().and_then(|it| it.retry_after_seconds) {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if code == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer realm=\"coffer\"");
        answer.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
    }
    answer
}

/// The answer, which keeps its request's place until its last byte is sent.
pub(crate) fn holding(answer: Answer, place: Option<Place>) -> Answer {
    match place {
        None => answer,
        Some(place) => answer.map(|body| {
            body.map_frame(move |frame| {
                let _held = &place;
                frame
            })
            .boxed_unsync()
        }),
    }
}

/// Compresses a stream of chunks; what is small is left as it is by the caller.
pub(crate) fn gzip<I>(chunks: I) -> impl Iterator<Item = std::io::Result<Bytes>>
where
    I: Iterator<Item = std::io::Result<Bytes>>,
{
    let mut chunks = chunks;
    let mut encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    std::iter::from_fn(move || {
        loop {
            let writer = encoder.as_mut()?;
            let step = match chunks.next() {
                Some(chunk) => chunk.and_then(|chunk| writer.write_all(&chunk)),
                None => return Some(encoder.take()?.finish().map(Bytes::from)),
            };
            if let Err(error) = step {
                encoder = None;
                return Some(Err(error));
            }
            if !writer.get_ref().is_empty() {
                return Some(Ok(std::mem::take(writer.get_mut()).into()));
            }
        }
    })
}

/// Whether the client takes gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(http::header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().split(';').next() == Some("gzip"))
}

/// Adds one `Warning` header per text.
pub(crate) fn warn(answer: &mut Answer, warnings: &[String]) {
    for text in warnings {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            answer.headers_mut().append(http::header::WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &'static str) -> Option<Accept> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(text));
        Accept::of(&headers).ok()
    }

    #[test]
    fn kubectl_gets_a_table_and_others_get_what_they_can_read() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(kubectl).unwrap().form, Form::Table);
        let go = "application/vnd.kubernetes.protobuf,application/json";
        let json = Accept { form: Form::Object, syntax: Syntax::Json };
        assert_eq!(accept(go), Some(json));
        assert_eq!(accept("*/*"), Some(json));
        assert_eq!(accept("application/yaml").unwrap().syntax, Syntax::Yaml);
        assert_eq!(accept("application/vnd.kubernetes.protobuf"), None);
    }
}
