//! Events expire: an hour after their last change they are removed.
//!
//! Each event is read once for each time that it is written, to find out when it was last changed; a sweep
//! costs what was written since the last one, and what is due.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use coffer_store::Revision;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use parking_lot::Mutex;

use super::Core;
use crate::cache::{CacheEvent, CachedObject, Facts, Observer};
use crate::object::Resource;

/// How long an event is kept after it was last written; upstream's `--event-ttl`.
const EVENT_TTL: SignedDuration = SignedDuration::from_hours(1);
/// How far in the future of this server's clock a writer's may be.
const CLOCK_SKEW_MAX: SignedDuration = SignedDuration::from_mins(10);
/// How often the server looks for expired events.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Removes expired events for as long as it is polled.
pub(crate) async fn expire_events(core: &Core) {
    let events = core.resources().of::<Event>();
    let ages = Arc::new(Ages::default());
    events.shard().observe(ages.clone());
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        sweep(core, events, &ages, Timestamp::now()).await;
    }
}

async fn sweep(core: &Core, events: &Resource, ages: &Ages, now: Timestamp) {
    ages.read(|key| {
        let event = events.shard().get(key)?;
        Some((event.revision, last_change(&event, now)?))
    });
    for (key, revision) in ages.due(now) {
        let found = events.shard().get(&key);
        let Some(event) = found.filter(|event| event.revision == revision) else {
            ages.forget(&key, revision);
            continue;
        };
        // A newer write of the same event wins; whatever else fails is tried at the next sweep.
        if let Err(failure) = core.expire_own(events, &event).await {
            tracing::debug!(%failure, "cannot remove an expired event");
        }
    }
}

