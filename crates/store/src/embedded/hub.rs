//! Delivers each committed write to the watchers of its prefix.
//!
//! The writer publishes in revision order. Each watcher has its own bounded queue; if it is full, the watcher's
//! stream ends, and the writer never waits. Watchers are found by the key's prefixes, so that the cost of a
//! write depends on the number of different prefix lengths, not on the number of watchers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{Event, Revision, StoreError};

/// Why a watcher's queue ends.
#[derive(Clone, Debug)]
enum End {
    Lagged(Revision),
    Closed(String),
}

#[derive(Debug)]
struct Watcher {
    id: u64,
    /// The watcher reads writes up to here from the log.
    after: Revision,
    /// The last revision queued.
    at: Revision,
    queue: mpsc::Sender<Event>,
    end: Arc<OnceLock<End>>,
}

type Watchers = Vec<Watcher>;

#[derive(Debug, Default)]
struct State {
    /// By length of prefix, then by prefix. No level is ever left empty.
    watchers: BTreeMap<usize, HashMap<Box<[u8]>, Watchers>>,
    next_id: u64,
    published: Revision,
    closed: Option<String>,
}

/// All watchers of one store.
#[derive(Clone, Debug)]
pub(super) struct Hub {
    state: Arc<Mutex<State>>,
}

/// A watcher's end of its queue; leaves the hub when dropped.
#[derive(Debug)]
pub(super) struct Subscription {
    id: u64,
    prefix: Box<[u8]>,
    queue: mpsc::Receiver<Event>,
    end: Arc<OnceLock<End>>,
    hub: Hub,
}

impl Hub {
    pub(super) fn new(published: Revision) -> Self {
        Self { state: Arc::new(Mutex::new(State { published, ..State::default() })) }
    }

    /// Queues every later write under `prefix` that is newer than `after`. The returned
    /// revision is the last one published before: writes between `after` and it must be read from the log.
    pub(super) fn subscribe(
        &self,
        prefix: &str,
        after: Revision,
        queue_max: usize,
    ) -> Result<(Subscription, Revision), StoreError> {
        let mut state = self.state.lock();
        if let Some(reason) = &state.closed {
            return Err(StoreError::Closed(reason.clone()));
        }
        let (sender, queue) = mpsc::channel(queue_max);
        let end = Arc::new(OnceLock::new());
        let prefix: Box<[u8]> = prefix.as_bytes().into();
        let id = state.next_id;
        state.next_id += 1;
        let published = state.published;
        let at = after.max(published);
        let watcher = Watcher { id, after: at, at, queue: sender, end: Arc::clone(&end) };
        let same = state.watchers.entry(prefix.len()).or_default().entry(prefix.clone());
        same.or_default().push(watcher);
        drop(state);
        Ok((Subscription { id, prefix, queue, end, hub: self.clone() }, published))
    }

    /// Queues the events for their watchers. After it returns they are on every queue.
    pub(super) fn publish(&self, events: &[Event], newest: Revision) {
        let mut state = self.state.lock();
        state.published = newest;
        for event in events {
            for (len, watchers) in &mut state.watchers {
                let Some(prefix) = event.key.as_bytes().get(..*len) else { break };
                let Some(same) = watchers.get_mut(prefix) else { continue };
                same.retain_mut(|watcher| watcher.offer(event));
                if same.is_empty() {
                    watchers.remove(prefix);
                }
            }
            state.watchers.retain(|_, watchers| !watchers.is_empty());
        }
    }

    /// Ends every queue after what is on it already.
    pub(super) fn close(&self, reason: &str) {
        let mut state = self.state.lock();
        state.closed = Some(reason.to_owned());
        for watcher in std::mem::take(&mut state.watchers).into_values().flatten().flat_map(|w| w.1)
        {
            // Fails only if the queue has ended already.
            let _ = watcher.end.set(End::Closed(reason.to_owned()));
        }
    }

    /// The number of watchers.
    #[cfg(test)]
    pub(super) fn watchers(&self) -> usize {
        self.state.lock().watchers.values().flat_map(HashMap::values).map(Vec::len).sum()
    }

    fn leave(&self, id: u64, prefix: &[u8]) {
        let mut state = self.state.lock();
        let Some(watchers) = state.watchers.get_mut(&prefix.len()) else { return };
        let Some(same) = watchers.get_mut(prefix) else { return };
        same.retain(|watcher| watcher.id != id);
        if same.is_empty() {
            watchers.remove(prefix);
        }
        if watchers.is_empty() {
            state.watchers.remove(&prefix.len());
        }
    }
}

impl Watcher {
    /// Whether the watcher stays.
    fn offer(&mut self, event: &Event) -> bool {
        if event.revision <= self.after {
            return true;
        }
        match self.queue.try_send(event.clone()) {
            Ok(()) => {
                self.at = event.revision;
                true
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                // Fails only if the queue has ended already.
                let _ = self.end.set(End::Lagged(self.at));
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

impl Subscription {
    /// The next event, or why there will be none.
    pub(super) async fn next(&mut self) -> Result<Event, StoreError> {
        if let Some(event) = self.queue.recv().await {
            return Ok(event);
        }
        Err(match self.end.get() {
            Some(End::Lagged(at)) => StoreError::Lagged { at: *at },
            Some(End::Closed(reason)) => StoreError::Closed(reason.clone()),
            None => StoreError::Closed("the writer has ended".to_owned()),
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(self.id, &self.prefix);
    }
}
