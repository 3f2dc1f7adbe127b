//! The handlers of an informer, each of which is called for every change.
//!
//! A handler that panics for an object is called for that object again, with back-off, until it does not: it
//! then sees what has happened since it last saw the object. Other objects and other handlers are not affected.
//! What the panic says may quote an object and is not repeated. Memory is bounded by the number of objects.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use coffer_wire::backoff::Limits;
use kube::Resource;
use tokio::time::Instant;

use super::Change;
use super::cache::{Cache, changes};
use crate::key::ObjectKey;

/// Waits before a handler that panicked is called again.
const RETRY: Limits = Limits::spread(Duration::from_millis(100), Duration::from_secs(60));

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// A handler, by its place, and an object.
type Call = (usize, ObjectKey);

pub(super) struct Handlers<K> {
    all: Vec<Handler<K>>,
    missed: HashMap<Call, Missed<K>>,
}

/// What a handler has not seen yet.
struct Missed<K> {
    /// The object as the handler saw it last; `None` if it has not seen it.
    seen: Option<Arc<K>>,
    failures: u32,
    /// When the handler is called again.
    due: Instant,
}

impl<K> Default for Handlers<K> {
    fn default() -> Self {
        Self { all: Vec::new(), missed: HashMap::new() }
    }
}

impl<K> Handlers<K> {
    /// Adds a handler.
    pub(super) fn add(&mut self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.all.push(Box::new(handler));
    }

    /// Waits until a handler that panicked is to be called again; for ever if there is none.
    pub(super) async fn due(&self) {
        // There are none, or few: each is a bug.
        match self.missed.values().map(|missed| missed.due).min() {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}

impl<K: Resource> Handlers<K> {
    /// Calls every handler for a change.
    pub(super) fn call(&mut self, kind: &str, change: &Change<K>) {
        for at in 0..self.all.len() {
            let call = || (at, ObjectKey::of(&**change.latest()));
            // Nearly always no handler has missed anything.
            let missed = if self.missed.is_empty() { None } else { self.missed.get(&call()) };
            match missed.map(|missed| missed.seen.clone()) {
                Some(seen) => self.catch_up(kind, call(), seen, change.new.clone()),
                None if run(&self.all[at], change) => {}
                None => self.failed(kind, call(), change.old.clone()),
            }
        }
    }

    /// Calls the handlers again whose back-off is over, for the objects as they are now.
    pub(super) fn retry(&mut self, kind: &str, cache: &Cache<K>) {
        let now = Instant::now();
        let due = self.missed.iter().filter(|(_, missed)| missed.due <= now);
        let due: Vec<_> = due.map(|(call, missed)| (call.clone(), missed.seen.clone())).collect();
        for (call, seen) in due {
            let new = cache.get(&call.1);
            self.catch_up(kind, call, seen, new);
        }
    }

    /// Shows a handler how an object became what it is from what the handler saw last.
    fn catch_up(&mut self, kind: &str, call: Call, seen: Option<Arc<K>>, new: Option<Arc<K>>) {
        for change in changes(seen, new) {
            if !run(&self.all[call.0], &change) {
                return self.failed(kind, call, change.old);
            }
        }
        self.missed.remove(&call);
    }

    fn failed(&mut self, kind: &str, call: Call, seen: Option<Arc<K>>) {
        let failures = self.missed.get(&call).map_or(0, |missed| missed.failures);
        let (handler, object) = (call.0, &call.1);
        tracing::error!(kind, handler, %object, "handler panicked, will retry: this is a bug");
        let due = Instant::now() + RETRY.spread_out(RETRY.after(failures));
        self.missed.insert(call, Missed { seen, failures: failures.saturating_add(1), due });
    }
}

/// Calls a handler; whether it returned.
fn run<K>(handler: &Handler<K>, change: &Change<K>) -> bool {
    catch_unwind(AssertUnwindSafe(|| handler(change))).is_ok()
}
