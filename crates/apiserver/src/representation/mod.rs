//! The representation of an object that the client asked for: the object itself, a Table, or its metadata
//! only. `list` has lists of them, `yaml` lists in YAML.

mod list;
mod yaml;

use bytes::Bytes;
use coffer_api::status::Failure;
use coffer_api::table::{Column, RowCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::list::ListChunks;

use crate::object::Resource;
use crate::request::Query;
use crate::respond::{Form, MetaVersion};

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
        .map_err(|error| Failure::internal(coffer_api::redact::json(&error)))?;
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
        Include::Object => Some(resource.to_client_version(bytes).to_vec()),
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

/// The likely length of a row, in bytes: one that outgrows its buffer gets one of twice the size.
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
        Form::Object => Ok(resource.to_client_version(bytes)),
        Form::Metadata(version) => metadata_json(bytes, version).map(Bytes::from),
        Form::Table(version) => {
            let meta: OnlyMetadata = serde_json::from_slice(bytes)
                .map_err(|error| Failure::internal(coffer_api::redact::json(&error)))?;
            let table = Table {
                kind: "Table",
                api_version: version.api_version(),
                metadata: ListMeta {
                    resource_version: meta.metadata.resource_version.unwrap_or_default(),
                    continue_: None,
                    remaining_item_count: None,
                },
                column_definitions: if columns { resource.info.columns } else { &[] },
                rows: vec![row(resource, bytes, include, version)?],
            };
            let mut json = Vec::with_capacity(row_bytes(bytes, include));
            serde_json::to_writer(&mut json, &table).map_err(Failure::internal)?;
            Ok(json.into())
        }
    }
}
