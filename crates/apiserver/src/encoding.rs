//! The last step of a response: indented for people, compressed where it is long, and its request's
//! slot held until the last byte is sent.
//!
//! Bodies pass through in pieces as they are made, so that a long list is never whole here either.

use std::io::Write as _;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use coffer_api::go;
use coffer_net::Holding;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, USER_AGENT, VARY};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::limits::Slot;
use crate::request::Query;
use crate::respond::{Accepted, Body, Response};

/// Bytes that are indented or compressed before other tasks may run.
const PIECE_BYTES: usize = 32 * 1024;
/// Shortest body that is compressed, in bytes: upstream's threshold.
const GZIP_BYTES_MIN: usize = 128 * 1024;

/// Whether the client is a person: asks with `pretty`, or comes with a tool that people type.
pub(crate) fn wants_indent(query: &Query, accepted: &Accepted, headers: &HeaderMap) -> bool {
    if let Some(asked) = query.get("pretty") {
        return go::parse_bool(asked) == Some(true);
    }
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|tool| agent.starts_with(tool))
        || accepted.is_pretty()
}

/// Indents a JSON response.
pub(crate) fn indented(response: Response) -> Response {
    let json = response.headers().get(CONTENT_TYPE);
    if !json.is_some_and(|value| value.as_bytes().starts_with(b"application/json")) {
        return response;
    }
    let mut indenter = Indenter::default();
    response.map(|body| in_pieces(body, move |rest| indenter.indent(rest)))
}

/// A body in short frames: `next` takes the beginning of what is left of a frame and makes one of it.
fn in_pieces(body: Body, next: impl FnMut(&mut Bytes) -> Bytes + Send + 'static) -> Body {
    let state = (body, Bytes::new(), next);
    let pieces = futures::stream::unfold(state, |(mut body, mut rest, mut next)| async move {
        if rest.is_empty() {
            match body.frame().await?.map(Frame::into_data) {
                Ok(Ok(data)) => rest = data,
                Ok(Err(other)) => return Some((Ok(other), (body, rest, next))),
                Err(error) => return Some((Err(error), (body, rest, next))),
            }
        } else {
            tokio::task::yield_now().await;
        }
        let piece = next(&mut rest);
        Some((Ok(Frame::data(piece)), (body, rest, next)))
    });
    // Its end is asked for again where the first pieces are counted.
    StreamBody::new(futures::StreamExt::fuse(pieces)).boxed_unsync()
}

/// Puts line breaks and spaces into compact JSON as Go's `MarshalIndent` does, piece by piece.
#[derive(Default)]
struct Indenter {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// An object or list has begun and nothing in it has come yet: it may be empty.
    opened: bool,
}

impl Indenter {
    /// Indents the beginning of a text, up to what it makes of [`PIECE_BYTES`]: what is nested deep
    /// is many times as long then.
    fn indent(&mut self, text: &mut Bytes) -> Bytes {
        let mut out = BytesMut::with_capacity(PIECE_BYTES + 1024);
        let mut taken = 0;
        for &byte in text.iter() {
            if out.len() >= PIECE_BYTES {
                break;
            }
            taken += 1;
            if self.in_string {
                self.in_string = self.escaped || byte != b'"';
                self.escaped = !self.escaped && byte == b'\\';
                out.put_u8(byte);
                continue;
            }
            match byte {
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if !std::mem::take(&mut self.opened) {
                        self.line_break(&mut out);
                    }
                    out.put_u8(byte);
                }
                b' ' | b'\n' | b'\r' | b'\t' => {}
                _ => {
                    if std::mem::take(&mut self.opened) {
                        self.line_break(&mut out);
                    }
                    out.put_u8(byte);
                    match byte {
                        b'"' => self.in_string = true,
                        b':' => out.put_u8(b' '),
                        b',' => self.line_break(&mut out),
                        b'{' | b'[' => {
                            self.depth += 1;
                            self.opened = true;
                        }
                        _ => {}
                    }
                }
            }
        }
        text.advance(taken);
        out.freeze()
    }

    fn line_break(&self, out: &mut BytesMut) {
        out.put_u8(b'\n');
        out.put_bytes(b' ', 2 * self.depth);
    }
}

/// Compresses a response that is long enough, for a client that takes it.
pub(crate) async fn compressed(response: Response, takes_gzip: bool) -> Response {
    if response.status() != StatusCode::OK || !takes_gzip {
        return response;
    }
    Box::pin(compress(response)).await
}

