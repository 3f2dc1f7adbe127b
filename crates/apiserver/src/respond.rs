//! Responses: what the client accepts, and bytes in that form.
//!
//! JSON goes out as the cache holds it. YAML, Table and PartialObjectMetadata are made from it on
//! the way out; large lists leave in chunks so that no second copy of the list is ever whole.
//! Indentation and compression are `encoding`'s.

use std::collections::HashSet;
use std::convert::Infallible;

use bytes::Bytes;
use coffer_api::reason::Reason;
use coffer_api::status::Failure;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde::Serialize;
use zeroize::Zeroizing;

/// How many times as long as its JSON the YAML of a value is at most, beyond [`YAML_FREE_BYTES`].
pub(crate) const YAML_GROWTH_MAX: usize = 4;
/// What YAML of any value may have, in bytes.
const YAML_FREE_BYTES: usize = 4096;
/// Characters of all warnings of one response, as upstream's.
const WARNINGS_CHARS_MAX: usize = 4096;
/// Characters of each of them, where all together are longer.
const LONG_WARNING_CHARS_MAX: usize = 256;

/// The body of every response.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// A response of this server.
pub(crate) type Response<B = Body> = http::Response<B>;

/// A version of `meta.k8s.io`; the kinds here are the same in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetaVersion {
    V1,
    V1beta1,
}

impl MetaVersion {
    /// `meta.k8s.io/v1`.
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// How the object itself is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is.
    Object,
    /// `meta.k8s.io` Table.
    Table(MetaVersion),
    /// `meta.k8s.io` PartialObjectMetadata.
    Metadata(MetaVersion),
}

/// How the response is written.
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

/// What a request accepts: its Accept header, read once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    any: Option<Accept>,
    plain: Option<Accept>,
    /// One of its alternatives asks for JSON that people read.
    pretty: bool,
}

impl Default for Accepted {
    /// Of a request without the header.
    fn default() -> Self {
        let json = Some(Accept { form: Form::Object, syntax: Syntax::Json });
        Self { any: json, plain: json, pretty: false }
    }
}

impl Accepted {
    /// Reads the header.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let values = || headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        if values().all(|value| value.trim().is_empty()) {
            return Self::default();
        }
        let texts = values().flat_map(|value| value.split(',')).map(str::trim);
        let mut found: Vec<_> = texts
            .filter_map(|text| Some((quality_rank(text), Accept::alternative(text)?)))
            .collect();
        // Of several that the client likes as much, the first.
        found.sort_by_key(|(rank, _)| *rank);
        let mut served = found.into_iter().map(|(_, accept)| accept);
        let any = served.clone().next();
        let plain = served.find(|accept| accept.form == Form::Object);
        let pretty = values().flat_map(|value| value.split([',', ';']));
        Self { any, plain, pretty: pretty.map(str::trim).any(|part| part == "pretty=1") }
    }

    /// The alternative that the client likes best and that is served; JSON where it names none.
    ///
    /// # Errors
    /// 406 with what is served.
    pub(crate) fn any(&self) -> Result<Accept, Failure> {
        self.any.ok_or_else(|| not_acceptable("application/json, application/yaml"))
    }

    /// As [`Accepted::any`], for what has no other form than its own: reviews and their like.
    ///
    /// # Errors
    /// 406, also for a client that takes nothing but a Table.
    pub(crate) fn plain(&self) -> Result<Accept, Failure> {
        self.plain.ok_or_else(|| not_acceptable("application/json, application/yaml"))
    }

    /// The syntax of what is sent in any case, such as a failure.
    pub(crate) fn syntax(&self) -> Syntax {
        self.any.map_or(Syntax::Json, |accept| accept.syntax)
    }

    /// Whether the client asks for JSON that people read.
    pub(crate) fn is_pretty(&self) -> bool {
        self.pretty
    }
}

