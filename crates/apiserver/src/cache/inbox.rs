//! The queue of a watcher: the state that the watch begins with, then events.
//!
//! Both sides hold the same queue, so that the cache can empty it: a client that does not read would keep
//! every object of its time in memory. It is
//! ended when it falls too far behind, when what it has not read is no longer in the history, and when
//! it reads the state it begins with too slowly. It then resumes from its resourceVersion, or lists
//! again. One whose client takes nothing at all ends with its response, which `coffer-net` breaks off.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use coffer_store::Revision;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use super::{CacheEvent, CachedObject};

/// Events queued per watcher beyond those it began with.
pub(super) const QUEUE_EVENTS_MAX: usize = 1024;
/// How long a watcher may take over the state it begins with, beyond what its length allows.
const INITIAL_TIME: Duration = Duration::from_secs(300);
/// How fast it must read that state, in bytes a second.
const INITIAL_RATE_MIN: usize = 8 * 1024;

/// The watcher's side. Dropped, it takes no more.
pub(crate) struct Inbox(Arc<Queue>);

/// The cache's side.
pub(super) struct Queue {
    pending: Mutex<Pending>,
    wake: Notify,
}

struct Pending {
    initial: std::vec::IntoIter<Arc<CachedObject>>,
    /// Held until the initial state is handed out.
    place: Option<OwnedSemaphorePermit>,
    events: VecDeque<Arc<CacheEvent>>,
    events_max: usize,
    ended: bool,
    /// When the initial state must have been read, as far as it has been handed out.
    initial_due: Instant,
}

/// The next object of the initial state.
pub(crate) enum Initial {
    Object(Arc<CachedObject>),
    /// That was all.
    Done,
    /// The watch is over.
    Ended,
}

/// Why there is no event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoEvent {
    /// None yet.
    Empty,
    /// And none will come.
    Ended,
}

/// A queue that begins with a state, and with events after it.
pub(super) fn queue(
    initial: Vec<Arc<CachedObject>>,
    backlog: VecDeque<Arc<CacheEvent>>,
) -> (Arc<Queue>, Inbox) {
    let now = Instant::now();
    let pending = Pending {
        initial: initial.into_iter(),
        place: None,
        events_max: backlog.len() + QUEUE_EVENTS_MAX,
        events: backlog,
        ended: false,
        initial_due: now + INITIAL_TIME,
    };
    let queue = Arc::new(Queue { pending: Mutex::new(pending), wake: Notify::new() });
    (queue.clone(), Inbox(queue))
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock()
    }

    /// Queues an event. Returns whether the watcher continues.
    pub(super) fn push(&self, event: &Arc<CacheEvent>) -> bool {
        let mut pending = self.lock();
        if !pending.ended && pending.events.len() >= pending.events_max {
            pending.end();
        }
        if !pending.ended {
            pending.events.push_back(event.clone());
        }
        self.wake.notify_one();
        !pending.ended
    }

    pub(super) fn is_ended(&self) -> bool {
        self.lock().ended
    }

    pub(super) fn end(&self) {
        self.lock().end();
        self.wake.notify_one();
    }

    /// Ends a watcher that has not read an event which the history no longer holds.
    pub(super) fn end_if_behind(&self, floor: Revision) {
        let behind = self.lock().events.front().is_some_and(|next| next.revision <= floor);
        if behind {
            self.end();
        }
    }

    /// Ends a watcher that is too slow with the state it begins with.
    pub(super) fn end_if_late(&self, now: Instant) {
        let pending = self.lock();
        let late = !pending.initial.as_slice().is_empty() && now > pending.initial_due;
        drop(pending);
        if late {
            self.end();
        }
    }
}

impl Pending {
    fn end(&mut self) {
        self.ended = true;
        self.initial = Vec::new().into_iter();
        self.events = VecDeque::new();
        self.place = None;
    }
}

impl Inbox {
    /// Holds a place until the initial state is handed out, or the watch is over.
    pub(crate) fn hold(&self, place: Option<OwnedSemaphorePermit>) {
        let mut pending = self.0.lock();
        if !pending.ended {
            pending.place = place;
        }
    }

    /// The next object of the state the watch begins with.
    pub(crate) fn next_initial(&self) -> Initial {
        let mut pending = self.0.lock();
        if pending.ended {
            return Initial::Ended;
        }
        match pending.initial.next() {
            Some(object) => {
                pending.initial_due += time_to_read(object.bytes.len());
                Initial::Object(object)
            }
            None => {
                pending.initial = Vec::new().into_iter();
                pending.place = None;
                Initial::Done
            }
        }
    }

