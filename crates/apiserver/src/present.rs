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
use crate::lanes::Lanes;
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
            serde_json::to_vec(&table).map(Bytes::from).map_err(Failure::internal)
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
        Self { resource, form, include, opening: Some(opening), items, first: true, closed: false }
    }

    fn put(&mut self, out: &mut BytesMut, item: &CachedObject) -> Result<(), Failure> {
        if !std::mem::take(&mut self.first) {
            out.put_u8(b',');
        }
        match self.form {
            Form::Metadata(version) => out.put_slice(&metadata_json(&item.bytes, version)?),
            Form::Table(version) => {
                let row = row(&self.resource, &item.bytes, self.include, version)?;
                serde_json::to_writer(out.writer(), &row).map_err(Failure::internal)?;
            }
            _ if self.resource.is_stored_form() => {
                let (open, rest) = self.resource.head().list_item(&item.bytes);
                out.put_slice(open);
                out.put_slice(&rest);
            }
            _ => out.put_slice(&self.resource.present(&item.bytes)),
        }
        Ok(())
    }
}

/// What goes into one list of YAML.
enum Part {
    Text(String),
    /// An item, as JSON.
    Item(Vec<u8>),
}

impl ListChunks {
    /// The list as YAML, item by item: a tree of all of it would be many times its length. A large
    /// item is heavy work of the user.
    pub(crate) fn into_yaml(self, lanes: Arc<Lanes>, user: String) -> Body {
        let parts = stream::unfold((self.yaml_parts(), lanes, user), |state| async move {
            let (mut parts, lanes, user) = state;
            tokio::task::yield_now().await;
            let text = match parts.next()? {
                Err(failure) => Err(failure),
                Ok(Part::Text(text)) => Ok(Bytes::from(text)),
                Ok(Part::Item(json)) => {
                    let bytes = json.len();
                    lanes.run(&user, bytes, async move { Ok(yaml_item(json)) }).await
                }
            };
            let frame = text.map(Frame::data).map_err(std::io::Error::other);
            Some((frame, (parts, lanes, user)))
        });
        StreamBody::new(parts).boxed_unsync()
    }

    /// The members in the order of their names, as YAML made of a tree has them.
    fn yaml_parts(mut self) -> impl Iterator<Item = Result<Part, Failure>> {
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
        let after = yaml_text(&Value::Object(after));
        let mut objects = std::mem::take(&mut self.items);
        let items = std::iter::from_fn(move || {
            let object = objects.next()?;
            // No comma before it.
            self.first = true;
            let mut out = BytesMut::new();
            Some(self.put(&mut out, &object).map(|()| Part::Item(out.into())))
        });
        [Ok(Part::Text(before))].into_iter().chain(items).chain([Ok(Part::Text(after))])
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
        if self.closed {
            return None;
        }
        let mut out = BytesMut::with_capacity(CHUNK_BYTES + 4096);
        if let Some(opening) = self.opening.take() {
            out.put_slice(opening.as_bytes());
        }
        let mut visited = 0;
        while out.len() < CHUNK_BYTES && visited < VISIT_BYTES {
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
