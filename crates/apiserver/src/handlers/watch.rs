//! WATCH: a subscription to the cache as a stream of JSON events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use coffer_api::status::Failure;
use coffer_store::Revision;
use futures::stream;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::json;
use tokio::time::Instant;

use super::Handlers;
use crate::authz::AccessRecheck;
use crate::cache::{CacheEvent, CachedObject, Initial, NoEvent, Start, Subscription};
use crate::call::Call;

use crate::memory_pool::{COPY_BYTES_MAX, MemoryReservation, with_reservation};
use crate::object::undecoded;
use crate::options::StateOptions;
use crate::registry::Selection;
use crate::representation::{self, Include};
use crate::request::Query;
use crate::respond::{self, Form, Response, Syntax};

/// Time between bookmarks on a quiet watch.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Shortest and longest timeout of a watch whose client names none, in seconds.
const DEFAULT_TIMEOUT_S: std::ops::Range<u64> = 1800..3600;
/// The longest timeout, in seconds: a year, beyond any connection's life.
const TIMEOUT_MAX_S: u64 = 366 * 24 * 3600;
/// Bytes gathered into one frame when many events wait.
const FRAME_BYTES: usize = 64 * 1024;
/// Bytes of objects visited before other tasks may run.
const VISIT_BYTES: usize = 256 * 1024;
/// A watch with longer selectors, in bytes, takes of the memory that its user has.
const LARGE_SELECTOR: usize = 4096;
/// Bytes of memory for each byte of a selector: many short values.
const SELECTOR_MEMORY: usize = 32;
/// Marks the bookmark after which a watcher has the whole initial state.
const INITIAL_EVENTS_END: &str = coffer_api::well_known::annotation::INITIAL_EVENTS_END;

/// One watch on its way to a client.
struct Watch {
    handlers: Arc<Handlers>,
    call: Call,
    selection: Selection,
    _selection_memory: Option<MemoryReservation>,
    include: Include,
    access: AccessRecheck,
    subscription: Subscription,
    /// What happened up to here the client has seen, or says so of what is yet to come.
    after: Revision,
    bookmarks: bool,
    /// The client asked for the current state first and for a bookmark where it ends.
    marks_initial_end: bool,
    /// The initial state has been sent.
    begun: bool,
    ended: bool,
    outbox: Outbox,
    columns_sent: bool,
    ends_at: Instant,
    next_bookmark: Instant,
}

impl Handlers {
    pub(super) async fn watch(self: &Arc<Self>, mut call: Call) -> Result<Response, Failure> {
        if call.accept.syntax == Syntax::Yaml {
            return Err(respond::not_acceptable("application/json;stream=watch"));
        }
        let include = Include::parse(&call.query)?;
        let timeout = watch_timeout(&call.query)?;
        let options = StateOptions::of_watch(&call.query)?;
        let mut selection = Selection::parse(&call.query, &call.resource)?;
        if !call.path.name.is_empty() {
            selection.require_name(&call.path.name)?;
        }
        let user = &call.permit.identity().user;
        let selectors = ["labelSelector", "fieldSelector"].map(|name| call.query.get(name));
        let selectors: usize = selectors.into_iter().flatten().map(str::len).sum();
        let selection_memory = if selectors > LARGE_SELECTOR {
            Some(self.executor.memory.reserve_body(user, selectors * SELECTOR_MEMORY).await?)
        } else {
            None
        };
        let start = self.start(&options).await?;
        let scope = selection.scope(&call.resource, &call.path.namespace);
        // Before the state is taken: what waits holds nothing.
        let slot = match start {
            Start::Now => self.slot_for(&call, &scope).await?,
            Start::After(_) => None,
        };
        // Everything up to here is in the shard before its state is taken.
        let reached = self.core.registry.revision();
        let after = match start {
            Start::After(revision) => revision,
            Start::Now => 0,
        };
        let mut subscription = match call.resource.shard().subscribe(scope, start) {
            Ok(subscription) => subscription,
            Err(too_old) => return Ok(expired(&call, too_old.oldest)),
        };
        subscription.inbox.hold(slot);
        subscription.revision = subscription.revision.max(reached).max(after);
        let now = Instant::now();
        let bookmarks = call.query.flag("allowWatchBookmarks");
        let access =
            AccessRecheck::of(&call.path, selection.name(), call.query.get("fieldSelector"));
        // A watch lives long; what a client says in its headers is not kept for as long.
        (call.headers, call.query) = Default::default();
        let watch = Watch {
            handlers: self.clone(),
            bookmarks,
            marks_initial_end: options.send_initial_events == Some(true),
            access,
            selection,
            _selection_memory: selection_memory,
            include,
            subscription,
            after,
            begun: false,
            ended: false,
            outbox: Outbox::default(),
            columns_sent: false,
            ends_at: now + timeout,
            next_bookmark: now + BOOKMARK_EVERY,
            call,
        };
        let frames = stream::unfold(watch, |mut watch| async move {
            let bytes = watch.next().await?;
            Some((Ok::<_, std::io::Error>(Frame::data(bytes)), watch))
        });
        let body = StreamBody::new(frames).boxed_unsync();
        Ok(respond::typed(StatusCode::OK, "application/json", body))
    }

