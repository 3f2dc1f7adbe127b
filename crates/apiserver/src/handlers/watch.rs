//! WATCH: a subscription to the cache as a stream of JSON events.

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
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::Instant;

use super::{Call, Handlers};
use crate::authz::Standing;
use crate::cache::{CacheEvent, CachedObject, Start, Subscription};
use crate::options::StateOptions;
use crate::present::{self, Include};
use crate::registry::Selection;
use crate::request::Query;
use crate::respond::{self, Answer, Form, Syntax};

/// Time between bookmarks on a quiet watch.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Shortest and longest life of a watch whose client names none, in seconds.
const LIFE_S: std::ops::Range<u64> = 1800..3600;
/// Longest life that is reckoned with, in seconds: a year, beyond any connection's.
const LIFE_MAX_S: u64 = 366 * 24 * 3600;
/// Bytes gathered into one frame when many events wait.
const FRAME_BYTES: usize = 64 * 1024;
/// Marks the bookmark after which a watcher has the whole initial state.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// One watch on its way to a client.
struct Watch {
    handlers: Arc<Handlers>,
    call: Call,
    selection: Selection,
    include: Include,
    standing: Standing,
    subscription: Subscription,
    /// What happened up to here the client has seen, or says so of what is yet to come.
    after: Revision,
    bookmarks: bool,
    /// The client asked for the present state first and for a bookmark where it ends.
    marks_initial_end: bool,
    started: bool,
    ended: bool,
    columns_sent: bool,
    ends_at: Instant,
    next_bookmark: Instant,
}

impl Handlers {
    pub(super) async fn watch(self: &Arc<Self>, call: Call) -> Result<Answer, Failure> {
        if call.accept.syntax == Syntax::Yaml {
            return Err(respond::not_acceptable("application/json;stream=watch"));
        }
        let include = Include::parse(&call.query)?;
        let life = life(&call.query)?;
        let options = StateOptions::of_watch(&call.query)?;
        let mut selection = Selection::parse(&call.query, &call.resource)?;
        if !call.path.name.is_empty() {
            selection.require_name(&call.path.name)?;
        }
        let start = self.start(&options).await?;
        let scope = selection.scope(&call.resource, &call.path.namespace);
        // Everything up to here is in the shard before its state is taken.
        let reached = self.registry.cache.revision();
        let after = match start {
            Start::After(revision) => revision,
            Start::Now => 0,
        };
        let mut subscription = match call.resource.shard().subscribe(scope, start) {
            Ok(subscription) => subscription,
            Err(too_old) => return Ok(expired(&call, too_old.oldest)),
        };
        subscription.revision = subscription.revision.max(reached).max(after);
        let now = Instant::now();
        let watch = Watch {
            handlers: self.clone(),
            bookmarks: call.query.flag("allowWatchBookmarks"),
            marks_initial_end: options.send_initial_events == Some(true),
            standing: Standing::of(&call.path, selection.name(), call.query.get("fieldSelector")),
            selection,
            include,
            subscription,
            after,
            started: false,
            ended: false,
            columns_sent: false,
            ends_at: now + life,
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
            // Only the present state can be too old: what is to come may begin any time later.
            Some(version) if initial != Some(true) => return Ok(Start::After(version)),
            Some(version) => self.registry.wait_for(version).await?,
            None => self.registry.settle().await?,
        }
        Ok(match initial {
            Some(false) => Start::After(self.registry.cache.revision()),
            _ => Start::Now,
        })
    }
}

/// How long a watch lives: as its client wants, else at random, so that not all come back at once.
fn life(query: &Query) -> Result<Duration, Failure> {
    let wanted = query.number("timeoutSeconds")?.filter(|seconds| *seconds != 0);
    // A negative time is over at once.
    let wanted = wanted.map(|seconds| u64::try_from(seconds).unwrap_or_default());
    let seconds = wanted.unwrap_or_else(|| rand::random_range(LIFE_S));
    Ok(Duration::from_secs(seconds.min(LIFE_MAX_S)))
}

