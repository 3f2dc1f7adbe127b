//! What plugins have responded, for as long as they said that it is good.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::super::credential::Coordinates;
use super::super::docker_config::Entry;
use super::duplicate;

/// Responses kept for one plugin; beyond it those that end soonest go first.
const RESPONSES_MAX: usize = 1000;
/// A year is as good as for ever, and an instant beyond the clock's end is not representable.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// For what an answer is good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    Image(String),
    Registry(String),
    Global,
}

/// A service account and what of it a plugin was given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Account {
    pub(super) coordinates: Coordinates,
    pub(super) annotations: BTreeMap<String, String>,
}

/// For what and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) scope: Scope,
    pub(super) account: Option<Account>,
}

struct Kept {
    entries: Vec<Entry>,
    until: Instant,
}

#[derive(Default)]
pub(super) struct Cache {
    answers: Mutex<HashMap<Key, Kept>>,
}

impl Cache {
    fn responses(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.answers.lock()
    }

    /// The answer to the first of the keys that has one.
    pub(super) fn find(&self, keys: &[Key], now: Instant) -> Option<Vec<Entry>> {
        let mut answers = self.responses();
        // Dropping what is over erases it.
        answers.retain(|_, kept| kept.until > now);
        keys.iter().find_map(|key| answers.get(key)).map(|kept| duplicate(&kept.entries))
    }

    pub(super) fn put(&self, key: Key, entries: Vec<Entry>, duration: Duration, now: Instant) {
        let mut answers = self.responses();
        if answers.len() >= RESPONSES_MAX {
            let soonest = answers.iter().min_by_key(|(_, kept)| kept.until);
            if let Some(key) = soonest.map(|(key, _)| key.clone()) {
                answers.remove(&key);
            }
        }
        answers.insert(key, Kept { entries, until: now + duration.min(DURATION_MAX) });
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::credential::Hidden;
    use super::*;

    fn key(scope: Scope) -> Key {
        Key { scope, account: None }
    }

    fn entries(user: &str) -> Vec<Entry> {
        let hidden = |text: &str| Hidden::new(text.to_owned());
        vec![("r.io".to_owned(), hidden(user), hidden("p"))]
    }

    #[test]
    fn the_narrowest_answer_counts_until_its_time_is_over() {
        let cache = Cache::default();
        let now = Instant::now();
        let keys = [key(Scope::Image("r.io/a".to_owned())), key(Scope::Global)];
        let user = |after_s| {
            let found = cache.find(&keys, now + Duration::from_secs(after_s));
            found.map(|entries| entries[0].1.expose().to_owned())
        };
        cache.put(keys[1].clone(), entries("global"), Duration::MAX, now);
        cache.put(keys[0].clone(), entries("image"), Duration::from_secs(10), now);
        assert_eq!(user(9).as_deref(), Some("image"));
        assert_eq!(user(10).as_deref(), Some("global"));
        assert_eq!(user(2 * 365 * 24 * 60 * 60), None);
    }

    #[test]
    fn one_service_account_does_not_get_the_answer_for_another() {
        let cache = Cache::default();
        let now = Instant::now();
        let key = |uid: &str| {
            let (namespace, name) = ("ns".to_owned(), "default".to_owned());
            let coordinates = Coordinates { namespace, name, uid: uid.to_owned() };
            let account = Account { coordinates, annotations: BTreeMap::new() };
            Key { scope: Scope::Global, account: Some(account) }
        };
        cache.put(key("1"), entries("one"), Duration::from_secs(10), now);
        assert!(cache.find(&[key("1")], now).is_some());
        assert!(cache.find(&[key("2")], now).is_none());
    }
}