    /// Where the watch begins, as resourceVersion and sendInitialEvents have it.
    async fn start(&self, options: &StateOptions) -> Result<Start, Failure> {
        let version = options.revision()?.filter(|version| *version > 0);
        let initial = options.send_initial_events;
        match version {
            // Only the current state can be too old: what is to come may begin any time later.
            Some(version) if initial != Some(true) => return Ok(Start::After(version)),
            Some(version) => self.core.registry.wait_for(version).await?,
            None => self.core.registry.settle().await?,
        }
        Ok(match initial {
            Some(false) => Start::After(self.core.registry.revision()),
            _ => Start::Now,
        })
    }
}

/// The timeout of a watch: the client's, else a random one, so that clients do not all reconnect at the same
/// time.
fn watch_timeout(query: &Query) -> Result<Duration, Failure> {
    let wanted = query.number("timeoutSeconds")?.filter(|seconds| *seconds != 0);
    // A negative time counts as 0.
    let wanted = wanted.map(|seconds| u64::try_from(seconds).unwrap_or_default());
    let seconds = wanted.unwrap_or_else(|| rand::random_range(DEFAULT_TIMEOUT_S));
    Ok(Duration::from_secs(seconds.min(TIMEOUT_MAX_S)))
}

/// The response to a watch that begins too far back: one ERROR event with code 410, as upstream's watch cache
/// sends it and clients expect it.
fn expired(call: &Call, oldest: Revision) -> Response {
    let requested = call.query.get("resourceVersion").unwrap_or_default();
    let failure = Failure::expired(format!("too old resource version: {requested} ({oldest})"));
    let mut outbox = Outbox::default();
    let status = serde_json::to_vec(&failure.status()).expect("a Status encodes");
    outbox.put("ERROR", status.into());
    let line = outbox.pop().unwrap_or_default();
    respond::typed(StatusCode::OK, "application/json", respond::full(line))
}

/// An object's bytes, or its identity if it cannot be decoded.
fn shown(object: &CachedObject) -> Bytes {
    match object.is_decoded {
        true => object.bytes.clone(),
        false => undecoded::identity(object, object.revision),
    }
}

