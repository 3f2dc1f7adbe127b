//! One object or a list in the form the client asked for: as it is, as Table, as metadata only.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use coffer_api::Document;
use coffer_api::reason::Reason;
use coffer_api::status::Failure;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::cache::CachedObject;
use crate::lanes::{self, Lanes, Place};
use crate::object::Resource;
use crate::printers::{Column, RowCondition};
use crate::registry::Listed;
use crate::request::Query;
use crate::respond::{self, Body, Form, MetaVersion};

/// Bytes of a list sent at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of objects looked at for one chunk.
const VISIT_BYTES: usize = 256 * 1024;

/// What rows of a Table carry of their object: `includeObject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    /// Nothing.
    None,
    /// PartialObjectMetadata: the default.
    Metadata,
    /// The whole object.
    Object,
}

impl Include {
    /// Reads `includeObject`.
    ///
    /// # Errors
    /// 400 for another value.
    pub(crate) fn parse(query: &Query) -> Result<Self, Failure> {
        match query.get("includeObject") {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(Failure::bad_request(format!(
                "unrecognized includeObject value: {other:?}: must be one of None, Metadata, Object"
            ))),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta<'a> {
    resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    continue_: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_item_count: Option<usize>,
}

impl<'a> ListMeta<'a> {
    fn of(list: &'a Listed) -> Self {
        Self {
            resource_version: list.revision.to_string(),
            continue_: list.continue_.as_deref(),
            remaining_item_count: list.remaining,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Table<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: ListMeta<'a>,
    column_definitions: &'a [Column],
    rows: Vec<Row>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Items<'a> {
    kind: &'static str,
    api_version: &'a str,
    metadata: ListMeta<'a>,
    items: [(); 0],
}

/// A list without items up to where these begin.
fn opening<T: Serialize>(empty: &T) -> String {
    let mut text = serde_json::to_string(empty).expect("strings encode");
    text.truncate(text.len() - "]}".len());
    text
}

#[derive(Serialize)]
struct Row {
    cells: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conditions: Option<[RowCondition; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Box<serde_json::value::RawValue>>,
}

#[derive(Deserialize)]
struct OnlyMetadata {
    #[serde(default)]
    metadata: ObjectMeta,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PartialMetadata<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: &'a ObjectMeta,
}

fn metadata_json(bytes: &[u8], version: MetaVersion) -> Result<Vec<u8>, Failure> {
    let only: OnlyMetadata = serde_json::from_slice(bytes)
        .map_err(|error| Failure::internal(crate::object::harmless(&error)))?;
    let partial = PartialMetadata {
        kind: "PartialObjectMetadata",
        api_version: version.api_version(),
        metadata: &only.metadata,
    };
    let mut json = serde_json::to_vec(&partial).map_err(Failure::internal)?;
    // It may be kept for as long as its client takes to read it.
    json.shrink_to_fit();
    Ok(json)
}

fn row(
    resource: &Resource,
    bytes: &Bytes,
    include: Include,
    version: MetaVersion,
) -> Result<Row, Failure> {
    let object = resource.parse(bytes)?;
    let json = match include {
        Include::None => None,
        Include::Metadata => Some(metadata_json(bytes, version)?),
        Include::Object => Some(resource.present(bytes).to_vec()),
    };
    let object_json = json
        .map(|json| String::from_utf8(json).map_err(Failure::internal))
        .transpose()?
        .map(|json| serde_json::value::RawValue::from_string(json).map_err(Failure::internal))
        .transpose()?;
    Ok(Row {
        cells: object.cells(jiff::Timestamp::now()),
        conditions: object.row_condition().map(|condition| [condition]),
        object: object_json,
    })
}

/// What a row is likely to take: one that outgrows its buffer gets one of twice the size.
fn row_bytes(object: &Bytes, include: Include) -> usize {
    if include == Include::Object { object.len() + 4096 } else { 1024 }
}

/// One object. `columns` says whether a Table repeats its column definitions: a watch sends them
/// once.
pub(crate) fn object(
    resource: &Resource,
    bytes: &Bytes,
    form: Form,
    include: Include,
    columns: bool,
) -> Result<Bytes, Failure> {
    match form {
        Form::Object => Ok(resource.present(bytes)),
        Form::Metadata(version) => metadata_json(bytes, version).map(Bytes::from),
        Form::Table(version) => {
            let meta: OnlyMetadata = serde_json::from_slice(bytes)
                .map_err(|error| Failure::internal(crate::object::harmless(&error)))?;
            let table = Table {
                kind: "Table",
                api_version: version.api_version(),
                metadata: ListMeta {
                    resource_version: meta.metadata.resource_version.unwrap_or_default(),
                    continue_: None,
                    remaining_item_count: None,
                },
                column_definitions: if columns { resource.columns } else { &[] },
                rows: vec![row(resource, bytes, include, version)?],
            };
            let mut json = Vec::with_capacity(row_bytes(bytes, include));
            serde_json::to_writer(&mut json, &table).map_err(Failure::internal)?;
            Ok(json.into())
        }
    }
}

/// A list as JSON, made chunk by chunk while it is sent.
pub(crate) struct ListChunks {
    resource: Arc<Resource>,
    form: Form,
    include: Include,
    /// When its client must have read it.
    due: Instant,
    /// What has been made already.
    ready: Option<Bytes>,
    opening: Option<String>,
    items: VecDeque<Arc<CachedObject>>,
    /// The rest of an item, in the cache's own bytes.
    shared: Bytes,
    first: bool,
    closed: bool,
}

impl ListChunks {
    /// A list in a form. `include` is for Tables.
    pub(crate) fn new(resource: Arc<Resource>, list: Listed, form: Form, include: Include) -> Self {
        let meta = ListMeta::of(&list);
        let opening = match form {
            Form::Table(version) => opening(&Table {
                kind: "Table",
                api_version: version.api_version(),
                metadata: meta,
                column_definitions: resource.columns,
                rows: Vec::new(),
            }),
            Form::Metadata(version) => opening(&Items {
                kind: "PartialObjectMetadataList",
                api_version: version.api_version(),
                metadata: meta,
                items: [],
            }),
            Form::Object => opening(&Items {
                kind: resource.info.list_kind,
                api_version: &resource.info.api_version(),
                metadata: meta,
                items: [],
            }),
        };
        let items = VecDeque::from(list.items);
        let bytes = items.iter().map(|item| item.bytes.len()).sum();
        Self {
            resource,
            form,
            include,
            due: Instant::now() + crate::cache::time_for_state(bytes),
            ready: None,
            opening: Some(opening),
            items,
            shared: Bytes::new(),
            first: true,
            closed: false,
        }
    }

    /// All of it, if it is short.
    ///
    /// # Errors
    /// 500 for an object that cannot be read.
    pub(crate) fn whole(&mut self) -> Result<Option<Bytes>, Failure> {
        let mut bytes = 0;
        let short = self.items.iter().all(|item| {
            bytes += item.bytes.len();
            bytes <= CHUNK_BYTES
        });
        if !short {
            return Ok(None);
        }
        let first = self.next().transpose()?;
        if self.closed {
            return Ok(first);
        }
        self.ready = first;
        Ok(None)
    }

    /// The next item, if it is large and is sent in another form than the cache's.
    fn next_to_convert(&self) -> Option<&Arc<CachedObject>> {
        let is_shared = self.form == Form::Object && self.resource.is_stored_form();
        self.items.front().filter(|item| !is_shared && item.bytes.len() > CHUNK_BYTES)
    }

    /// The next bytes. A large item that is made into another form takes of the room of the user who
    /// gets it, until it is sent: there may be many answers, and clients that read slowly.
    pub(crate) async fn next_within(
        &mut self,
        lanes: &Lanes,
        user: &str,
    ) -> Option<Result<Bytes, Failure>> {
        if let Some(late) = self.late() {
            return Some(Err(late));
        }
        let begins = self.ready.is_none() && self.opening.is_none() && self.shared.is_empty();
        let Some(item) = self.next_to_convert().filter(|_| begins).cloned() else {
            return self.next();
        };
        // Metadata, and rows with metadata, are mostly short, however large the object is.
        let is_whole = self.form == Form::Object || self.include == Include::Object;
        let mut room = match is_whole {
            true => Some(lanes.next_answer_room(user, item.bytes.len()).await),
            false => None,
        };
        let first = self.first;
        let mut chunk = self.next()?;
        if let (None, Ok(bytes)) = (&room, &chunk)
            && bytes.len() > CHUNK_BYTES
        {
            let length = bytes.len();
            room = lanes.free_answer_room(user, length);
            if room.is_none() {
                // What waits holds nothing.
                drop(chunk);
                (self.first, _) = (first, self.items.push_front(item));
                room = Some(lanes.next_answer_room(user, length).await);
                chunk = self.next()?;
            }
        }
        Some(chunk.map(|chunk| lanes::holding(chunk, room)))
    }

    /// Ends the list where its client has had its time: it keeps alive what may be gone since.
    fn late(&mut self) -> Option<Failure> {
        if self.closed || Instant::now() < self.due {
            return None;
        }
        self.closed = true;
        (self.ready, self.shared) = (None, Bytes::new());
        self.items.clear();
        Some(Failure::plain(Reason::Timeout, "the list was read too slowly"))
    }

    fn put(&mut self, out: &mut BytesMut, item: &CachedObject) -> Result<(), Failure> {
        if !std::mem::take(&mut self.first) {
            out.put_u8(b',');
        }
        match self.form {
            Form::Metadata(version) => out.put_slice(&metadata_json(&item.bytes, version)?),
            Form::Table(version) => {
                let row = row(&self.resource, &item.bytes, self.include, version)?;
                out.reserve(row_bytes(&item.bytes, self.include));
                serde_json::to_writer(out.writer(), &row).map_err(Failure::internal)?;
            }
            _ if self.resource.is_stored_form() => {
                let (open, rest) = self.resource.head().list_item(&item.bytes);
                out.put_slice(open);
                if rest.len() > CHUNK_BYTES {
                    self.shared = rest;
                } else {
                    out.put_slice(&rest);
                }
            }
            _ => out.put_slice(&self.resource.present(&item.bytes)),
        }
        Ok(())
    }
}

/// A list as YAML on its way.
struct YamlList {
    before: Option<String>,
    chunks: ListChunks,
    after: Option<String>,
    lanes: Arc<Lanes>,
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
        let room = match item.bytes.len() {
            0..=CHUNK_BYTES => None,
            bytes => {
                let most = bytes * respond::YAML_GROWTH_MAX;
                Some(self.lanes.next_answer_room(&self.user, most).await)
            }
        };
        let mut json = BytesMut::new();
        // No comma before it.
        self.chunks.first = true;
        self.chunks.put(&mut json, item)?;
        json.put(std::mem::take(&mut self.chunks.shared));
        let json = Vec::from(json);
        let bytes = json.len();
        let text = self.lanes.run(&self.user, bytes, async move { Ok(yaml_item(json)) }).await?;
        Ok(lanes::holding(text, room))
    }
}

impl ListChunks {
    /// The list as YAML, item by item: a tree of all of it would be many times its length.
    pub(crate) fn into_yaml(
        mut self,
        lanes: Arc<Lanes>,
        user: String,
        place: Option<Place>,
    ) -> Body {
        let (before, after) = self.yaml_ends();
        let (before, after) = (Some(before), Some(after));
        let list = YamlList { before, chunks: self, after, lanes, user };
        let parts = stream::unfold((list, place), |(mut list, place)| async move {
            tokio::task::yield_now().await;
            let text = list.next().await?;
            let frame = text.map(Frame::data).map_err(std::io::Error::other);
            Some((frame, (list, place)))
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

impl Iterator for ListChunks {
    type Item = Result<Bytes, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(ready) = self.ready.take() {
            return Some(Ok(ready));
        }
        if !self.shared.is_empty() {
            // Not all at once, so that it is looked at between whether there is time left.
            let length = self.shared.len().min(CHUNK_BYTES);
            return Some(Ok(self.shared.split_to(length)));
        }
        if self.closed {
            return None;
        }
        let mut out = BytesMut::with_capacity(CHUNK_BYTES + 4096);
        if let Some(opening) = self.opening.take() {
            out.put_slice(opening.as_bytes());
        }
        let mut visited = 0;
        while out.len() < CHUNK_BYTES && visited < VISIT_BYTES && self.shared.is_empty() {
            let alone = self.next_to_convert().is_some();
            if alone && !out.is_empty() {
                break;
            }
            let Some(item) = self.items.pop_front() else {
                out.put_slice(b"]}\n");
                self.closed = true;
                break;
            };
            visited += item.bytes.len();
            if let Err(failure) = self.put(&mut out, &item) {
                self.closed = true;
                return Some(Err(failure));
            }
            if alone {
                break;
            }
        }
        Some(Ok(out.freeze()))
    }
}
