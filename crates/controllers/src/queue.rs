//! A queue of keys to reconcile: each key is in it once, is worked on by one worker at a time, and
//! comes back with exponential back-off when the work failed.
//!
//! The contract is client-go's work queue: a key added while it is being worked on is worked on
//! again afterwards, so that no change is lost and none is worked on twice at once. Memory is
//! bounded by the number of distinct keys.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// The wait before the first retry of a key; doubles with each further failure.
pub const BACKOFF_INITIAL: Duration = Duration::from_millis(5);
/// The longest wait between two tries.
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A shared handle to a queue.
pub struct Queue<T>(Arc<Inner<T>>);

struct Inner<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    /// Ready, in order of arrival; the same keys as in `dirty` that are not `working`.
    ready: VecDeque<T>,
    /// To be worked on.
    dirty: HashSet<T>,
    /// Being worked on.
    working: HashSet<T>,
    /// To become ready at a time.
    later: HashMap<T, Instant>,
    /// Consecutive failures.
    failures: HashMap<T, u32>,
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
            working: HashSet::new(),
            later: HashMap::new(),
            failures: HashMap::new(),
        };
        Self(Arc::new(Inner { state: Mutex::new(state), changed: Notify::new() }))
    }
}

impl<T: Clone + Eq + Hash> Queue<T> {
    /// Makes a key ready now.
    pub fn add(&self, key: T) {
        self.state().add(key);
        self.0.changed.notify_one();
    }

    /// Makes a key ready after `delay`, or at an earlier time it was already due.
    pub fn add_after(&self, key: T, delay: Duration) {
        let due = Instant::now() + delay;
        let mut state = self.state();
        let at = state.later.entry(key).or_insert(due);
        *at = due.min(*at);
        drop(state);
        self.0.changed.notify_one();
    }

    /// Makes a key ready after a wait that doubles with each failure in a row.
    pub fn retry(&self, key: T) {
        let mut state = self.state();
        let failures = state.failures.entry(key.clone()).or_default();
        let delay = BACKOFF_INITIAL.saturating_mul(1 << (*failures).min(20)).min(BACKOFF_MAX);
        *failures = failures.saturating_add(1);
        drop(state);
        self.add_after(key, delay);
    }

    /// Forgets that a key ever failed.
    pub fn forget(&self, key: &T) {
        self.state().failures.remove(key);
    }

    /// Takes the next ready key, waiting for one. Whoever takes a key must hand it to
    /// [`Queue::done`].
    pub async fn next(&self) -> T {
        loop {
            let due = {
                let mut state = self.state();
                state.promote(Instant::now());
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        self.0.changed.notify_one();
                    }
                    return key;
                }
                state.later.values().min().copied()
            };
            match due {
                Some(due) => {
                    tokio::select! {
                        () = self.0.changed.notified() => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                None => self.0.changed.notified().await,
            }
        }
    }

    /// Marks the work on a key as over; it becomes ready again if it was added meanwhile.
    pub fn done(&self, key: &T) {
        let mut state = self.state();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.0.changed.notify_one();
        }
    }

    /// Reconciles keys with `workers` at a time until `shutdown`, then finishes those begun.
    pub async fn work<F, R>(
        &self,
        name: &'static str,
        workers: usize,
        shutdown: &CancellationToken,
        reconcile: F,
    ) where
        T: Display,
        F: Fn(T) -> R,
        R: Future<Output = Result<(), Error>>,
    {
        let workers = (0..workers).map(|_| self.worker(name, shutdown, &reconcile));
        futures::future::join_all(workers).await;
    }

    async fn worker<F, R>(&self, name: &'static str, shutdown: &CancellationToken, reconcile: &F)
    where
        T: Display,
        F: Fn(T) -> R,
        R: Future<Output = Result<(), Error>>,
    {
        loop {
            let key = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                key = self.next() => key,
            };
            match reconcile(key.clone()).await {
                Ok(()) => self.forget(&key),
                Err(error) => {
                    if error.is_routine() {
                        tracing::debug!(controller = name, %key, %error, "will retry");
                    } else {
                        tracing::warn!(controller = name, %key, %error, "will retry");
                    }
                    self.retry(key.clone());
                }
            }
            self.done(&key);
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().expect("no code panics while it holds the queue")
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    fn add(&mut self, key: T) {
        self.later.remove(&key);
        if self.dirty.insert(key.clone()) && !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn take(&mut self) -> Option<T> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }

    fn promote(&mut self, now: Instant) {
        let due: Vec<T> =
            self.later.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        due.into_iter().for_each(|key| self.add(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_added_twice_is_worked_on_once() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        assert_eq!(queue.next().await, "b");
        let third = tokio::time::timeout(Duration::from_secs(3600), queue.next()).await;
        assert!(third.is_err(), "nothing is left");
    }

    /// A change that arrives while its object is being reconciled must not be lost, and must not
    /// be reconciled by a second worker at the same time.
    #[tokio::test(start_paused = true)]
    async fn a_key_added_during_its_work_comes_back_afterwards() {
        let queue = Queue::default();
        queue.add("a");
        let key = queue.next().await;
        queue.add("a");
        let second = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(second.is_err(), "not while it is being worked on");
        queue.done(&key);
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_each_time_up_to_a_limit() {
        let queue = Queue::default();
        let mut waits = Vec::new();
        for _ in 0..30 {
            let start = Instant::now();
            queue.retry("a");
            let key = queue.next().await;
            queue.done(&key);
            waits.push(start.elapsed());
        }
        assert_eq!(waits[0], BACKOFF_INITIAL);
        assert_eq!(waits[3], BACKOFF_INITIAL * 8);
        assert_eq!(waits[29], BACKOFF_MAX);
        queue.forget(&"a");
        let start = Instant::now();
        queue.retry("a");
        queue.next().await;
        assert_eq!(start.elapsed(), BACKOFF_INITIAL);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_times_counts() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(30));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn workers_stop_at_shutdown_and_finish_what_they_began() {
        let queue = Queue::default();
        let shutdown = CancellationToken::new();
        queue.add("a".to_owned());
        let finished = Mutex::new(Vec::new());
        let reconcile = |key: String| {
            let (shutdown, finished) = (&shutdown, &finished);
            async move {
                shutdown.cancel();
                tokio::time::sleep(Duration::from_secs(1)).await;
                finished.lock().unwrap().push(key);
                Ok(())
            }
        };
        queue.work("test", 3, &shutdown, reconcile).await;
        assert_eq!(*finished.lock().unwrap(), ["a"]);
    }
}
