//! What becomes of an occurrence: an event of its own, a higher count on one that is there, or nothing.
//! client-go's `EventCorrelator`, with its numbers. Pure: time is an argument.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::time::Instant;

use super::recent::Recent;
use super::{EventType, Occurrence};

/// Objects and events that are remembered of each sort.
const REMEMBERED_MAX: usize = 4096;
/// Messages with the same object, type and reason that are events of their own.
const SIMILAR_MAX: usize = 10;
/// How long after the last of them such messages are counted again.
const SIMILAR_INTERVAL: Duration = Duration::from_secs(600);
/// Begins the message of an event that stands for similar ones.
const COMBINED: &str = "(combined from similar events): ";
/// The spam filter: as many in a burst for each object, and then one per interval.
const BURST: f64 = 25.0;
const REFILL_INTERVAL: Duration = Duration::from_secs(300);

/// An object and the component that speaks of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct About {
    component: &'static str,
    /// API version, kind, namespace, name, uid.
    object: [String; 5],
}

/// What similar occurrences have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Similar {
    about: About,
    type_: EventType,
    reason: &'static str,
}

/// What the occurrences of one event have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct EventKey {
    similar: Similar,
    /// None for an event that stands for similar ones.
    own: Option<(String, String)>,
}

/// An event that was written.
#[derive(Debug)]
struct Written {
    name: Option<String>,
    count: i32,
}

/// What to do about an occurrence.
#[derive(Debug, PartialEq)]
pub(super) struct Correlated {
    pub(super) key: EventKey,
    /// The occurrence's, or that it stands for similar ones.
    pub(super) message: String,
    /// The event that is there, and how often it has occurred with this time.
    pub(super) repeats: Option<(String, i32)>,
}

/// Remembers what occurred.
#[derive(Debug)]
pub(super) struct Correlator {
    similar: Recent<Similar, Group>,
    written: Recent<EventKey, Written>,
    buckets: Recent<About, Bucket>,
    /// Messages are compared by their hash.
    hasher: RandomState,
}

#[derive(Debug)]
struct Group {
    messages: HashSet<u64>,
    last: Instant,
}

impl Correlator {
    pub(super) fn new() -> Self {
        Self {
            similar: Recent::new(REMEMBERED_MAX),
            written: Recent::new(REMEMBERED_MAX),
            buckets: Recent::new(REMEMBERED_MAX),
            hasher: RandomState::new(),
        }
    }

    /// What to write; `None` for an object of which too much was said.
    pub(super) fn correlate(&mut self, seen: &Occurrence, now: Instant) -> Option<Correlated> {
        let about = About { component: seen.component, object: identity(&seen.object) };
        let similar = Similar { about: about.clone(), type_: seen.type_, reason: seen.reason };
        let combined = self.is_one_of_many(&similar, &seen.message, now);
        let (own, message) = if combined {
            (None, format!("{COMBINED}{}", seen.message))
        } else {
            let place = seen.object.field_path.clone().unwrap_or_default();
            (Some((place, seen.message.clone())), seen.message.clone())
        };
        let key = EventKey { similar, own };
        // Upstream counts what the filter drops as well.
        let written = self.written.entry(&key, || Written { name: None, count: 0 });
        written.count += 1;
        let repeats = written.name.clone().map(|name| (name, written.count));
        let bucket = self.buckets.entry(&about, || Bucket { tokens: BURST, filled: now });
        bucket.take(now).then_some(Correlated { key, message, repeats })
    }

    /// An event of this name was created.
    pub(super) fn created(&mut self, key: &EventKey, name: String) {
        *self.written.entry(key, || Written { name: None, count: 1 }) =
            Written { name: Some(name), count: 1 };
    }

    fn is_one_of_many(&mut self, similar: &Similar, message: &str, now: Instant) -> bool {
        let message = self.hasher.hash_one(message);
        let new = || Group { messages: HashSet::new(), last: now };
        let group = self.similar.entry(similar, new);
        if now.duration_since(group.last) > SIMILAR_INTERVAL {
            group.messages.clear();
        }
        group.last = now;
        group.messages.insert(message);
        if group.messages.len() < SIMILAR_MAX {
            return false;
        }
        // One is forgotten, as upstream does: the set stays as large as its limit.
        let any = group.messages.iter().next().copied();
        any.is_some_and(|any| group.messages.remove(&any))
    }
}

