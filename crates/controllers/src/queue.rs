//! A queue of keys to reconcile: each key is queued once, processed by one worker at a time, and retried with
//! exponential back-off.
//!
//! The contract is that of client-go's work queue: a key that is added while it is processed is processed
//! again afterwards, so that no change is lost and no key is processed twice concurrently. Memory is bounded
//! by the number of distinct keys. Every operation is logarithmic in the number of delayed keys, which
//! include every node of the cluster.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use coffer_wire::backoff::Limits;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::controller::Next;
use crate::error::Error;

/// Back-off of failed keys, with jitter, so that keys that failed together are not retried together.
const RETRY: Limits = Limits::spread(Duration::from_millis(5), Duration::from_secs(60));

/// A key is not made to wait longer: clients write times and numbers that waits are made of.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The queue of a controller. Clones are handles of the same queue.
pub(crate) trait WorkQueue: Clone + Default + Send + Sync + 'static {
    /// The type of the keys.
    type Key: Display + Send + Sync;

    /// Waits for the next ready key. A key is not returned again before [`WorkQueue::done`].
    fn next(&self) -> impl Future<Output = Self::Key> + Send;

    /// A key was processed; with the time of the next reconcile, or the error.
    fn done(&self, key: Self::Key, outcome: Result<Next, &Error>);
}

/// Waits until a queue has changed or its first delayed key is due.
pub(crate) async fn changed_or_due(changed: &Notify, due: Option<Instant>) {
    match due {
        Some(due) => {
            tokio::select! {
                () = changed.notified() => {}
                () = tokio::time::sleep_until(due) => {}
            }
        }
        None => changed.notified().await,
    }
}

/// The queue of all controllers except the scheduler: first in, first out. A shared handle.
pub(crate) struct Queue<T>(Arc<Inner<T>>);

struct Inner<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    /// Ready keys, first in, first out: those of `dirty` that are not in `processing`.
    ready: VecDeque<T>,
    /// Keys to process.
    dirty: HashSet<T>,
    /// Keys that workers process.
    processing: HashSet<T>,
    delayed: DelayQueue<T>,
    /// Consecutive failures of each key.
    failures: HashMap<T, u32>,
}

/// Keys with the time at which they become ready.
pub(crate) struct DelayQueue<T> {
    /// By time, and a number that distinguishes keys with the same time.
    order: BTreeMap<(Instant, u64), T>,
    due: HashMap<T, (Instant, u64)>,
    next: u64,
}

impl<T> Default for DelayQueue<T> {
    fn default() -> Self {
        Self { order: BTreeMap::new(), due: HashMap::new(), next: 0 }
    }
}

impl<T: Clone + Eq + Hash> DelayQueue<T> {
    /// Makes a key due at a time, unless it is due earlier already.
    pub(crate) fn insert(&mut self, key: T, at: Instant) {
        if let Some(known) = self.due.get(&key).copied() {
            if known.0 <= at {
                return;
            }
            self.order.remove(&known);
        }
        self.next += 1;
        self.order.insert((at, self.next), key.clone());
        self.due.insert(key, (at, self.next));
    }

    /// Forgets a key.
    pub(crate) fn remove(&mut self, key: &T) {
        if let Some(at) = self.due.remove(key) {
            self.order.remove(&at);
        }
    }

    /// Removes a key that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<T> {
        let first = self.order.first_entry().filter(|first| first.key().0 <= now)?;
        let key = first.remove();
        self.due.remove(&key);
        Some(key)
    }

    /// When the next key is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.order.first_key_value().map(|((at, _), _)| *at)
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            delayed: DelayQueue::default(),
            failures: HashMap::new(),
        };
        Self(Arc::new(Inner { state: Mutex::new(state), changed: Notify::new() }))
    }
}

impl<T: Clone + Eq + Hash> Queue<T> {
    /// Adds a ready key.
    pub(crate) fn add(&self, key: T) {
        self.state().add(key);
        self.0.changed.notify_one();
    }

    /// Makes a key ready after `delay`, unless it is due earlier already.
    pub(crate) fn add_after(&self, key: T, delay: Duration) {
        let due = Instant::now() + delay.min(WAIT_MAX);
        let mut state = self.state();
        let first = state.delayed.next_due();
        state.delayed.insert(key, due);
        drop(state);
        // Otherwise the workers wake up earlier anyway.
        if first.is_none_or(|first| due < first) {
            self.0.changed.notify_one();
        }
    }

    /// Makes a key ready after its back-off, which doubles with each consecutive failure.
    fn retry(&self, key: T) {
        let mut state = self.state();
        let failures = state.failures.entry(key.clone()).or_default();
        let delay = RETRY.spread_out(RETRY.after(*failures));
        *failures = failures.saturating_add(1);
        drop(state);
        self.add_after(key, delay);
    }