    /// The next event, if there is one.
    pub(crate) fn try_next(&self) -> Result<Arc<CacheEvent>, NoEvent> {
        let mut pending = self.0.lock();
        let ended = pending.ended;
        let event = pending.events.pop_front();
        if pending.events.is_empty() && pending.events.capacity() > QUEUE_EVENTS_MAX {
            pending.events = VecDeque::new();
            pending.events_max = QUEUE_EVENTS_MAX;
        }
        event.ok_or(if ended { NoEvent::Ended } else { NoEvent::Empty })
    }

    /// The next event, when it comes; `None` once the watch is over.
    pub(crate) async fn next(&self) -> Option<Arc<CacheEvent>> {
        loop {
            // A wake-up from before this call is kept for it: nothing is missed.
            match self.try_next() {
                Ok(event) => return Some(event),
                Err(NoEvent::Ended) => return None,
                Err(NoEvent::Empty) => self.0.wake.notified().await,
            }
        }
    }
}

/// How long a client may take over a state of so many bytes: it is kept alive for that client.
pub(crate) fn time_for_state(bytes: usize) -> Duration {
    INITIAL_TIME + time_to_read(bytes)
}

/// The longest that so many bytes may take.
fn time_to_read(bytes: usize) -> Duration {
    Duration::from_secs_f64(bytes as f64 / INITIAL_RATE_MIN as f64)
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.lock().end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(revision: Revision, bytes: usize) -> Arc<CachedObject> {
        Arc::new(CachedObject {
            key: "/registry/secrets/n/a".into(),
            revision,
            bytes: vec![b'x'; bytes].into(),
            namespace: "n".to_owned(),
            name: "a".to_owned(),
            labels: Default::default(),
            fields: Vec::new(),
            is_decoded: true,
        })
    }

    fn event(revision: Revision) -> Arc<CacheEvent> {
        Arc::new(CacheEvent { revision, old: None, new: Some(object(revision, 100)) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_that_does_not_read_its_initial_state_is_ended_and_lets_go_of_it() {
        let held = object(1, 100);
        let (queue, inbox) = queue(vec![held.clone(), held.clone()], VecDeque::new());
        assert!(matches!(inbox.next_initial(), Initial::Object(_)));
        tokio::time::advance(INITIAL_TIME / 2).await;
        queue.end_if_late(Instant::now());
        assert_eq!(Arc::strong_count(&held), 2, "one is still to come");
        tokio::time::advance(INITIAL_TIME).await;
        queue.end_if_late(Instant::now());
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(matches!(inbox.next_initial(), Initial::Ended));
        assert!(inbox.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_watch_is_not_late() {
        let (queue, inbox) = queue(Vec::new(), VecDeque::new());
        assert!(matches!(inbox.next_initial(), Initial::Done));
        tokio::time::advance(INITIAL_TIME * 100).await;
        queue.end_if_late(Instant::now());
        assert!(queue.push(&event(1)));
        assert_eq!(inbox.next().await.unwrap().revision, 1);
    }

    /// A fixed time ended each watcher of a large collection on a slow link, at every try.
    #[tokio::test(start_paused = true)]
    async fn a_slow_and_steady_watcher_reads_a_large_state_to_its_end_and_a_slower_one_does_not() {
        const MIB: usize = 1 << 20;
        const OBJECTS: usize = 60;
        let read = async |bytes_per_s: usize| {
            let state = (0..OBJECTS).map(|_| object(1, MIB)).collect();
            let (queue, inbox) = queue(state, VecDeque::new());
            let mut reads = 0;
            while matches!(inbox.next_initial(), Initial::Object(_)) {
                reads += 1;
                let time = Duration::from_secs((MIB / bytes_per_s) as u64);
                tokio::time::advance(time).await;
                queue.end_if_late(Instant::now());
            }
            reads
        };
        assert_eq!(read(35_000).await, OBJECTS);
        assert_eq!(read(INITIAL_RATE_MIN).await, OBJECTS);
        assert!(read(INITIAL_RATE_MIN / 2).await < OBJECTS);
    }

    #[test]
    fn events_that_left_the_history_are_not_kept_for_a_watcher() {
        let (queue, inbox) = queue(Vec::new(), VecDeque::new());
        queue.push(&event(5));
        queue.end_if_behind(4);
        assert!(!queue.is_ended());
        queue.end_if_behind(5);
        assert_eq!(inbox.try_next().err(), Some(NoEvent::Ended));
    }
}