/// When an event was created, by this server's clock, or the later time that its writer gave for it. A time
/// beyond [`CLOCK_SKEW_MAX`] cannot be that of a write, and would keep the event for ever.
fn last_change(event: &CachedObject, now: Timestamp) -> Option<Timestamp> {
    let event: Event = serde_json::from_slice(&event.bytes).ok()?;
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let given = [last, series.map(|time| time.0)];
    let given = given.into_iter().flatten();
    let given = given.filter(|at| at.duration_since(now) <= CLOCK_SKEW_MAX).max();
    given.max(event.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

/// When each event was last changed. Follows the cache, and reads no event under its lock.
#[derive(Default)]
struct Ages(Mutex<State>);

#[derive(Default)]
struct State {
    /// Keys of events that were written and have not been read since.
    unread: HashSet<Arc<str>>,
    /// What was read of the others: the revision, and when that was changed last.
    read: HashMap<Arc<str>, (Revision, Timestamp)>,
    by_time: BTreeSet<(Timestamp, Arc<str>)>,
}

impl State {
    fn remove(&mut self, key: &str) {
        self.unread.remove(key);
        if let Some((key, (_, at))) = self.read.remove_entry(key) {
            self.by_time.remove(&(at, key));
        }
    }
}

impl Ages {
    /// Reads the events that were written since the last call: `last_change` returns an event's revision
    /// and when it was changed last, `None` for one that no longer exists or says no time, which stays.
    fn read(&self, last_change: impl Fn(&str) -> Option<(Revision, Timestamp)>) {
        let unread = std::mem::take(&mut self.0.lock().unread);
        for key in unread {
            let Some((revision, at)) = last_change(&key) else { continue };
            let mut state = self.0.lock();
            // Written again meanwhile: that is read by the next call.
            if !state.unread.contains(&key) {
                state.read.insert(key.clone(), (revision, at));
                state.by_time.insert((at, key));
            }
        }
    }

    /// The events that were changed more than [`EVENT_TTL`] ago, with the revision that says so.
    fn due(&self, now: Timestamp) -> Vec<(Arc<str>, Revision)> {
        let state = self.0.lock();
        let old = |at: Timestamp| now.duration_since(at) > EVENT_TTL;
        let due = state.by_time.iter().take_while(|(at, _)| old(*at));
        due.filter_map(|(_, key)| Some((key.clone(), state.read.get(key)?.0))).collect()
    }

    /// Forgets an event that was removed before it was read.
    fn forget(&self, key: &str, revision: Revision) {
        let mut state = self.0.lock();
        if state.read.get(key).is_some_and(|(read, _)| *read == revision) {
            state.remove(key);
        }
    }
}

impl Observer for Ages {
    fn reset(&self, objects: &mut dyn Iterator<Item = (&CachedObject, Option<&Facts>)>) {
        let unread = objects.map(|(object, _)| object.key.clone()).collect();
        *self.0.lock() = State { unread, ..State::default() };
    }

    fn changed(&self, event: &CacheEvent, _: Option<&Facts>) {
        let mut state = self.0.lock();
        state.remove(&event.subject().key);
        if let Some(new) = &event.new {
            state.unread.insert(new.key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::json;

    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(minutes * 60).unwrap()
    }

    fn object(name: &str, revision: Revision) -> Arc<CachedObject> {
        Arc::new(CachedObject {
            key: format!("/registry/events/n/{name}").into(),
            revision,
            bytes: Default::default(),
            namespace: "n".to_owned(),
            name: name.to_owned(),
            labels: Default::default(),
            fields: Vec::new(),
            is_decoded: true,
        })
    }

    fn event(old: Option<Revision>, new: Option<Revision>) -> CacheEvent {
        let of = |revision: Option<Revision>| revision.map(|revision| object("a", revision));
        CacheEvent { revision: new.or(old).unwrap() + 1, old: of(old), new: of(new) }
    }

    fn names(due: Vec<(Arc<str>, Revision)>) -> Vec<(String, Revision)> {
        let name = |key: Arc<str>| key.rsplit('/').next().unwrap_or_default().to_owned();
        due.into_iter().map(|(key, revision)| (name(key), revision)).collect()
    }

    #[test]
    fn times_far_in_the_future_do_not_keep_an_event() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = time("2026-01-01T12:00:00Z");
        for (last, series, expected) in [
            (None, None, "2026-01-01T10:00:00Z"),
            (Some("2026-01-01T11:00:00Z"), None, "2026-01-01T11:00:00Z"),
            (Some("2026-01-01T11:00:00Z"), Some("2026-01-01T11:30:00Z"), "2026-01-01T11:30:00Z"),
            (Some("2026-01-01T09:00:00Z"), None, "2026-01-01T10:00:00Z"),
            (Some("2026-01-01T12:05:00Z"), None, "2026-01-01T12:05:00Z"),
            (Some("9999-12-30T22:00:00Z"), None, "2026-01-01T10:00:00Z"),
            (None, Some("9999-12-30T22:00:00Z"), "2026-01-01T10:00:00Z"),
            (Some("2026-01-01T11:00:00Z"), Some("2026-01-01T12:10:01Z"), "2026-01-01T11:00:00Z"),
        ] {
            let series = series.map(|time| json!({ "count": 2, "lastObservedTime": time }));
            let written = json!({
                "metadata": { "name": "e", "creationTimestamp": "2026-01-01T10:00:00Z" },
                "involvedObject": {}, "lastTimestamp": last, "series": series,
            });
            let mut event = object("e", 1);
            Arc::get_mut(&mut event).unwrap().bytes = written.to_string().into();
            assert_eq!(last_change(&event, now), Some(time(expected)), "{last:?}");
        }
    }

    #[test]
    fn an_event_is_read_once_for_each_write_and_due_an_hour_after_its_change() {
        let ages = Ages::default();
        let objects: Vec<_> = (0..100).map(|n| object(&format!("e{n}"), n)).collect();
        ages.reset(&mut objects.iter().map(|object| (&**object, None)));
        let reads = RefCell::new(0);
        let read = |key: &str| {
            *reads.borrow_mut() += 1;
            let number: u32 = key.rsplit('e').next()?.parse().ok()?;
            Some((number.into(), at(number.into())))
        };
        ages.read(read);
        assert_eq!(*reads.borrow(), 100);
        assert_eq!(names(ages.due(at(62))), [("e0".to_owned(), 0), ("e1".to_owned(), 1)]);
        // Nothing was written: nothing is read, whatever is due.
        ages.read(read);
        assert_eq!(ages.due(at(63)).len(), 3);
        assert_eq!(*reads.borrow(), 100);
    }

    #[test]
    fn an_event_that_is_written_again_is_due_an_hour_after_that() {
        let ages = Ages::default();
        ages.changed(&event(None, Some(1)), None);
        ages.read(|_| Some((1, at(0))));
        assert_eq!(ages.due(at(61)).len(), 1);
        ages.changed(&event(Some(1), Some(2)), None);
        assert!(ages.due(at(61)).is_empty());
        ages.read(|_| Some((2, at(30))));
        assert!(ages.due(at(61)).is_empty());
        assert_eq!(names(ages.due(at(91))), [("a".to_owned(), 2)]);
        ages.changed(&event(Some(2), None), None);
        ages.read(|_| panic!("a removed event is not read"));
        assert!(ages.due(at(1000)).is_empty());
    }

    #[test]
    fn an_event_that_says_no_time_stays_and_one_removed_while_it_is_read_is_forgotten() {
        let ages = Ages::default();
        ages.changed(&event(None, Some(1)), None);
        ages.read(|_| None);
        assert!(ages.due(at(1000)).is_empty());
        ages.changed(&event(Some(1), Some(2)), None);
        ages.read(|_| {
            ages.changed(&event(Some(2), None), None);
            Some((2, at(0)))
        });
        let due = ages.due(at(1000));
        assert_eq!(names(due.clone()), [("a".to_owned(), 2)]);
        ages.forget(&due[0].0, 2);
        assert!(ages.due(at(1000)).is_empty());
    }
}
