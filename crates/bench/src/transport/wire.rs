//! What scenarios read of responses: an object's metadata, and a body line by line.

use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;

/// Bytes of one event; a pod is far smaller.
const LINE_MAX: usize = 4 << 20;

/// The metadata of an object or a list, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) resource_version: String,
    pub(crate) deletion_timestamp: Option<String>,
}

/// A condition of a node or a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Condition {
    /// Whether it says that the object is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.kind == "Ready" && self.status == "True"
    }
}

/// The part of an object, or of a list, that says which version of it this is.
#[derive(Deserialize)]
pub(crate) struct Versioned {
    pub(crate) metadata: Meta,
}

/// A page of a collection.
#[derive(Deserialize)]
pub(crate) struct List<T> {
    pub(crate) metadata: Meta,
    pub(crate) items: Vec<T>,
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub(crate) struct Event<T> {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) object: T,
}

/// Whether a line of a watch says that the watch cannot go on.
pub(crate) fn is_error_event(line: &[u8]) -> bool {
    line.starts_with(b"{\"type\":\"ERROR\"")
}

/// A body as lines.
pub(crate) struct Lines {
    body: Incoming,
    buffer: BytesMut,
    /// Up to here there is no line's end.
    searched: usize,
}

impl Lines {
    /// The lines of a body.
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line; `None` when the body ends, breaks, or has a line without end.
    pub(crate) async fn next(&mut self) -> Option<BytesMut> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + at + 1);
                self.searched = 0;
                return Some(line);
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_MAX {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
            }
        }
    }
}