/// A watch that begins too far back: an answer of one ERROR event with code 410, as upstream's
/// watch cache gives it, so that clients find it where they look for it.
fn expired(call: &Call, oldest: Revision) -> Answer {
    let requested = call.query.get("resourceVersion").unwrap_or_default();
    let failure = Failure::expired(format!("too old resource version: {requested} ({oldest})"));
    let mut out = BytesMut::new();
    let status = serde_json::to_vec(&failure.status()).expect("a Status encodes");
    put_frame(&mut out, "ERROR", &status);
    respond::typed(StatusCode::OK, "application/json", respond::full(out.freeze()))
}

impl Watch {
    /// The next bytes to send; `None` ends the watch.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut out = BytesMut::new();
        if !std::mem::replace(&mut self.started, true) {
            self.put_past(&mut out);
        }
        while out.is_empty() {
            if self.ended {
                return None;
            }
            let shutdown = self.handlers.shutdown.clone();
            let wake = self.next_bookmark.min(self.ends_at);
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = tokio::time::sleep_until(wake) => {
                    if Instant::now() >= self.ends_at {
                        self.put_bookmark(&mut out, false);
                        self.ended = true;
                        break;
                    }
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    self.put_bookmark(&mut out, false);
                }
                event = self.subscription.live.recv() => {
                    let event = event?;
                    self.put_event(&mut out, &event);
                    while out.len() < FRAME_BYTES {
                        let Ok(event) = self.subscription.live.try_recv() else { break };
                        self.put_event(&mut out, &event);
                    }
                }
            }
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    fn put_past(&mut self, out: &mut BytesMut) {
        for object in std::mem::take(&mut self.subscription.initial) {
            if self.selection.matches(&object) {
                self.put(out, "ADDED", &object.bytes);
            }
        }
        for event in std::mem::take(&mut self.subscription.backlog) {
            self.put_event(out, &event);
        }
        if self.marks_initial_end {
            self.put_bookmark(out, true);
        }
    }

    fn put_event(&mut self, out: &mut BytesMut, event: &CacheEvent) {
        if self.ended || !self.standing.holds(&self.handlers.authorizer, &self.call.permit) {
            self.ended = true;
            return;
        }
        if event.revision <= self.after {
            return;
        }
        let matching = |object: &Option<Arc<CachedObject>>| {
            object.clone().filter(|object| self.selection.matches(object))
        };
        match (matching(&event.old), matching(&event.new)) {
            (None, Some(new)) => self.put(out, "ADDED", &new.bytes),
            (Some(_), Some(new)) => self.put(out, "MODIFIED", &new.bytes),
            (Some(old), None) => {
                // The last state the watcher may see, at the revision that took it away.
                let head = self.call.resource.head();
                let last = crate::encoded::restamp(head, &old.bytes, old.revision, event.revision);
                self.put(out, "DELETED", &last);
            }
            (None, None) => {}
        }
    }

    fn put(&mut self, out: &mut BytesMut, kind: &str, stored: &Bytes) {
        let columns = !std::mem::replace(&mut self.columns_sent, true);
        let form = self.call.accept.form;
        let object = present::object(&self.call.resource, stored, form, self.include, columns);
        match object {
            Ok(object) => put_frame(out, kind, &object),
            Err(failure) => {
                let status = serde_json::to_vec(&failure.status()).expect("a Status encodes");
                put_frame(out, "ERROR", &status);
                self.ended = true;
            }
        }
    }

    /// Says how far the watcher is, if it asked to be told.
    fn put_bookmark(&mut self, out: &mut BytesMut, initial_end: bool) {
        if !self.bookmarks {
            return;
        }
        let mut revision = self.subscription.revision;
        if !initial_end {
            // What is applied by now is queued by now: send it first, then say how far that is.
            revision = revision.max(self.handlers.registry.cache.revision()).max(self.after);
            loop {
                match self.subscription.live.try_recv() {
                    Ok(event) => self.put_event(out, &event),
                    Err(TryRecvError::Empty) => break,
                    // It was dropped for being slow: what it missed must not be said to be past.
                    Err(TryRecvError::Disconnected) => self.ended = true,
                }
                if self.ended {
                    return;
                }
            }
        }
        let object = self.bookmark(revision, initial_end);
        put_frame(out, "BOOKMARK", object.to_string().as_bytes());
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

fn put_frame(out: &mut BytesMut, kind: &str, object: &[u8]) {
    out.reserve(object.len() + 32);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
}
