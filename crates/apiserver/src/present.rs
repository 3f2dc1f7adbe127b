//! One object or a list in the form the client asked for: as it is, as Table, as metadata only.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use coffer_api::Document;
use coffer_api::status::Failure;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::cache::CachedObject;
use crate::lanes::{self, Lanes, Place};
use crate::object::Resource;
use crate::printers::{Column, RowCondition};
use crate::registry::Listed;
use crate::request::Query;
use crate::respond::{Body, Form, MetaVersion};

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
    serde_json::to_vec(&partial).map_err(Failure::internal)
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
    opening: Option<String>,
    items: std::vec::IntoIter<Arc<CachedObject>>,
    /// The rest of an item, in the cache's own bytes.
    shared: Option<Bytes>,
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
        let items = list.items.into_iter();
        Self {
            resource,
            form,
            include,
            opening: Some(opening),
            items,
            shared: None,
            first: true,
            closed: false,
        }
    }

    /// Whether all of it has been taken.
    pub(crate) fn is_at_end(&self) -> bool {
        self.closed && self.shared.is_none()
    }

    /// Whether items are sent as the cache has them.
    fn is_shared(&self) -> bool {
        self.form == Form::Object && self.resource.is_stored_form()
    }

    /// Bytes of the next item if it is large and of another form than the cache's.
    fn next_to_convert(&self) -> Option<usize> {
        let item = self.items.as_slice().first().filter(|_| !self.is_shared())?;
        Some(item.bytes.len()).filter(|bytes| *bytes > CHUNK_BYTES)
    }

    /// The next bytes. A large item that is made into another form takes the room of the user who
    /// gets it until it is sent: there may be many answers, and clients that read slowly.
    pub(crate) async fn next_within(
        &mut self,
        lanes: &Lanes,
        user: &str,
    ) -> Option<Result<Bytes, Failure>> {
        let room = match self.next_to_convert().filter(|_| self.shared.is_none()) {
            None => None,
            Some(bytes) => match lanes.room_for(user, bytes).await {
                Ok(room) => Some(room),
                Err(failure) => {
                    self.closed = true;
                    return Some(Err(failure));
                }
            },
        };
        Some(self.next()?.map(|chunk| lanes::holding(chunk, room)))
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
                    self.shared = Some(rest);
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
        let Some(item) = self.chunks.items.next() else {
            return self.after.take().map(|text| Ok(text.into()));
        };
        Some(self.item(&item).await)
    }

    async fn item(&mut self, item: &CachedObject) -> Result<Bytes, Failure> {
        let large = item.bytes.len() > CHUNK_BYTES;
        let room = match large {
            true => Some(self.lanes.room_for(&self.user, item.bytes.len()).await?),
            false => None,
        };
        let mut json = BytesMut::new();
        // No comma before it.
        self.chunks.first = true;
        self.chunks.put(&mut json, item)?;
        json.extend(self.chunks.shared.take());
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
        let empty = if self.items.len() == 0 { " []" } else { "" };
        let before = format!("{}{items}:{empty}\n", yaml_text(&Value::Object(before)));
        (before, yaml_text(&Value::Object(after)))
    }
}

/// Members as YAML; nothing for none.
fn yaml_text(value: &Value) -> String {
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
    let text = Zeroizing::new(yaml_text(document.value()));
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
        if let Some(shared) = self.shared.take() {
            return Some(Ok(shared));
        }
        if self.closed {
            return None;
        }
        let mut out = BytesMut::with_capacity(CHUNK_BYTES + 4096);
        if let Some(opening) = self.opening.take() {
            out.put_slice(opening.as_bytes());
        }
        let mut visited = 0;
        while out.len() < CHUNK_BYTES && visited < VISIT_BYTES && self.shared.is_none() {
            if visited > 0 && self.next_to_convert().is_some() {
                break;
            }
            let Some(item) = self.items.next() else {
                out.put_slice(b"]}\n");
                self.closed = true;
                break;
            };
            visited += item.bytes.len();
            if let Err(failure) = self.put(&mut out, &item) {
                self.closed = true;
                return Some(Err(failure));
            }
        }
        Some(Ok(out.freeze()))
    }
}