impl Watch {
    /// The next bytes to send; `None` ends the watch.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.outbox.pop() {
                return Some(bytes);
            }
            if self.ended {
                return None;
            }
            if self.begun {
                self.put_live().await;
            } else {
                self.put_initial().await;
            }
        }
    }

    /// Puts as much of the initial state as one frame takes.
    async fn put_initial(&mut self) {
        if !self.recheck_access() {
            return;
        }
        let mut visited = 0;
        while self.outbox.len() < FRAME_BYTES {
            match self.subscription.inbox.next_initial() {
                Initial::Object(object) => {
                    visited += object.bytes.len();
                    if self.shows(&object) {
                        self.put("ADDED", shown(&object)).await;
                    }
                }
                Initial::Done => {
                    self.begun = true;
                    if self.marks_initial_end {
                        self.put_bookmark(true).await;
                    }
                    return;
                }
                Initial::Ended => self.ended = true,
            }
            if self.ended {
                return;
            }
            if visited > VISIT_BYTES {
                visited = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for an event, and puts it.
    async fn put_live(&mut self) {
        let shutdown = self.handlers.shutdown.clone();
        let wake = self.next_bookmark.min(self.ends_at);
        tokio::select! {
            () = shutdown.cancelled() => self.ended = true,
            () = tokio::time::sleep_until(wake) => {
                let last = Instant::now() >= self.ends_at;
                self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                self.put_bookmark(false).await;
                self.ended |= last;
            }
            event = self.subscription.inbox.next() => {
                let Some(event) = event else {
                    self.ended = true;
                    return;
                };
                self.put_event(&event).await;
                while self.outbox.len() < FRAME_BYTES {
                    let Ok(event) = self.subscription.inbox.try_next() else { break };
                    self.put_event(&event).await;
                }
            }
        }
    }

    /// Whether the watcher may still see what it watches; ends the watch otherwise.
    fn recheck_access(&mut self) -> bool {
        self.ended =
            self.ended || !self.access.holds(&self.handlers.core.authorizer, &self.call.permit);
        !self.ended
    }

    async fn put_event(&mut self, event: &CacheEvent) {
        if !self.recheck_access() || event.revision <= self.after {
            return;
        }
        let matching =
            |object: &Option<Arc<CachedObject>>| object.clone().filter(|object| self.shows(object));
        match (matching(&event.old), matching(&event.new)) {
            (None, Some(new)) => self.put("ADDED", shown(&new)).await,
            (Some(_), Some(new)) => self.put("MODIFIED", shown(&new)).await,
            (Some(old), None) if !old.is_decoded => {
                self.put("DELETED", undecoded::identity(&old, event.revision)).await;
            }
            (Some(old), None) => {
                // The last state the watcher may see, at the revision that took it away.
                let Ok(reservation) = self.reserve_copy(old.bytes.len()).await else { return };
                let head = self.call.resource.head();
                let last = crate::encoded::restamp(head, &old.bytes, old.revision, event.revision);
                self.put("DELETED", with_reservation(last, reservation)).await;
            }
            (None, None) => {}
        }
    }

    /// Whether the watcher wants an object, and may be shown it: of what cannot be decoded there is nothing but
    /// metadata.
    fn shows(&self, object: &CachedObject) -> bool {
        let is_metadata = matches!(self.call.accept.form, Form::Metadata(_));
        (object.is_decoded || is_metadata) && self.selection.matches(object)
    }

    async fn put(&mut self, kind: &str, stored: Bytes) {
        let Call { resource, accept, .. } = &self.call;
        if accept.form == Form::Object && resource.is_stored_form() {
            // The cache's own bytes, which many watchers share.
            self.outbox.put(kind, stored);
            return;
        }
        let Ok(reservation) = self.reserve_copy(stored.len()).await else { return };
        let columns = !std::mem::replace(&mut self.columns_sent, true);
        let Call { resource, accept, .. } = &self.call;
        match representation::object(resource, &stored, accept.form, self.include, columns) {
            Ok(object) => self.outbox.put(kind, with_reservation(object, reservation)),
            Err(failure) => {
                let status = serde_json::to_vec(&failure.status()).expect("a Status encodes");
                self.outbox.put("ERROR", status.into());
                self.ended = true;
            }
        }
    }

    /// Memory for a copy of an object for this watcher alone, where that is large: thousands of watches
    /// that do not read would hold one each. Ends the watch where none is free in time.
    async fn reserve_copy(&mut self, bytes: usize) -> Result<Option<MemoryReservation>, Failure> {
        if bytes <= FRAME_BYTES {
            return Ok(None);
        }
        let user = &self.call.permit.identity().user;
        let reservation = self.handlers.executor.memory.reserve_response(user, bytes).await;
        self.ended |= reservation.is_err();
        reservation.map(Some)
    }

    /// Sends a bookmark, if the watcher asked for them.
    async fn put_bookmark(&mut self, initial_end: bool) {
        if !self.bookmarks {
            return;
        }
        let mut revision = self.subscription.revision;
        if !initial_end {
            // What is applied by now is queued by now: send it first, then say how far that is.
            revision = revision.max(self.handlers.core.registry.revision()).max(self.after);
            loop {
                match self.subscription.inbox.try_next() {
                    Ok(event) => self.put_event(&event).await,
                    Err(NoEvent::Empty) => break,
                    // It was dropped for being slow: a bookmark must not skip what it missed.
                    Err(NoEvent::Ended) => self.ended = true,
                }
                if self.ended {
                    return;
                }
            }
        }
        let object = self.bookmark(revision, initial_end);
        self.outbox.put("BOOKMARK", object.to_string().into());
    }

    fn bookmark(&self, revision: Revision, initial_end: bool) -> serde_json::Value {
        let mut meta =
            json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if initial_end {
            meta["annotations"] = json!({ INITIAL_EVENTS_END: "true" });
        }
        let info = self.call.resource.info;
        match self.call.accept.form {
            Form::Object => {
                json!({ "kind": info.kind, "apiVersion": info.api_version(), "metadata": meta })
            }
            Form::Metadata(version) => json!({
                "kind": "PartialObjectMetadata", "apiVersion": version.api_version(),
                "metadata": meta,
            }),
            Form::Table(version) => json!({
                "kind": "Table", "apiVersion": version.api_version(),
                "metadata": { "resourceVersion": revision.to_string() },
                "columnDefinitions": [],
                "rows": [{ "cells": [], "object": {
                    "kind": "PartialObjectMetadata", "apiVersion": version.api_version(),
                    "metadata": meta,
                } }],
            }),
        }
    }
}

/// Lines on their way out. Short objects are gathered; long ones leave as they are, without a copy.
#[derive(Default)]
struct Outbox {
    ready: VecDeque<Bytes>,
    gathered: BytesMut,
    length: usize,
}

impl Outbox {
    fn put(&mut self, kind: &str, object: Bytes) {
        let before = self.gathered.len();
        self.gathered.put_slice(b"{\"type\":\"");
        self.gathered.put_slice(kind.as_bytes());
        self.gathered.put_slice(b"\",\"object\":");
        if object.len() <= COPY_BYTES_MAX {
            self.gathered.put_slice(&object);
            self.length += self.gathered.len() - before;
        } else {
            self.length += self.gathered.len() - before + object.len();
            self.ready.push_back(self.gathered.split().freeze());
            self.ready.push_back(object);
        }
        self.gathered.put_slice(b"}\n");
        self.length += 2;
    }

    fn pop(&mut self) -> Option<Bytes> {
        let next = self.ready.pop_front().or_else(|| {
            let gathered = std::mem::take(&mut self.gathered);
            (!gathered.is_empty()).then(|| gathered.freeze())
        })?;
        self.length -= next.len();
        Some(next)
    }

    fn len(&self) -> usize {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_objects_are_gathered_and_long_ones_are_not_copied() {
        let mut outbox = Outbox::default();
        let long = Bytes::from(vec![b'x'; COPY_BYTES_MAX + 1]);
        outbox.put("ADDED", Bytes::from_static(b"{}"));
        outbox.put("MODIFIED", long.clone());
        outbox.put("DELETED", Bytes::from_static(b"{}"));
        let total = outbox.len();
        let mut pieces = Vec::new();
        while let Some(piece) = outbox.pop() {
            pieces.push(piece);
        }
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1].as_ptr(), long.as_ptr());
        let text = String::from_utf8(pieces.concat()).unwrap();
        assert_eq!(text.len(), total);
        let short = text.replace(&"x".repeat(long.len()), "X");
        let wanted = "{\"type\":\"ADDED\",\"object\":{}}\n{\"type\":\"MODIFIED\",\"object\":X}\n\
                      {\"type\":\"DELETED\",\"object\":{}}\n";
        assert_eq!((short.as_str(), outbox.len()), (wanted, 0));
    }
}
