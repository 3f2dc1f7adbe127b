//! A watcher's stream: first the history from the requested revision on, read from the log, then what the hub
//! queues.
//!
//! The watcher subscribes to the hub before the history is read, and the hub returns where the two meet, so
//! that there is no gap between them and no event is delivered twice.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};

use super::connection::LogError;
use super::hub::Subscription;
use super::inner::Inner;
use super::log::{Op, View};
use crate::{Event, Revision, StoreError};

/// Log entries read for one step through the history.
const STEP_ENTRIES: usize = 512;
/// A step ends early once its values reach this size.
const STEP_BYTES: usize = 4 << 20;

/// One step through the history: the events found, and the last revision read.
struct Step {
    events: Vec<Event>,
    upto: Revision,
}

struct Watch {
    inner: Arc<Inner>,
    prefix: Arc<str>,
    subscription: Subscription,
    /// The history is delivered up to here.
    at: Revision,
    /// Where the history ends and the queue begins.
    until: Revision,
    ready: std::vec::IntoIter<Event>,
}

pub(super) fn watch(
    inner: Arc<Inner>,
    prefix: &str,
    after: Revision,
) -> Result<BoxStream<'static, Result<Event, StoreError>>, StoreError> {
    let (oldest, newest) = inner.served();
    if after < oldest {
        return Err(StoreError::Compacted { requested: after, oldest });
    }
    if after > newest {
        return Err(StoreError::Future { requested: after, newest });
    }
    let (subscription, until) =
        inner.hub.subscribe(prefix, after, inner.options.watch_queue_max)?;
    let ready = Vec::new().into_iter();
    let watch = Watch { inner, prefix: prefix.into(), subscription, at: after, until, ready };
    Ok(stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        let next = watch.next().await;
        let rest = next.is_ok().then_some(watch);
        Some((next, rest))
    })
    .boxed())
}

impl Watch {
    async fn next(&mut self) -> Result<Event, StoreError> {
        loop {
            if let Some(event) = self.ready.next() {
                return Ok(event);
            }
            if self.at >= self.until {
                return self.subscription.next().await;
            }
            let (prefix, at, until) = (Arc::clone(&self.prefix), self.at, self.until);
            let step = self.inner.read(move |_, view| step(view, &prefix, at, until)).await?;
            self.at = step.upto;
            self.ready = step.events.into_iter();
        }
    }
}

fn step(view: &View<'_>, prefix: &str, at: Revision, until: Revision) -> Result<Step, StoreError> {
    // Checked in the view: compaction may have overtaken the watcher between two steps.
    if at < view.oldest() {
        return Err(StoreError::Compacted { requested: at, oldest: view.oldest() });
    }
    let mut step = Step { events: Vec::new(), upto: until };
    let mut bytes = 0;
    let entries = view.entries(at, STEP_ENTRIES)?;
    let full = entries.len() == STEP_ENTRIES;
    let last = entries.last().map(|entry| entry.revision);
    for entry in entries.into_iter().take_while(|entry| entry.revision <= until) {
        if !entry.key.starts_with(prefix) {
            continue;
        }
        let value = (entry.op != Op::Delete).then(|| read(view, entry.revision, &mut bytes));
        step.events.push(entry.event(value.transpose()?));
        if bytes >= STEP_BYTES {
            step.upto = entry.revision;
            return Ok(step);
        }
    }
    if let (true, Some(last)) = (full, last) {
        step.upto = until.min(last);
    }
    Ok(step)
}

fn read(view: &View<'_>, revision: Revision, bytes: &mut usize) -> Result<crate::Value, LogError> {
    let value = view.value(revision)?;
    *bytes += value.as_bytes().len();
    Ok(value)
}
