//! One object or a list in the form the client asked for: as it is, as Table, as metadata only.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use coffer_api::status::Failure;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cache::CachedObject;
use crate::object::Resource;
use crate::printers::{Column, RowCondition};
use crate::registry::Listed;
use crate::request::Query;
use crate::respond::{Form, MetaVersion};

/// Bytes of a list sent at a time.
const CHUNK_BYTES: usize = 64 * 1024;

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

/// A list as one Table.
pub(crate) fn table(
    resource: &Resource,
    list: &Listed,
    include: Include,
    version: MetaVersion,
) -> Result<Bytes, Failure> {
    let rows = list.items.iter().map(|item| row(resource, &item.bytes, include, version));
    let table = Table {
        kind: "Table",
        api_version: version.api_version(),
        metadata: ListMeta::of(list),
        column_definitions: resource.columns,
        rows: rows.collect::<Result<_, _>>()?,
    };
    serde_json::to_vec(&table).map(Bytes::from).map_err(Failure::internal)
}

/// A list as JSON, made chunk by chunk while it is sent.
pub(crate) struct ListChunks {
    resource: Arc<Resource>,
    form: Form,
    opening: Option<String>,
    items: std::vec::IntoIter<Arc<CachedObject>>,
    first: bool,
    closed: bool,
}

impl ListChunks {
    /// A list in [`Form::Object`] or [`Form::Metadata`].
    pub(crate) fn new(resource: Arc<Resource>, list: Listed, form: Form) -> Self {
        let meta = serde_json::to_string(&ListMeta::of(&list)).expect("strings encode");
        let (kind, version) = match form {
            Form::Metadata(version) => {
                ("PartialObjectMetadataList", version.api_version().to_owned())
            }
            _ => (resource.info.list_kind, resource.info.api_version()),
        };
        let opening = format!(
            "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{meta},\"items\":["
        );
        let items = list.items.into_iter();
        Self { resource, form, opening: Some(opening), items, first: true, closed: false }
    }

    fn put(&mut self, out: &mut BytesMut, item: &CachedObject) -> Result<(), Failure> {
        if !std::mem::take(&mut self.first) {
            out.put_u8(b',');
        }
        match self.form {
            Form::Metadata(version) => out.put_slice(&metadata_json(&item.bytes, version)?),
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
        while out.len() < CHUNK_BYTES {
            let Some(item) = self.items.next() else {
                out.put_slice(b"]}\n");
                self.closed = true;
                break;
            };
            if let Err(failure) = self.put(&mut out, &item) {
                self.closed = true;
                return Some(Err(failure));
            }
        }
        Some(Ok(out.freeze()))
    }
}
