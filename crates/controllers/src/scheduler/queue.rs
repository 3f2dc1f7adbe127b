//! The pods that wait for a node, in the order in which they get one.
//!
//! A pod is in one of four places, which are upstream's. *Active*: to be tried, those with the higher
//! priority first, then those that have waited longer. *Backing off*: to be tried after a wait that
//! doubles with each attempt. *Unschedulable*: fits nowhere; waits for a change of the cluster that may
//! help ([`SchedulingQueue::wake`]), five minutes at most. *In flight*: taken by a worker. Memory is
//! bounded by the number of pods that wait.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::controller::Next;
use crate::error::Error;
use crate::key::ObjectKey;
use crate::queue::{Later, WorkQueue, changed_or_due};

/// A pod that failed is not tried again sooner than this, doubled with each attempt.
const BACKOFF_INITIAL: Duration = Duration::from_millis(50);
/// The longest such wait, upstream's `podMaxBackoffSeconds`.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod that no change has woken for so long is tried all the same; upstream's
/// `podMaxInUnschedulablePodsDuration`.
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(5 * 60);

/// A shared handle to the queue of the scheduler.
#[derive(Clone, Default)]
pub(crate) struct SchedulingQueue(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    pods: HashMap<ObjectKey, Waiting>,
    /// Higher priority first, then the order of arrival.
    active: BTreeMap<Rank, ObjectKey>,
    /// Unschedulable ones, and among them those that depend on where other pods are.
    unschedulable: [HashSet<ObjectKey>; 2],
    /// Ends of back-offs, and of the time that unschedulable pods wait at most.
    later: Later<ObjectKey>,
    arrivals: u64,
}

type Rank = (Reverse<i32>, u64);

#[derive(Debug)]
struct Waiting {
    priority: i32,
    /// Its number among all that arrived; it keeps it until it is placed.
    arrival: u64,
    /// Attempts that found no place.
    attempts: u32,
    place: Place,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Active,
    BackingOff,
    Unschedulable {
        /// When it was tried.
        since: Instant,
        /// Whether where other pods are may change its mind.
        depends_on_others: bool,
    },
    InFlight {
        /// Whether it changed meanwhile, so that it has to be tried again.
        again: bool,
        /// Whether it needs no place any more.
        removed: bool,
    },
}