impl Accept {
    fn alternative(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let syntax = match parts.next()? {
            "application/json" | "*/*" | "application/*" => Syntax::Json,
            "application/yaml" => Syntax::Yaml,
            _ => return None,
        };
        let (mut kind, mut group, mut version) = ("", "", "");
        for part in parts {
            match part.split_once('=') {
                Some(("as", value)) => kind = value,
                Some(("g", value)) => group = value,
                Some(("v", value)) => version = value,
                Some(("stream", value)) if value != "watch" || syntax != Syntax::Json => {
                    return None;
                }
                _ => {}
            }
        }
        let form = match (kind, group, version) {
            ("", "", "") => return Some(Self { form: Form::Object, syntax }),
            (_, "meta.k8s.io", "v1") => MetaVersion::V1,
            (_, "meta.k8s.io", "v1beta1") => MetaVersion::V1beta1,
            _ => return None,
        };
        let form = match kind {
            "Table" => Form::Table(form),
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Form::Metadata(form),
            _ => return None,
        };
        Some(Self { form, syntax })
    }
}

/// Sorts alternatives: greater weight first, then what names a type before what takes any. In
/// thousandths, as the grammar of weights has it.
fn quality_rank(alternative: &str) -> (u16, bool, bool) {
    let mut parts = alternative.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
    let thousandths = (weight.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u16;
    (1000 - thousandths, media.starts_with("*/"), media.ends_with("/*"))
}

/// 406 with what is served.
pub(crate) fn not_acceptable(served: &str) -> Failure {
    let message = format!("only the following media types are accepted: {served}");
    Failure::plain(Reason::NotAcceptable, message)
}

/// A whole body.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Bytes with a content type.
pub(crate) fn typed(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// JSON bytes in the agreed syntax.
pub(crate) fn json(status: StatusCode, syntax: Syntax, bytes: Bytes) -> Response {
    match syntax {
        Syntax::Json => typed(status, "application/json", full(bytes)),
        Syntax::Yaml => typed(status, "application/yaml", full(yaml(&bytes))),
    }
}

fn yaml(json: &[u8]) -> Bytes {
    let document = coffer_api::Document::new(
        serde_json::from_slice(json).expect("the server's own JSON parses"),
    );
    crate::encoded::erasing(yaml_text(document.value(), json))
}

/// YAML of a value whose JSON is given. Lines are indented by their depth, so that YAML of what
/// is nested deep can be many times as long: then it is the JSON, which is YAML, too.
pub(crate) fn yaml_text(value: &serde_json::Value, json: &[u8]) -> Zeroizing<Vec<u8>> {
    let most = json.len().saturating_mul(YAML_GROWTH_MAX).saturating_add(YAML_FREE_BYTES);
    let mut counted = Bounded { left: most, text: None };
    if serde_saphyr::to_fmt_writer(&mut counted, value).is_err() {
        let mut text = Zeroizing::new(Vec::with_capacity(json.len() + 1));
        text.extend_from_slice(json);
        text.push(b'\n');
        return text;
    }
    // In one piece: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(most - counted.left));
    let mut written = Bounded { left: most, text: Some(&mut text) };
    serde_saphyr::to_fmt_writer(&mut written, value).expect("it was written a moment ago");
    text
}

/// Text up to a length, kept or only counted.
struct Bounded<'a> {
    left: usize,
    text: Option<&'a mut Vec<u8>>,
}

impl std::fmt::Write for Bounded<'_> {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        self.left = self.left.checked_sub(piece.len()).ok_or(std::fmt::Error)?;
        if let Some(text) = &mut self.text {
            text.extend_from_slice(piece.as_bytes());
        }
        Ok(())
    }
}

/// A value of ours as JSON.
pub(crate) fn value<T: Serialize>(status: StatusCode, syntax: Syntax, value: &T) -> Response {
    let bytes = serde_json::to_vec(value).expect("API types have string keys only");
    json(status, syntax, bytes.into())
}

/// What a create returns that makes no object to show, such as a binding or an eviction.
pub(crate) fn created(syntax: Syntax) -> Response {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201
    });
    value(StatusCode::CREATED, syntax, &status)
}

/// Plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut response = typed(status, "text/plain; charset=utf-8", full(text));
    response
        .headers_mut()
        .insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A failure as a Status.
