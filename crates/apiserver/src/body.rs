//! Request bodies: bounded, erased after use, JSON or YAML, into a [`Document`].

use coffer_api::reason::Reason;
use coffer_api::schema::Schema;
use coffer_api::schema::read::{self, Budget, Unknown};
use coffer_api::schema::strict::Findings;
use coffer_api::status::Failure;
use coffer_api::{Document, yaml};
use http::HeaderMap;
use zeroize::Zeroizing;

use crate::memory_pool::MemoryReservation;

/// Largest body accepted, in bytes: upstream's limit.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediaType {
    Json,
    Yaml,
    Protobuf,
    JsonPatch,
    MergePatch,
    StrategicMergePatch,
    ApplyYaml,
}

impl MediaType {
    /// What the Content-Type header says; JSON where there is none.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let Some(value) = headers.get(http::header::CONTENT_TYPE) else { return Some(Self::Json) };
        let text = value.to_str().ok()?;
        match text.split(';').next().unwrap_or_default().trim() {
            "" | "application/json" | "*/*" => Some(Self::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            "application/json-patch+json" => Some(Self::JsonPatch),
            "application/merge-patch+json" => Some(Self::MergePatch),
            "application/strategic-merge-patch+json" => Some(Self::StrategicMergePatch),
            "application/apply-patch+yaml" => Some(Self::ApplyYaml),
            _ => None,
        }
    }

    /// The type of an object in a body.
    ///
    /// # Errors
    /// 415 that lists what is accepted.
    pub(crate) fn of_object(headers: &HeaderMap) -> Result<Self, Failure> {
        match Self::of(headers) {
            Some(found @ (Self::Json | Self::Yaml | Self::Protobuf)) => Ok(found),
            _ => Err(unsupported(ACCEPTED)),
        }
    }
}

/// 415 with the accepted types.
pub(crate) fn unsupported(accepted: &str) -> Failure {
    Failure::plain(
        Reason::UnsupportedMediaType,
        format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        ),
    )
}

/// A request's body, read, or what was wrong with it.
pub(crate) struct Payload {
    read: Result<Zeroizing<Vec<u8>>, Failure>,
    /// Held as long as the bytes are needed.
    reservation: Option<MemoryReservation>,
}

impl Payload {
    /// No body at all.
    pub(crate) fn empty() -> Self {
        Self::read(Zeroizing::default(), None)
    }

    /// The bytes of a body, and the room they take.
    pub(crate) fn read(bytes: Zeroizing<Vec<u8>>, reservation: Option<MemoryReservation>) -> Self {
        Self { read: Ok(bytes), reservation }
    }

    /// A body that was not taken.
    pub(crate) fn refused(failure: Failure) -> Self {
        Self { read: Err(failure), reservation: None }
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.read.as_ref().map_or(0, |bytes| bytes.len())
    }
}

/// Bytes of a body and the room they take.
pub(crate) struct Received {
    bytes: Zeroizing<Vec<u8>>,
    _reservation: Option<MemoryReservation>,
}

impl std::ops::Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The bytes of a body.
///
/// # Errors
/// 413 over the limit, 400 when the client broke off, 408 when it was too slow, 429 where there is no
/// room.
pub(crate) fn take(payload: Payload) -> Result<Received, Failure> {
    Ok(Received { bytes: payload.read?, _reservation: payload.reservation })
}

/// Why a body is not a document.
#[derive(Debug)]
pub(crate) enum ParseError {
    /// The parser's own complaint, without any of the body's text.
    Text(String),
    /// What it describes takes far more memory than its bytes.
    TooMuch,
}

impl ParseError {
    /// The failure that the text makes, or 413.
    pub(crate) fn or(self, failure: impl FnOnce(String) -> Failure) -> Failure {
        match self {
            Self::Text(text) => failure(text),
            Self::TooMuch => too_many_values(),
        }
    }
}

/// 413 for what is small as text and large in memory.
pub(crate) fn too_many_values() -> Failure {
    let why = "Request entity too large: too many values for the length of the request";
    Failure::plain(Reason::RequestEntityTooLarge, why)
}

/// A body as a document of a schema, `None`: of any shape. YAML is read as YAML's superset of JSON, so
/// a trailing comma passes there. What the schema does not know is left out as it is read, but from an
/// apply patch, which is refused for it.
///
/// # Errors
/// [`ParseError`].
pub(crate) fn parse(
    bytes: &[u8],
    media: MediaType,
    schema: Option<Schema>,
) -> Result<Document, ParseError> {
    parse_by(bytes, media, schema, None)
}

/// As [`parse`], with what a strict reader finds on the way, in the order of the text: members that
/// stand twice, and those that the schema does not know. Of an apply patch only the first: it is refused
/// for the others. A message of protobuf has neither.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_strict(
    bytes: &[u8],
    media: MediaType,
    schema: Schema,
) -> Result<(Document, Vec<String>), ParseError> {
    let mut findings = Findings::default();
    let document = parse_by(bytes, media, Some(schema), Some(&mut findings))?;
    Ok((document, findings.into_errors()))
}

fn parse_by(
    bytes: &[u8],
    media: MediaType,
    schema: Option<Schema>,
    findings: Option<&mut Findings>,
) -> Result<Document, ParseError> {
    let mut budget = match media {
        MediaType::ApplyYaml => Budget::of_apply(bytes.len()),
        _ => Budget::of_body(bytes.len()),
    };
    let parsed = match media {
        // What kubectl's create verbs and client-go's typed clients send.
        MediaType::Protobuf => coffer_api::protobuf::decode_within(bytes, &mut budget)
            .map_err(|error| error.to_string()),
        MediaType::Yaml | MediaType::ApplyYaml => {
            let unknown = match media {
                MediaType::Yaml => Unknown::Drop,
                _ => Unknown::Keep,
            };
            let read = match findings {
                None => yaml::read_last_wins(bytes, schema, unknown, &mut budget),
                Some(findings) => {
                    yaml::read_last_wins_strict(bytes, schema, unknown, &mut budget, findings)
                }
            };
            read.map_err(|error| error.to_string())
        }
        _ => {
            let unknown = Unknown::Drop;
            let read = match findings {
                None => read::read_json(bytes, schema, unknown, &mut budget),
                Some(findings) => {
                    read::read_json_strict(bytes, schema, unknown, &mut budget, findings)
                }
            };
            read.map(Document::new).map_err(|error| {
                format!("json parse error: {}", coffer_api::go::json_error(&error))
            })
        }
    };
    if budget.is_exceeded() {
        return Err(ParseError::TooMuch);
    }
    let document = parsed.map_err(ParseError::Text)?;
    if media == MediaType::Protobuf {
        check_weight(&document, bytes.len(), schema).map_err(|_| ParseError::TooMuch)?;
    }
    Ok(document)
}

/// Refuses a document that takes far more memory than so many bytes of text may.
///
/// # Errors
/// 413.
pub(crate) fn check_weight(
    document: &Document,
    bytes: usize,
    schema: Option<Schema>,
) -> Result<(), Failure> {
    let fits = read::weigh(document.value(), schema, &mut Budget::of_body(bytes));
    if fits { Ok(()) } else { Err(too_many_values()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guides_trailing_comma_passes_as_yaml_and_not_as_json() {
        let text = br#"{"kind":"Pod","spec":{"containers":[{"name":"a","image":"b",}]}}"#;
        assert!(parse(text, MediaType::Json, None).is_err());
        let document = parse(text, MediaType::Yaml, None).unwrap();
        assert_eq!(document.value()["spec"]["containers"][0]["image"], "b");
    }
}
