//! The queue of pods that need a node.
//!
//! A pod is in one of upstream's four stages. *Active*: ready to be scheduled, by priority and then by
//! arrival. *Backing off*: becomes active after a back-off, which doubles with each attempt. *Unschedulable*:
//! fits on no node and waits for a change of the cluster ([`SchedulingQueue::retry_unschedulable`]), five
//! minutes at most. *In flight*: processed by a worker. Memory is bounded by the number of these pods.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use coffer_wire::backoff::Limits;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::controller::Next;
use crate::error::Error;
use crate::key::ObjectKey;
use crate::queue::{DelayQueue, WorkQueue, changed_or_due};

/// How long a pod that failed waits at least; the longest wait is upstream's `podMaxBackoffSeconds`.
/// Not at random: what wakes together is ordered by priority, and one scheduler serves it.
const BACKOFF: Limits = Limits::exact(Duration::from_millis(50), Duration::from_secs(10));
/// A pod that no change has woken for so long is tried all the same; upstream's
/// `podMaxInUnschedulablePodsDuration`.
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(5 * 60);

/// A shared handle to the scheduler's queue.
#[derive(Clone, Default)]
pub(crate) struct SchedulingQueue(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    pods: HashMap<ObjectKey, QueuedPod>,
    /// By priority, then by arrival.
    active: BTreeMap<Rank, ObjectKey>,
    /// Unschedulable pods: those that do not depend on the nodes of other pods, and those that do.
    unschedulable: [HashSet<ObjectKey>; 2],
    /// Pods that are backing off or unschedulable, with the end of that time.
    delayed: DelayQueue<ObjectKey>,
    arrivals: u64,
}

type Rank = (Reverse<i32>, u64);

#[derive(Debug)]
struct QueuedPod {
    priority: i32,
    /// Its arrival number, which it keeps until it is bound.
    arrival: u64,
    /// Failed attempts.
    attempts: u32,
    stage: Stage,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Active,
    BackingOff,
    Unschedulable {
        /// When the last attempt failed.
        since: Instant,
        /// Whether the nodes of other pods matter, as for pod affinity.
        depends_on_others: bool,
    },
    InFlight {
        /// Whether it has changed since, so that it has to be retried.
        again: bool,
        /// Whether it no longer needs a node.
        removed: bool,
    },
}

