//! Request bodies: bounded, erased after use, JSON or YAML, into a [`Document`].

use bytes::Buf;
use coffer_api::Document;
use coffer_api::status::Failure;
use coffer_net::Incoming;
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;
use zeroize::Zeroizing;

/// Largest body accepted, in bytes: upstream's limit.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How much of a body over the limit is read and thrown away, so that the client, which is still
/// sending, gets to read the refusal.
const DRAIN_BYTES_MAX: u64 = 16 * 1024 * 1024;
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
        415,
        "UnsupportedMediaType",
        format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        ),
    )
}

/// Reads a whole body.
///
/// # Errors
/// 413 over the limit, 400 when the client breaks off.
pub(crate) async fn read(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let announced = body.size_hint().lower();
    let limit = BODY_BYTES_MAX as u64;
    if announced > limit {
        return drain(body).await;
    }
    // Room for all of it at once: a vector that grows leaves copies of the payload behind.
    let room = usize::try_from(announced.max(4096)).unwrap_or(BODY_BYTES_MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::bad_request("the request body ended early"))?;
        let Ok(mut data) = frame.into_data() else { continue };
        if bytes.len() + data.remaining() > BODY_BYTES_MAX {
            return drain(body).await;
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            bytes.extend_from_slice(chunk);
            let length = chunk.len();
            data.advance(length);
        }
    }
    Ok(bytes)
}

/// Refuses a body that is too large once the client has had the time to send it.
async fn drain<T>(mut body: Incoming) -> Result<T, Failure> {
    let mut drained = 0;
    while drained < DRAIN_BYTES_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        drained += frame.data_ref().map_or(0, |data| data.remaining() as u64);
    }
    Err(Failure::too_large(BODY_BYTES_MAX))
}

/// A body as a document. YAML is read as YAML's superset of JSON, so a trailing comma passes there.
///
/// # Errors
/// The parser's own complaint, without any of the body's text.
pub(crate) fn parse(bytes: &[u8], media: MediaType) -> Result<Document, String> {
    match media {
        MediaType::Yaml | MediaType::ApplyYaml => {
            coffer_api::yaml::parse_last_wins(bytes).map_err(|error| error.to_string())
        }
        // What kubectl's create verbs and client-go's typed clients send.
        MediaType::Protobuf => {
            coffer_api::protobuf::decode(bytes).map_err(|error| error.to_string())
        }
        _ => serde_json::from_slice::<serde_json::Value>(bytes)
            .map(Document::new)
            .map_err(|error| format!("json parse error: {}", coffer_api::go::json_error(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guides_trailing_comma_passes_as_yaml_and_not_as_json() {
        let text = br#"{"kind":"Pod","spec":{"containers":[{"name":"a","image":"b",}]}}"#;
        assert!(parse(text, MediaType::Json).is_err());
        let document = parse(text, MediaType::Yaml).unwrap();
        assert_eq!(document.value()["spec"]["containers"][0]["image"], "b");
    }
}