/// What an object is known by, its version and the part of it aside.
fn identity(object: &ObjectReference) -> [String; 5] {
    [&object.api_version, &object.kind, &object.namespace, &object.name, &object.uid]
        .map(|part| part.clone().unwrap_or_default())
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.duration_since(self.filled).as_secs_f64() / REFILL_INTERVAL.as_secs_f64();
        self.tokens = (self.tokens + passed).min(BURST);
        self.filled = now;
        let takes = self.tokens >= 1.0;
        if takes {
            self.tokens -= 1.0;
        }
        takes
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn occurrence(pod: &str, message: &str) -> Occurrence {
        Occurrence {
            component: "kubelet",
            object: ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: Some("n".to_owned()),
                name: Some(pod.to_owned()),
                uid: Some(pod.to_owned()),
                ..ObjectReference::default()
            },
            type_: EventType::Warning,
            reason: "Failed",
            message: message.to_owned(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_occurrence_repeats_one_with_the_same_words_whatever_its_objects_version() {
        let (mut correlator, now) = (Correlator::new(), Instant::now());
        let first = correlator.correlate(&occurrence("p", "a"), now).unwrap();
        assert_eq!((first.message.as_str(), &first.repeats), ("a", &None));
        correlator.created(&first.key, "p.1".to_owned());
        let mut again = occurrence("p", "a");
        again.object.resource_version = Some("2".to_owned());
        let again = correlator.correlate(&again, now).unwrap();
        assert_eq!(again.repeats, Some(("p.1".to_owned(), 2)));
        for other in [occurrence("p", "b"), occurrence("q", "a")] {
            assert_eq!(correlator.correlate(&other, now).unwrap().repeats, None);
        }
        let mut part = occurrence("p", "a");
        part.object.field_path = Some("spec.containers{c}".to_owned());
        assert_eq!(correlator.correlate(&part, now).unwrap().repeats, None);
    }

    #[test]
    fn the_tenth_similar_event_stands_for_all_that_follow() {
        let (mut correlator, now) = (Correlator::new(), Instant::now());
        let shown: Vec<_> = (0..12)
            .map(|n| {
                let found = correlator.correlate(&occurrence("p", &n.to_string()), now).unwrap();
                if found.repeats.is_none() {
                    correlator.created(&found.key, format!("p.{n}"));
                }
                (found.message, found.repeats)
            })
            .collect();
        assert!(shown[..9].iter().enumerate().all(|(n, (message, _))| *message == n.to_string()));
        let combined = |n: usize| format!("{COMBINED}{n}");
        assert_eq!(shown[9], (combined(9), None));
        assert_eq!(shown[10], (combined(10), Some(("p.9".to_owned(), 2))));
        assert_eq!(shown[11], (combined(11), Some(("p.9".to_owned(), 3))));
        let later = now + SIMILAR_INTERVAL + Duration::from_secs(1);
        assert_eq!(correlator.correlate(&occurrence("p", "x"), later).unwrap().message, "x");
    }

    #[test]
    fn events_over_the_rate_limit_are_dropped_and_resume() {
        let (mut correlator, now) = (Correlator::new(), Instant::now());
        let mut takes = |pod: &str, now| correlator.correlate(&occurrence(pod, "a"), now).is_some();
        assert_eq!((0..100).filter(|_| takes("p", now)).count(), 25);
        assert!(takes("q", now), "another object");
        assert!(!takes("p", now + REFILL_INTERVAL / 2));
        assert!(takes("p", now + REFILL_INTERVAL * 2));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut correlator, now) = (Correlator::new(), Instant::now());
        for n in 0..(REMEMBERED_MAX + 100) {
            let found = correlator.correlate(&occurrence(&n.to_string(), "a"), now).unwrap();
            correlator.created(&found.key, n.to_string());
        }
        let repeats = |correlator: &mut Correlator, n: usize| {
            correlator.correlate(&occurrence(&n.to_string(), "a"), now).unwrap().repeats
        };
        assert!(repeats(&mut correlator, REMEMBERED_MAX + 99).is_some());
        assert!(repeats(&mut correlator, 0).is_none());
    }
}