    /// Resets the back-off of a key.
    fn forget(&self, key: &T) {
        self.state().failures.remove(key);
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock()
    }
}

impl<T: Clone + Eq + Hash + Display + Send + Sync + 'static> WorkQueue for Queue<T> {
    type Key = T;

    async fn next(&self) -> T {
        loop {
            let due = {
                let mut state = self.state();
                let now = Instant::now();
                while let Some(key) = state.delayed.pop(now) {
                    state.add(key);
                }
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() || state.delayed.next_due().is_some() {
                        self.0.changed.notify_one();
                    }
                    return key;
                }
                state.delayed.next_due()
            };
            changed_or_due(&self.0.changed, due).await;
        }
    }

    /// A key that was added while it was processed becomes ready again.
    fn done(&self, key: T, outcome: Result<Next, &Error>) {
        match outcome {
            Ok(next) => {
                self.forget(&key);
                if let Next::After(wait) = next {
                    self.add_after(key.clone(), wait);
                }
            }
            Err(_) => self.retry(key.clone()),
        }
        let mut state = self.state();
        state.processing.remove(&key);
        if state.dirty.contains(&key) {
            state.ready.push_back(key);
            drop(state);
            self.0.changed.notify_one();
        }
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    fn add(&mut self, key: T) {
        self.delayed.remove(&key);
        if self.dirty.insert(key.clone()) && !self.processing.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn take(&mut self) -> Option<T> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.processing.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_added_twice_is_processed_once() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        assert_eq!(queue.next().await, "b");
        let third = tokio::time::timeout(Duration::from_secs(3600), queue.next()).await;
        assert!(third.is_err(), "the queue is empty");
    }

    /// A change during a reconcile must not be lost, and must not be reconciled by a second worker
    /// concurrently.
    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_added_while_it_is_processed_becomes_ready_afterwards() {
        let queue = Queue::default();
        queue.add("a");
        let key = queue.next().await;
        queue.add("a");
        let second = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(second.is_err(), "not while it is processed");
        queue.done(key, Ok(Next::Change));
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn the_back_off_doubles_with_each_failure_up_to_a_limit() {
        let queue = Queue::default();
        let mut waits = Vec::new();
        for _ in 0..30 {
            let start = Instant::now();
            queue.retry("a");
            let key = queue.next().await;
            queue.0.state.lock().processing.remove(key);
            waits.push(start.elapsed());
        }
        // The clock of tokio counts milliseconds.
        let within = |wait: Duration, full: Duration| {
            full <= wait && wait <= full.mul_f64(1.0 + RETRY.jitter) + Duration::from_millis(1)
        };
        assert!(within(waits[0], RETRY.initial), "{waits:?}");
        assert!(within(waits[3], RETRY.initial * 8), "{waits:?}");
        assert!(within(waits[29], RETRY.max), "{waits:?}");
        let longest: std::collections::BTreeSet<_> = waits[20..].iter().collect();
        assert!(longest.len() > 1, "keys that fail together are retried at different times");
        queue.forget(&"a");
        let start = Instant::now();
        queue.retry("a");
        queue.next().await;
        assert!(within(start.elapsed(), RETRY.initial));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_with_several_times_is_ready_at_the_earliest() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(30));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_is_too_long_to_be_added_to_the_time() {
        let queue = Queue::default();
        queue.add_after("a", Duration::MAX);
        let start = Instant::now();
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed(), WAIT_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_become_ready_in_the_order_of_their_times() {
        let queue = Queue::default();
        let start = Instant::now();
        for seconds in [30, 10, 20] {
            queue.add_after(seconds, Duration::from_secs(seconds));
        }
        queue.add(0);
        for seconds in [0, 10, 20, 30] {
            assert_eq!(queue.next().await, seconds);
            assert_eq!(start.elapsed(), Duration::from_secs(seconds));
        }
    }

    /// A key that became ready for another reason must not become ready again at its old time.
    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_added_is_no_longer_due() {
        let queue = Queue::default();
        queue.add_after("a", Duration::from_secs(10));
        queue.add("a");
        let key = queue.next().await;
        queue.done(key, Ok(Next::Change));
        let again = tokio::time::timeout(Duration::from_secs(3600), queue.next()).await;
        assert!(again.is_err());
    }

    /// Of two workers one takes the ready key; the other must still wake at the next time.
    #[tokio::test(start_paused = true)]
    async fn every_worker_wakes_for_the_next_due_key() {
        let queue = Queue::default();
        queue.add_after(1, Duration::from_secs(5));
        queue.add_after(2, Duration::from_secs(5));
        queue.add_after(3, Duration::from_secs(6));
        let all = futures::future::join3(queue.next(), queue.next(), queue.next());
        let (a, b, c) = tokio::time::timeout(Duration::from_secs(7), all).await.expect("in time");
        assert_eq!(std::collections::BTreeSet::from([a, b, c]), [1, 2, 3].into());
    }
}
