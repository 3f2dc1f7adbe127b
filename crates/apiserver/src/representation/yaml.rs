//! A list as YAML, item by item: a tree of all of it would be many times its length.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use coffer_api::Document;
use coffer_api::status::Failure;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::Value;
use zeroize::Zeroizing;

use super::list::{CHUNK_BYTES, ListChunks};
use crate::cache::CachedObject;
use crate::executor::Executor;
use crate::memory_pool::{self, CollectionSlot};
use crate::respond::{self, Body};

/// A list as YAML on its way.
struct YamlList {
    before: Option<String>,
    chunks: ListChunks,
    after: Option<String>,
    executor: Arc<Executor>,
    user: String,
}

impl YamlList {
    /// A large item is heavy work of the user, and takes of the user's room until it is sent.
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        if let Some(text) = self.before.take() {
            return Some(Ok(text.into()));
        }
        if let Some(late) = self.chunks.late() {
            self.after = None;
            return Some(Err(late));
        }
        let Some(item) = self.chunks.items.pop_front() else {
            return self.after.take().map(|text| Ok(text.into()));
        };
        Some(self.item(&item).await)
    }

    async fn item(&mut self, item: &CachedObject) -> Result<Bytes, Failure> {
        let reservation = match item.bytes.len() {
            0..=CHUNK_BYTES => None,
            bytes => {
                let most = bytes * respond::YAML_GROWTH_MAX;
                Some(self.executor.memory.reserve_chunk(&self.user, most).await)
            }
        };
        let mut json = BytesMut::new();
        // No comma before it.
        self.chunks.first = true;
        self.chunks.put(&mut json, item)?;
        json.put(std::mem::take(&mut self.chunks.shared));
        let json = Vec::from(json);
        let bytes = json.len();
        let text = self.executor.run(&self.user, bytes, async move { Ok(yaml_item(json)) }).await?;
        Ok(memory_pool::with_reservation(text, reservation))
    }
}

impl ListChunks {
    /// The list as YAML. It keeps its slot until it is sent.
    pub(crate) fn into_yaml(
        mut self,
        executor: Arc<Executor>,
        user: String,
        slot: Option<CollectionSlot>,
    ) -> Body {
        let (before, after) = self.yaml_ends();
        let (before, after) = (Some(before), Some(after));
        let list = YamlList { before, chunks: self, after, executor, user };
        let parts = stream::unfold((list, slot), |(mut list, slot)| async move {
            tokio::task::yield_now().await;
            let text = list.next().await?;
            let frame = text.map(Frame::data).map_err(std::io::Error::other);
            Some((frame, (list, slot)))
        });
        StreamBody::new(parts).boxed_unsync()
    }

    /// What is before the items and what after them: the members in the order of their names, as YAML
    /// made of a tree has them.
    fn yaml_ends(&mut self) -> (String, String) {
        let opening = self.opening.take().unwrap_or_default();
        let head: Value = serde_json::from_str(&format!("{opening}]}}")).unwrap_or_default();
        let items = if head.get("rows").is_some() { "rows" } else { "items" };
        let members = head.as_object().cloned().unwrap_or_default();
        let (before, after): (serde_json::Map<_, _>, serde_json::Map<_, _>) = members
            .into_iter()
            .filter(|(name, _)| name != items)
            .partition(|(name, _)| **name < *items);
        let empty = if self.items.is_empty() { " []" } else { "" };
        let before = format!("{}{items}:{empty}\n", yaml_members(&Value::Object(before)));
        (before, yaml_members(&Value::Object(after)))
    }
}

/// Members as YAML; nothing for none.
fn yaml_members(value: &Value) -> String {
    if value.as_object().is_some_and(serde_json::Map::is_empty) {
        return String::new();
    }
    let mut text = serde_saphyr::to_string(value).expect("JSON values are YAML values");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// An item of a list in YAML, of its JSON.
fn yaml_item(json: Vec<u8>) -> Bytes {
    let json = Zeroizing::new(json);
    let document = serde_json::from_slice(&json).map(Document::new);
    let document = document.expect("the server's own JSON parses");
    let text = respond::yaml_text(document.value(), &json);
    let text = std::str::from_utf8(&text).expect("YAML is text");
    let mut item = Zeroizing::new(Vec::with_capacity(text.len() + text.len() / 8 + 16));
    for (at, line) in text.lines().enumerate() {
        let indent = match (at, line) {
            (0, _) => "- ",
            (_, "") => "",
            _ => "  ",
        };
        item.extend_from_slice(indent.as_bytes());
        item.extend_from_slice(line.as_bytes());
        item.push(b'\n');
    }
    crate::encoded::erasing(item)
}
