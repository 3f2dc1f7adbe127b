//! Pulls that failed, and when each may be tried again: 10 s after the first time, twice as long
//! after each further one, 5 minutes at most.
//!
//! A failure is remembered with the versions of the pull secrets that were used. Once one of them
//! has changed, the failure says nothing about the next try, which then comes immediately.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::pull_secrets::SecretVersions;
use crate::backoff::{self, Backoff};

/// Failed pulls remembered; beyond it those that may be tried again are forgotten.
const FAILURES_MAX: usize = 1024;

/// A pod, by uid, and an image as the pod spells it.
type Key = (String, String);

struct Failure {
    backoff: Backoff,
    until: Instant,
    message: String,
    seen: SecretVersions,
}

#[derive(Default)]
pub(super) struct Failures {
    known: Mutex<HashMap<Key, Failure>>,
}

impl Failures {
    fn known(&self) -> MutexGuard<'_, HashMap<Key, Failure>> {
        self.known.lock()
    }

    /// How long a pull has still to wait, and why.
    pub(super) fn check(
        &self,
        pod: &str,
        image: &str,
        seen: &SecretVersions,
        now: Instant,
    ) -> Option<(Duration, String)> {
        let mut known = self.known();
        let key = (pod.to_owned(), image.to_owned());
        let failure = known.get(&key)?;
        if failure.seen != *seen {
            known.remove(&key);
            return None;
        }
        let left = failure.until.saturating_duration_since(now);
        (!left.is_zero()).then(|| (left, failure.message.clone()))
    }

    pub(super) fn add(
        &self,
        pod: &str,
        image: &str,
        seen: SecretVersions,
        message: String,
        now: Instant,
    ) {
        let mut known = self.known();
        if known.len() >= FAILURES_MAX {
            known.retain(|_, failure| failure.until > now);
        }
        let failure = known.entry((pod.to_owned(), image.to_owned())).or_insert_with(|| Failure {
            backoff: Backoff::new(backoff::IMAGE_PULL),
            until: now,
            message: String::new(),
            seen: SecretVersions::default(),
        });
        failure.until = now + failure.backoff.failed(now);
        failure.message = message;
        failure.seen = seen;
    }

    pub(super) fn forget(&self, pod: &str, image: &str) {
        self.known().remove(&(pod.to_owned(), image.to_owned()));
    }

    /// Forgets what is known of a pod that no longer exists.
    pub(super) fn forget_pod(&self, pod: &str) {
        self.known().retain(|(uid, _), _| uid != pod);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{ObjectKey, Version};

    fn seen(revision: &str) -> SecretVersions {
        let version = Version { uid: "u".to_owned(), resource_version: revision.to_owned() };
        SecretVersions::from([(ObjectKey::secret("ns", "pull"), Some(version))])
    }

    /// A wait of so many seconds, and up to half of it more.
    #[track_caller]
    fn assert_spread(wait: Duration, seconds: u64) {
        let least = Duration::from_secs(seconds);
        assert!((least..=least * 3 / 2).contains(&wait), "{wait:?} for {seconds} s");
    }

    #[test]
    fn each_failure_doubles_the_wait_and_a_changed_secret_ends_it() {
        let failures = Failures::default();
        let mut now = Instant::now();
        for wait in [10, 20, 40, 80, 160, 300, 300] {
            failures.add("p", "i", seen("1"), "no".to_owned(), now);
            let left = failures.check("p", "i", &seen("1"), now).expect("has to wait");
            assert_eq!(left.1, "no");
            assert_spread(left.0, wait);
            now += left.0;
            assert!(failures.check("p", "i", &seen("1"), now).is_none());
        }
        failures.add("p", "i", seen("1"), "no".to_owned(), now);
        assert!(failures.check("p", "other", &seen("1"), now).is_none());
        assert!(failures.check("p", "i", &seen("2"), now).is_none());
        failures.add("p", "i", seen("2"), "no".to_owned(), now);
        let left = failures.check("p", "i", &seen("2"), now).expect("has to wait").0;
        assert_spread(left, 10);
        failures.forget_pod("p");
        assert!(failures.check("p", "i", &seen("2"), now).is_none());
    }
}
