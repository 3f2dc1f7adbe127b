//! A list as JSON, made chunk by chunk while it is sent, so that a second copy of it is never whole.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use coffer_api::reason::Reason;
use coffer_api::status::Failure;
use serde::Serialize;
use tokio::time::Instant;

use super::{Include, ListMeta, Table, metadata_json, row, row_bytes};
use crate::cache::CachedObject;
use crate::memory_pool::{self, MemoryPool};
use crate::object::{Resource, undecoded};
use crate::registry::Listed;
use crate::respond::Form;

/// Bytes of a list sent at a time.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of objects visited for one chunk.
const VISIT_BYTES: usize = 256 * 1024;

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

impl<'a> ListMeta<'a> {
    fn of(list: &'a Listed) -> Self {
        Self {
            resource_version: list.revision.to_string(),
            continue_: list.continue_.as_deref(),
            remaining_item_count: list.remaining,
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
    pub(super) opening: Option<String>,
    pub(super) items: VecDeque<Arc<CachedObject>>,
    /// The rest of an item, in the cache's own bytes.
    pub(super) shared: Bytes,
    pub(super) first: bool,
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
                column_definitions: resource.info.columns,
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
        let mut items = VecDeque::from(list.items);
        // Of what cannot be decoded there is nothing but metadata.
        items.retain(|item| item.is_decoded || matches!(form, Form::Metadata(_)));
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
    /// gets it, until it is sent: there may be many responses, and clients that read slowly.
    pub(crate) async fn next_within(
        &mut self,
        memory: &MemoryPool,
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
        let mut reservation = match is_whole {
            true => Some(memory.reserve_chunk(user, item.bytes.len()).await),
            false => None,
        };
        let first = self.first;
        let mut chunk = self.next()?;
        if let (None, Ok(bytes)) = (&reservation, &chunk)
            && bytes.len() > CHUNK_BYTES
        {
            let length = bytes.len();
            reservation = memory.try_reserve_response(user, length);
            if reservation.is_none() {
                // What waits holds nothing.
                drop(chunk);
                (self.first, _) = (first, self.items.push_front(item));
                reservation = Some(memory.reserve_chunk(user, length).await);
                chunk = self.next()?;
            }
        }
        Some(chunk.map(|chunk| memory_pool::with_reservation(chunk, reservation)))
    }

    /// Ends the list where its client has had its time: it keeps in memory what may be deleted since.
    pub(super) fn late(&mut self) -> Option<Failure> {
        if self.closed || Instant::now() < self.due {
            return None;
        }
        self.closed = true;
        (self.ready, self.shared) = (None, Bytes::new());
        self.items.clear();
        Some(Failure::plain(Reason::Timeout, "the list was read too slowly"))
    }

    pub(super) fn put(&mut self, out: &mut BytesMut, item: &CachedObject) -> Result<(), Failure> {
        if !std::mem::take(&mut self.first) {
            out.put_u8(b',');
        }
        match self.form {
            Form::Metadata(version) if !item.is_decoded => {
                let identity = undecoded::identity(item, item.revision);
                out.put_slice(&metadata_json(&identity, version)?);
            }
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
            _ => out.put_slice(&self.resource.to_client_version(&item.bytes)),
        }
        Ok(())
    }
}

impl Iterator for ListChunks {
    type Item = Result<Bytes, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(ready) = self.ready.take() {
            return Some(Ok(ready));
        }
        if !self.shared.is_empty() {
            // In pieces, so that the time that is left is checked between them.
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