impl SchedulingQueue {
    /// Takes in a pod that is new, or that changed in a way that may find it a place: it is to be tried,
    /// unless it is backing off.
    pub(super) fn add(&self, key: &ObjectKey, priority: i32) {
        let mut state = self.state();
        let known = state.pods.get_mut(key);
        match known.map(|pod| (&mut pod.priority, &mut pod.place)) {
            None => {
                state.arrivals += 1;
                let arrival = state.arrivals;
                let pod = Waiting { priority, arrival, attempts: 0, place: Place::Active };
                state.pods.insert(key.clone(), pod);
                state.activate(key);
            }
            Some((known, place @ Place::InFlight { .. })) => {
                *known = priority;
                *place = Place::InFlight { again: true, removed: false };
            }
            Some((known, Place::BackingOff)) => *known = priority,
            Some((known, Place::Active)) if *known == priority => {}
            Some(_) => {
                state.leave(key);
                if let Some(pod) = state.pods.get_mut(key) {
                    pod.priority = priority;
                }
                state.activate(key);
            }
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// Forgets a pod that needs no place any more.
    pub(super) fn remove(&self, key: &ObjectKey) {
        let mut state = self.state();
        match state.pods.get_mut(key) {
            // Its worker hands it back; until then another pod of its name is not handed out.
            Some(Waiting { place: place @ Place::InFlight { .. }, attempts, .. }) => {
                *place = Place::InFlight { again: false, removed: true };
                *attempts = 0;
            }
            Some(_) => {
                state.leave(key);
                state.pods.remove(key);
            }
            None => {}
        }
    }

    /// A pod that was taken fits nowhere: it waits until [`SchedulingQueue::wake`] lets it try again.
    pub(super) fn park(&self, key: &ObjectKey, depends_on_others: bool) {
        let mut state = self.state();
        let Some(pod) = state.pods.get_mut(key) else { return };
        pod.attempts = pod.attempts.saturating_add(1);
        if let Place::InFlight { again: false, removed: false } = pod.place {
            let since = Instant::now();
            pod.place = Place::Unschedulable { since, depends_on_others };
            state.unschedulable[usize::from(depends_on_others)].insert(key.clone());
            state.later.insert(key.clone(), since + UNSCHEDULABLE_MAX);
        }
    }

    /// Something has changed: lets unschedulable pods try again, each once its back-off is over; all of
    /// them, or only those that depend on where other pods are. Costs as much as it wakes.
    pub(super) fn wake(&self, all: bool) {
        let mut state = self.state();
        let [independent, dependent] = &mut state.unschedulable;
        let mut woken = std::mem::take(dependent);
        if all {
            woken.extend(std::mem::take(independent));
        }
        if woken.is_empty() {
            return;
        }
        let now = Instant::now();
        for key in woken {
            let Some(pod) = state.pods.get(&key) else { continue };
            let Place::Unschedulable { since, .. } = pod.place else { continue };
            let due = since + backoff(pod.attempts);
            state.later.remove(&key);
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
                while let Some(key) = state.later.pop(now) {
                    state.leave(&key);
                    state.activate(&key);
                }
                if let Some((_, key)) = state.active.pop_first() {
                    if let Some(pod) = state.pods.get_mut(&key) {
                        pod.place = Place::InFlight { again: false, removed: false };
                    }
                    if !state.active.is_empty() || state.later.next_due().is_some() {
                        self.0.changed.notify_one();
                    }
                    return key;
                }
                state.later.next_due()
            };
            changed_or_due(&self.0.changed, due).await;
        }
    }

    /// One that was parked stays where it is; one that was placed is forgotten; one that failed, or
    /// changed meanwhile, is tried again.
    fn done(&self, key: ObjectKey, outcome: Result<Next, &Error>) {
        let mut state = self.state();
        let Some(pod) = state.pods.get_mut(&key) else { return };
        let (again, removed) = match pod.place {
            Place::InFlight { again, removed } => (again, removed),
            Place::Unschedulable { .. } if outcome.is_err() => (false, false),
            _ => return,
        };
        if again {
            state.activate(&key);
        } else if outcome.is_err() && !removed {
            pod.attempts = pod.attempts.saturating_add(1);
            let due = Instant::now() + backoff(pod.attempts);
            state.leave(&key);
            state.back_off(&key, due);
        } else {
            state.pods.remove(&key);
        }
        drop(state);
        self.0.changed.notify_one();
    }
}

impl State {
    /// Takes a pod out of where it waits.
    fn leave(&mut self, key: &ObjectKey) {
        let Some(pod) = self.pods.get(key) else { return };
        match pod.place {
            Place::Active => drop(self.active.remove(&pod.rank())),
            Place::BackingOff => self.later.remove(key),
            Place::Unschedulable { depends_on_others, .. } => {
                self.unschedulable[usize::from(depends_on_others)].remove(key);
                self.later.remove(key);
            }
            Place::InFlight { .. } => {}
        }
    }

    fn activate(&mut self, key: &ObjectKey) {
        if let Some(pod) = self.pods.get_mut(key) {
            pod.place = Place::Active;
            self.active.insert(pod.rank(), key.clone());
        }
    }