/// The same response, compressed if it is long.
async fn compress(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let mut body = in_pieces(body, |rest| rest.split_to(rest.len().min(PIECE_BYTES)));
    // As many pieces as it takes to know whether the whole is long.
    let (mut first, mut length) = (Vec::new(), 0);
    while length <= GZIP_BYTES_MIN {
        let Some(frame) = body.frame().await else { break };
        length += frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
        first.push(frame);
    }
    let rest = futures::stream::unfold(body, |mut body| async {
        let frame = body.frame().await?;
        Some((frame, body))
    });
    let whole = futures::StreamExt::chain(futures::stream::iter(first), rest);
    if length <= GZIP_BYTES_MIN {
        return Response::from_parts(parts, StreamBody::new(whole).boxed_unsync());
    }
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let state = (Box::pin(whole), Some(encoder));
    let zipped = futures::stream::unfold(state, |(mut frames, mut encoder)| async move {
        loop {
            let writer = encoder.as_mut()?;
            let step = match futures::StreamExt::next(&mut frames).await {
                None => {
                    let last = encoder.take()?.finish().map(|last| Frame::data(last.into()));
                    return Some((last, (frames, None)));
                }
                Some(frame) => frame.and_then(|frame| match frame.into_data() {
                    Ok(data) => writer.write_all(&data),
                    Err(_) => Ok(()),
                }),
            };
            if let Err(error) = step {
                return Some((Err(error), (frames, None)));
            }
            if !writer.get_ref().is_empty() {
                let ready = Bytes::from(std::mem::take(writer.get_mut()));
                return Some((Ok(Frame::data(ready)), (frames, encoder)));
            }
        }
    });
    Response::from_parts(parts, StreamBody::new(zipped).boxed_unsync())
}

/// Whether the client takes gzip. A weight below one does not count, as upstream has it.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(http::header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim() == "gzip")
}

/// The response, which keeps its request's slot until its last byte is sent.
pub(crate) fn holding(response: Response, slot: Option<Slot>) -> Response {
    match slot {
        None => response,
        Some(slot) => response.map(|body| Holding::new(body, slot).boxed_unsync()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_as_go_does_it_wherever_it_is_cut() {
        let compact = br#"{"a":[],"b":{},"c":[1,{"d":"x,{\"}"}],"e":"\\"}"#;
        let wanted = "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    1,\n    {\n      \"d\": \"x,{\\\"}\"\n    }\n  ],\n  \"e\": \"\\\\\"\n}";
        for at in 0..compact.len() {
            let mut indenter = Indenter::default();
            let mut out = Vec::new();
            for part in [&compact[..at], &compact[at..]] {
                out.extend_from_slice(&indenter.indent(&mut Bytes::copy_from_slice(part)));
            }
            assert_eq!(String::from_utf8(out).unwrap(), wanted, "cut at {at}");
        }
    }

    #[test]
    fn what_grows_by_its_depth_comes_in_pieces_too() {
        let (depth, items) = (100, 20_000);
        let list = vec!["[]"; items].join(",");
        let compact = format!("{}{list}{}", "[".repeat(depth), "]".repeat(depth));
        let (mut text, mut indenter) = (Bytes::from(compact), Indenter::default());
        let mut length = 0;
        while !text.is_empty() {
            let piece = indenter.indent(&mut text);
            assert!(piece.len() <= PIECE_BYTES + 256);
            length += piece.len();
        }
        assert!(length > items * 2 * depth);
    }

    #[tokio::test]
    async fn only_long_responses_are_compressed_and_only_for_clients_that_accept_it() {
        let response = |bytes: usize| Response::new(crate::respond::full(vec![b'a'; bytes]));
        let mut headers = HeaderMap::new();
        for (accepted, bytes, gzip) in [
            ("gzip", GZIP_BYTES_MIN + 1, true),
            ("deflate, gzip", GZIP_BYTES_MIN + 1, true),
            ("gzip;q=0", GZIP_BYTES_MIN + 1, false),
            ("identity", GZIP_BYTES_MIN + 1, false),
            ("gzip", GZIP_BYTES_MIN, false),
        ] {
            headers.insert(http::header::ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            let sent = compressed(response(bytes), takes_gzip(&headers)).await;
            assert_eq!(sent.headers().contains_key(CONTENT_ENCODING), gzip, "{accepted} {bytes}");
            let body = sent.into_body().collect().await.unwrap().to_bytes();
            let mut plain = Vec::new();
            if gzip {
                let mut decoder = flate2::read::GzDecoder::new(&body[..]);
                std::io::Read::read_to_end(&mut decoder, &mut plain).unwrap();
            } else {
                plain.extend_from_slice(&body);
            }
            assert_eq!(plain, vec![b'a'; bytes]);
        }
    }
}
