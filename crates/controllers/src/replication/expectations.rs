//! Creations and deletions that a controller has requested and that the cache does not show yet. Until then
//! the cache is known to be behind, and acting on it would create or delete too many pods.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::key::ObjectKey;

/// Expectations older than this are ignored: upstream's `ExpectationsTimeout`.
const EXPECTATION_LIFE: Duration = Duration::from_secs(5 * 60);

/// Expected creations and deletions by controller object.
#[derive(Debug, Default)]
pub(crate) struct Expectations(Mutex<HashMap<ObjectKey, Expected>>);

#[derive(Debug)]
struct Expected {
    creations: usize,
    /// By uid, because a graceful deletion is observed twice: its start and its end.
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    /// Whether all expected changes have been observed, or the expectations are too old.
    pub(crate) fn satisfied(&self, key: &ObjectKey) -> bool {
        self.all().get(key).is_none_or(|expected| {
            (expected.creations == 0 && expected.deletions.is_empty())
                || expected.since.elapsed() > EXPECTATION_LIFE
        })
    }

    /// Expects `count` creations.
    pub(crate) fn expect_creations(&self, key: &ObjectKey, count: usize) {
        let expected =
            Expected { creations: count, deletions: HashSet::new(), since: Instant::now() };
        self.all().insert(key.clone(), expected);
    }

    /// Expects the deletion of these uids.
    pub(crate) fn expect_deletions(&self, key: &ObjectKey, uids: impl IntoIterator<Item = String>) {
        let expected =
            Expected { creations: 0, deletions: uids.into_iter().collect(), since: Instant::now() };
        self.all().insert(key.clone(), expected);
    }

    /// A creation was observed or has failed.
    pub(crate) fn creation_observed(&self, key: &ObjectKey) {
        if let Some(expected) = self.all().get_mut(key) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// A deletion was observed or has failed.
    pub(crate) fn deletion_observed(&self, key: &ObjectKey, uid: &str) {
        if let Some(expected) = self.all().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// The controller object was deleted.
    pub(crate) fn forget(&self, key: &ObjectKey) {
        self.all().remove(key);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ObjectKey, Expected>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn expectations_are_satisfied_when_observed_or_too_old() {
        let key = ObjectKey::new("ns", "rs");
        let expectations = Expectations::default();
        assert!(expectations.satisfied(&key));
        expectations.expect_creations(&key, 2);
        expectations.creation_observed(&key);
        assert!(!expectations.satisfied(&key));
        expectations.creation_observed(&key);
        assert!(expectations.satisfied(&key));
        expectations.expect_creations(&key, 1);
        tokio::time::advance(EXPECTATION_LIFE + Duration::from_secs(1)).await;
        assert!(expectations.satisfied(&key));
    }

    /// A graceful deletion is observed when it starts and when it ends. The second observation must not count
    /// for another pod.
    #[test]
    fn a_deletion_that_is_observed_twice_counts_once() {
        let key = ObjectKey::new("ns", "rs");
        let expectations = Expectations::default();
        expectations.expect_deletions(&key, ["a".to_owned(), "b".to_owned()]);
        expectations.deletion_observed(&key, "a");
        expectations.deletion_observed(&key, "a");
        assert!(!expectations.satisfied(&key));
        expectations.deletion_observed(&key, "b");
        assert!(expectations.satisfied(&key));
    }
}