    fn back_off(&mut self, key: &ObjectKey, due: Instant) {
        if let Some(pod) = self.pods.get_mut(key) {
            pod.place = Place::BackingOff;
            self.later.insert(key.clone(), due);
        }
    }
}

impl Waiting {
    fn rank(&self) -> Rank {
        (Reverse(self.priority), self.arrival)
    }
}

/// Not at random: what wakes together is ordered by priority, and one scheduler serves it.
fn backoff(attempts: u32) -> Duration {
    BACKOFF_INITIAL.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(BACKOFF_MAX)
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
    async fn pods_are_taken_by_priority_and_then_by_arrival() {
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
    async fn a_pod_whose_priority_changes_moves_in_the_order() {
        let queue = SchedulingQueue::default();
        queue.add(&key("a"), 5);
        queue.add(&key("b"), 1);
        queue.add(&key("b"), 9);
        assert_eq!(next(&queue).await, "b");
        assert_eq!(next(&queue).await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unschedulable_pod_waits_for_a_change_and_longer_each_time() {
        let queue = SchedulingQueue::default();
        queue.add(&key("a"), 0);
        let mut waits = Vec::new();
        for _ in 0..10 {
            let taken = queue.next().await;
            let start = Instant::now();
            queue.park(&taken, false);
            queue.done(taken, Ok(Next::Change));
            assert!(is_idle(&queue, Duration::from_millis(10)).await, "nothing has changed");
            queue.wake(false);
            assert!(is_idle(&queue, Duration::from_millis(10)).await, "it depends on no other pod");
            queue.wake(true);
            queue.wake(true);
            let again = queue.next().await;
            queue.add(&again, 0);
            queue.done(again, Ok(Next::Change));
            waits.push(start.elapsed());
        }
        assert_eq!(waits[0], BACKOFF_INITIAL);
        assert_eq!(waits[2], BACKOFF_INITIAL * 4);
        assert_eq!(waits[9], BACKOFF_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_waits_for_others_is_woken_by_them() {
        let queue = SchedulingQueue::default();
        queue.add(&key("a"), 0);
        let taken = queue.next().await;
        queue.park(&taken, true);
        queue.done(taken, Ok(Next::Change));
        tokio::time::advance(Duration::from_secs(1)).await;
        queue.wake(false);
        assert_eq!(next(&queue).await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_no_change_wakes_is_tried_after_five_minutes() {
        let queue = SchedulingQueue::default();
        queue.add(&key("a"), 0);
        let taken = queue.next().await;
        queue.park(&taken, false);
        queue.done(taken, Ok(Next::Change));
        assert!(is_idle(&queue, UNSCHEDULABLE_MAX - Duration::from_secs(1)).await);
        assert_eq!(next(&queue).await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_changes_while_it_is_tried_is_tried_again() {
        let queue = SchedulingQueue::default();
        queue.add(&key("a"), 0);
        let taken = queue.next().await;
        queue.add(&taken, 0);
        assert!(is_idle(&queue, Duration::from_secs(1)).await, "not twice at once");
        queue.park(&taken, false);
        queue.done(taken, Ok(Next::Change));
        assert_eq!(next(&queue).await, "a");
    }

    /// A pod is replaced by another of its name while a worker still binds the first: the second must
    /// neither be tried at the same time nor be forgotten with the first.
    #[tokio::test(start_paused = true)]
    async fn a_pod_that_is_recreated_while_it_is_tried_waits_for_the_first() {
        let queue = SchedulingQueue::default();
        queue.add(&key("a"), 0);
        let first = queue.next().await;
        queue.remove(&first);
        queue.add(&first, 0);
        assert!(is_idle(&queue, Duration::from_secs(1)).await);
        queue.done(first, Ok(Next::Change));
        let second = queue.next().await;
        queue.park(&second, false);
        queue.done(second, Ok(Next::Change));
        queue.wake(true);
        assert_eq!(next(&queue).await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_failed_comes_back_and_one_that_was_placed_or_removed_does_not() {
        let queue = SchedulingQueue::default();
        for name in ["failed", "placed", "removed"] {
            queue.add(&key(name), 0);
        }
        let error = Error::Unfinished("no");
        let start = Instant::now();
        let failed = queue.next().await;
        queue.done(failed, Err(&error));
        let placed = queue.next().await;
        queue.done(placed, Ok(Next::Change));
        let removed = queue.next().await;
        queue.remove(&removed);
        queue.done(removed, Err(&error));
        assert_eq!(next(&queue).await, "failed");
        assert_eq!(start.elapsed(), BACKOFF_INITIAL);
        assert!(is_idle(&queue, Duration::from_secs(3600)).await);
    }
}