impl SchedulingQueue {
    /// Adds a pod that is new or has changed in a way that may make it schedulable. It becomes active, unless
    /// it is backing off.
    pub(super) fn add(&self, key: &ObjectKey, priority: i32) {
        let mut state = self.state();
        let known = state.pods.get_mut(key);
        match known.map(|pod| (&mut pod.priority, &mut pod.stage)) {
            None => {
                state.arrivals += 1;
                let arrival = state.arrivals;
                let pod = QueuedPod { priority, arrival, attempts: 0, stage: Stage::Active };
                state.pods.insert(key.clone(), pod);
                state.activate(key);
            }
            Some((known, stage @ Stage::InFlight { .. })) => {
                *known = priority;
                *stage = Stage::InFlight { again: true, removed: false };
            }
            Some((known, Stage::BackingOff)) => *known = priority,
            Some((known, Stage::Active)) if *known == priority => {}
            Some(_) => {
                state.unqueue(key);
                if let Some(pod) = state.pods.get_mut(key) {
                    pod.priority = priority;
                }
                state.activate(key);
            }
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// Removes a pod that no longer needs a node.
    pub(super) fn remove(&self, key: &ObjectKey) {
        let mut state = self.state();
        match state.pods.get_mut(key) {
            // Until the worker is done, a recreated pod of this name is not returned.
            Some(QueuedPod { stage: stage @ Stage::InFlight { .. }, attempts, .. }) => {
                *stage = Stage::InFlight { again: false, removed: true };
                *attempts = 0;
            }
            Some(_) => {
                state.unqueue(key);
                state.pods.remove(key);
            }
            None => {}
        }
    }

    /// A pod in flight fits on no node: it waits for [`SchedulingQueue::retry_unschedulable`].
    pub(super) fn mark_unschedulable(&self, key: &ObjectKey, depends_on_others: bool) {
        let mut state = self.state();
        let Some(pod) = state.pods.get_mut(key) else { return };
        pod.attempts = pod.attempts.saturating_add(1);
        if let Stage::InFlight { again: false, removed: false } = pod.stage {
            let since = Instant::now();
            pod.stage = Stage::Unschedulable { since, depends_on_others };
            state.unschedulable[usize::from(depends_on_others)].insert(key.clone());
            state.delayed.insert(key.clone(), since + UNSCHEDULABLE_MAX);
        }
    }

    /// Retries unschedulable pods after their back-off: all of them, or only those that depend on the nodes
    /// of other pods. The cost is proportional to their number.
    pub(super) fn retry_unschedulable(&self, all: bool) {
        let mut state = self.state();
        let [independent, dependent] = &mut state.unschedulable;
        let mut retried = std::mem::take(dependent);
        if all {
            retried.extend(std::mem::take(independent));
        }
        if retried.is_empty() {
            return;
        }
        let now = Instant::now();
        for key in retried {
            let Some(pod) = state.pods.get(&key) else { continue };
            let Stage::Unschedulable { since, .. } = pod.stage else { continue };
            let due = since + BACKOFF.after(pod.attempts.saturating_sub(1));
            state.delayed.remove(&key);
            if due <= now {
                state.activate(&key);
            } else {
                state.back_off(&key, due);
            }
        }
        drop(state);
        self.0.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

impl WorkQueue for SchedulingQueue {
    type Key = ObjectKey;

    async fn next(&self) -> ObjectKey {
        loop {
            let due = {
                let mut state = self.state();
                let now = Instant::now();
                while let Some(key) = state.delayed.pop(now) {
                    state.unqueue(&key);
                    state.activate(&key);
                }
                if let Some((_, key)) = state.active.pop_first() {
                    if let Some(pod) = state.pods.get_mut(&key) {
                        pod.stage = Stage::InFlight { again: false, removed: false };
                    }
                    if !state.active.is_empty() || state.delayed.next_due().is_some() {
                        self.0.changed.notify_one();
                    }
                    return key;
                }
                state.delayed.next_due()
            };
            changed_or_due(&self.0.changed, due).await;
        }
    }

    /// An unschedulable pod stays in its stage, a bound one is removed, and one that failed or has changed is
    /// retried.
    fn done(&self, key: ObjectKey, outcome: Result<Next, &Error>) {
        let mut state = self.state();
        let Some(pod) = state.pods.get_mut(&key) else { return };
        let (again, removed) = match pod.stage {
            Stage::InFlight { again, removed } => (again, removed),
            Stage::Unschedulable { .. } if outcome.is_err() => (false, false),
            _ => return,
        };
        if again {
            state.activate(&key);
        } else if outcome.is_err() && !removed {
            let due = Instant::now() + BACKOFF.after(pod.attempts);
            pod.attempts = pod.attempts.saturating_add(1);
            state.unqueue(&key);
            state.back_off(&key, due);
        } else {
            state.pods.remove(&key);
        }
        drop(state);
        self.0.changed.notify_one();
    }
}

impl State {
    /// Removes a pod from the collection of its stage.
    fn unqueue(&mut self, key: &ObjectKey) {
        let Some(pod) = self.pods.get(key) else { return };
        match pod.stage {
            Stage::Active => drop(self.active.remove(&pod.rank())),
            Stage::BackingOff => self.delayed.remove(key),
            Stage::Unschedulable { depends_on_others, .. } => {
                self.unschedulable[usize::from(depends_on_others)].remove(key);
                self.delayed.remove(key);
            }
            Stage::InFlight { .. } => {}
        }
    }

    fn activate(&mut self, key: &ObjectKey) {
        if let Some(pod) = self.pods.get_mut(key) {
            pod.stage = Stage::Active;
            self.active.insert(pod.rank(), key.clone());
        }
    }

    fn back_off(&mut self, key: &ObjectKey, due: Instant) {
        if let Some(pod) = self.pods.get_mut(key) {
            pod.stage = Stage::BackingOff;
            self.delayed.insert(key.clone(), due);
        }
    }
}

impl QueuedPod {
    fn rank(&self) -> Rank {
        (Reverse(self.priority), self.arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    async fn next(queue: &SchedulingQueue) -> String {
        queue.next().await.name
    }

    async fn is_idle(queue: &SchedulingQueue, wait: Duration) -> bool {
        tokio::time::timeout(wait, queue.next()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn pods_are_returned_by_priority_and_then_by_arrival() {
        let queue = SchedulingQueue::default();
        for (name, priority) in [("a", 0), ("b", 10), ("c", 0), ("d", -5), ("e", 10)] {
            queue.add(&key(name), priority);
        }
        for expected in ["b", "e", "a", "c", "d"] {
            assert_eq!(next(&queue).await, expected);
        }
        assert!(is_idle(&queue, Duration::from_secs(3600)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_priority_changes_the_order() {
        let queue = SchedulingQueue::default();
        queue.add(&key("a"), 5);
        queue.add(&key("b"), 1);
        queue.add(&key("b"), 9);
        assert_eq!(next(&queue).await, "b");
        assert_eq!(next(&queue).await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unschedulable_pod_waits_for_a_change_and_a_growing_back_off() {
        let queue = SchedulingQueue::default();
        queue.add(&key("a"), 0);
        let mut waits = Vec::new();
        for _ in 0..10 {
            let taken = queue.next().await;
            let start = Instant::now();
            queue.mark_unschedulable(&taken, false);
            queue.done(taken, Ok(Next::Change));
            assert!(is_idle(&queue, Duration::from_millis(10)).await, "nothing has changed");
            queue.retry_unschedulable(false);
            assert!(is_idle(&queue, Duration::from_millis(10)).await, "it depends on no other pod");
            queue.retry_unschedulable(true);
            queue.retry_unschedulable(true);
            let again = queue.next().await;
            queue.add(&again, 0);
            queue.done(again, Ok(Next::Change));
            waits.push(start.elapsed());
        }
        assert_eq!(waits[0], BACKOFF.initial);
        assert_eq!(waits[2], BACKOFF.initial * 4);
        assert_eq!(waits[9], BACKOFF.max);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_depends_on_other_pods_is_retried_when_they_change() {
        let queue = SchedulingQueue::default();
        queue.add(&key("a"), 0);
        let taken = queue.next().await;
        queue.mark_unschedulable(&taken, true);
        queue.done(taken, Ok(Next::Change));
        tokio::time::advance(Duration::from_secs(1)).await;
        queue.retry_unschedulable(false);
        assert_eq!(next(&queue).await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unschedulable_pod_is_retried_after_five_minutes_without_a_change() {
        let queue = SchedulingQueue::default();
        queue.add(&key("a"), 0);
        let taken = queue.next().await;
        queue.mark_unschedulable(&taken, false);
        queue.done(taken, Ok(Next::Change));
        assert!(is_idle(&queue, UNSCHEDULABLE_MAX - Duration::from_secs(1)).await);
        assert_eq!(next(&queue).await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_changes_in_flight_is_retried() {
        let queue = SchedulingQueue::default();
        queue.add(&key("a"), 0);
        let taken = queue.next().await;
        queue.add(&taken, 0);
        assert!(is_idle(&queue, Duration::from_secs(1)).await, "not twice concurrently");
        queue.mark_unschedulable(&taken, false);
        queue.done(taken, Ok(Next::Change));
        assert_eq!(next(&queue).await, "a");
    }

    /// A pod is recreated while a worker still binds the first one. The second one must neither be processed
    /// concurrently nor be removed with the first one.
    #[tokio::test(start_paused = true)]
    async fn a_pod_that_is_recreated_in_flight_waits_for_the_first_one() {
        let queue = SchedulingQueue::default();
        queue.add(&key("a"), 0);
        let first = queue.next().await;
        queue.remove(&first);
        queue.add(&first, 0);
        assert!(is_idle(&queue, Duration::from_secs(1)).await);
        queue.done(first, Ok(Next::Change));
        let second = queue.next().await;
        queue.mark_unschedulable(&second, false);
        queue.done(second, Ok(Next::Change));
        queue.retry_unschedulable(true);
        assert_eq!(next(&queue).await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_pod_is_retried_and_a_bound_or_removed_one_is_not() {
        let queue = SchedulingQueue::default();
        for name in ["failed", "bound", "removed"] {
            queue.add(&key(name), 0);
        }
        let error = Error::Unfinished("no");
        let start = Instant::now();
        let failed = queue.next().await;
        queue.done(failed, Err(&error));
        let bound = queue.next().await;
        queue.done(bound, Ok(Next::Change));
        let removed = queue.next().await;
        queue.remove(&removed);
        queue.done(removed, Err(&error));
        assert_eq!(next(&queue).await, "failed");
        assert_eq!(start.elapsed(), BACKOFF.initial);
        assert!(is_idle(&queue, Duration::from_secs(3600)).await);
    }
}