pub(crate) fn failure(failure: &Failure, syntax: Syntax) -> Response {
    let code = StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = value(code, syntax, &failure.status());
    if let Some(seconds) = failure.details.as_ref().and_then(|it| it.retry_after_seconds) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if code == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer realm=\"coffer\"");
        response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Adds one `Warning` header per text, each text once.
pub(crate) fn warn(response: &mut Response, warnings: &[String]) {
    for text in bounded(warnings) {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        let plain = escaped.replace(char::is_control, " ");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{plain}\"").as_bytes()) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
}

/// As much of the warnings as clients take in headers: each is cut where all are too long.
fn bounded(warnings: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    let all: Vec<&String> = warnings.iter().filter(|text| seen.insert(*text)).collect();
    let length: usize = all.iter().map(|text| text.chars().count()).sum();
    if length <= WARNINGS_CHARS_MAX {
        return all.into_iter().cloned().collect();
    }
    let cut = all.into_iter().map(|text| text.chars().take(LONG_WARNING_CHARS_MAX).collect());
    let mut written = 0;
    cut.take_while(|text: &String| {
        let fits = written < WARNINGS_CHARS_MAX;
        written += text.chars().count();
        fits
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_fit_into_headers_whatever_they_quote() {
        let sent = |warnings: &[String]| -> Vec<String> {
            let mut response = value(StatusCode::OK, Syntax::Json, &serde_json::json!({}));
            warn(&mut response, warnings);
            let all = response.headers().get_all(http::header::WARNING).iter();
            all.map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap()).collect()
        };
        let texts =
            ["a \"b\" \\ \u{e9}".to_owned(), "c\r\nd: e".to_owned(), "c\r\nd: e".to_owned()];
        assert_eq!(sent(&texts), ["299 - \"a \\\"b\\\" \\\\ \u{e9}\"", "299 - \"c  d: e\""]);
        let short = "s".repeat(WARNINGS_CHARS_MAX - 1);
        assert_eq!(sent(&["x".to_owned(), short.clone()])[1].len(), short.len() + 8);
        let long: Vec<_> = (0..100).map(|at| format!("{at:03}{}", "\u{e9}".repeat(9999))).collect();
        let cut = sent(&long);
        assert_eq!(cut.len(), WARNINGS_CHARS_MAX / LONG_WARNING_CHARS_MAX);
        assert!(cut.iter().all(|text| text.chars().count() == LONG_WARNING_CHARS_MAX + 8));
    }

    fn accept(text: &'static str) -> Option<Accept> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(text));
        Accepted::of(&headers).any().ok()
    }

    #[test]
    fn kubectl_gets_a_table_and_others_get_what_they_can_read() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(kubectl).unwrap().form, Form::Table(MetaVersion::V1));
        let go = "application/vnd.kubernetes.protobuf,application/json";
        let json = Accept { form: Form::Object, syntax: Syntax::Json };
        assert_eq!(accept(go), Some(json));
        assert_eq!(accept("*/*"), Some(json));
        assert_eq!(accept("application/yaml").unwrap().syntax, Syntax::Yaml);
        assert_eq!(accept("application/vnd.kubernetes.protobuf"), None);
    }

    #[test]
    fn what_the_client_likes_best_comes_first() {
        for (text, yaml) in [
            ("application/json;q=0.5, application/yaml", true),
            ("*/*, application/yaml", true),
            ("application/yaml;q=0.1, application/json;q=0.2", false),
            ("application/yaml;stream=watch, */*;q=0.1", false),
        ] {
            assert_eq!(accept(text).unwrap().syntax == Syntax::Yaml, yaml, "{text}");
        }
        let old = "application/json;as=PartialObjectMetadata;v=v1beta1;g=meta.k8s.io";
        assert_eq!(accept(old).unwrap().form, Form::Metadata(MetaVersion::V1beta1));
        assert_eq!(accept("application/json;as=Gizmo;v=v1;g=meta.k8s.io"), None);
    }
}
