//! The revisions of each key: the part of the store that is in memory.
//!
//! The database has a log by revision, to which appending is fast; this index finds entries by key. It has no
//! values: about 150 bytes for each live key, and about 60 for each state of the history that is not yet
//! compacted. It is loaded from the log when the store opens.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::log::{Entry, Op};
use crate::Revision;

/// One write to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    revision: Revision,
    /// False for a removal.
    live: bool,
}

/// The states of one key. Most keys have only the newest, which then costs no allocation.
#[derive(Debug)]
struct States {
    newest: State,
    /// Oldest first.
    older: Vec<State>,
}

/// A state that no list at or after `since` can see.
#[derive(Debug)]
struct Superseded {
    since: Revision,
    key: Arc<str>,
    revision: Revision,
}

/// All keys, their history, and the range of revisions in which the history is complete.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Arc<str>, States>,
    /// In order of `since`.
    superseded: VecDeque<Superseded>,
    newest: Revision,
    oldest: Revision,
}

/// A key and the revision that it has at some revision of the store.
pub(super) type Located = (Arc<str>, Revision);

/// A log that contradicts itself.
#[derive(Debug, thiserror::Error)]
#[error("revision {revision} does not follow from the ones before it")]
pub(super) struct Contradiction {
    revision: Revision,
}

/// The history at this revision was compacted; the field is the oldest one available.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooOld(pub(super) Revision);

impl Index {
    /// An index of nothing, whose history begins at `oldest`.
    pub(super) fn since(oldest: Revision) -> Self {
        Self { newest: oldest, oldest, ..Self::default() }
    }

    pub(super) fn newest(&self) -> Revision {
        self.newest
    }

    /// The oldest revision that can be listed, and watched from.
    pub(super) fn oldest(&self) -> Revision {
        self.oldest
    }

    /// The revision of a key that exists now.
    pub(super) fn current(&self, key: &str) -> Option<Revision> {
        self.keys.get(key).map(|states| states.newest).filter(|s| s.live).map(|s| s.revision)
    }

    /// The revision a key had at `at`, if it existed then.
    pub(super) fn at(&self, key: &str, at: Revision) -> Result<Option<Revision>, TooOld> {
        self.served(at)?;
        Ok(self.keys.get(key).and_then(|states| states.at(at)))
    }

    /// Up to `max` keys with the prefix that existed at `at`, in order, strictly after `after`.
    pub(super) fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        at: Revision,
        max: usize,
    ) -> Result<Vec<Located>, TooOld> {
        self.served(at)?;
        Ok(self
            .under(prefix, after)
            .filter_map(|(key, states)| Some((Arc::clone(key), states.at(at)?)))
            .take(max)
            .collect())
    }

    /// How many keys with the prefix existed at `at`, strictly after `after`; looks at no more than
    /// `max` keys and says where it stopped if there may be more.
    pub(super) fn count(
        &self,
        prefix: &str,
        after: Option<&str>,
        at: Revision,
        max: usize,
    ) -> Result<(usize, Option<Arc<str>>), TooOld> {
        self.served(at)?;
        let mut found = 0;
        let mut last = None;
        let mut seen = 0;
        for (key, states) in self.under(prefix, after).take(max) {
            found += usize::from(states.at(at).is_some());
            seen += 1;
            last = Some(key);
        }
        Ok((found, last.filter(|_| seen == max).cloned()))
    }

    /// Adds a committed write. Revisions must be in order.
    pub(super) fn apply(&mut self, entry: &Entry) -> Result<(), Contradiction> {
        let Entry { revision, op, previous, ref key } = *entry;
        let found = self.keys.get_mut(&**key);
        let current = found.as_ref().map(|s| s.newest).filter(|s| s.live).map(|s| s.revision);
        let follows = current == previous && (op == Op::Create) == previous.is_none();
        // Up to `oldest` the log has gaps, and the previous entry of a key may be removed already.
        if revision > self.oldest && !(follows && revision == self.newest + 1) {
            return Err(Contradiction { revision });
        }
        let state = State { revision, live: op != Op::Delete };
        let shared = match found {
            Some(states) => {
                states.older.push(std::mem::replace(&mut states.newest, state));
                self.shared(key)
            }
            None => {
                let states = States { newest: state, older: Vec::new() };
                self.keys.insert(Arc::clone(key), states);
                Arc::clone(key)
            }
        };
        if let (Some(replaced), true) = (previous, follows) {
            let key = Arc::clone(&shared);
            self.superseded.push_back(Superseded { since: revision, key, revision: replaced });
        }
        if !state.live {
            self.superseded.push_back(Superseded { since: revision, key: shared, revision });
        }
        self.newest = self.newest.max(revision);
        Ok(())
    }

    /// From now on nothing before `oldest` is available. [`Index::superseded`] returns what may be removed.
    pub(super) fn compact(&mut self, oldest: Revision) {
        self.oldest = self.oldest.max(oldest.min(self.newest));
    }

    /// Up to `max` revisions that no available state contains any more.
    pub(super) fn superseded(&self, max: usize) -> Vec<Revision> {
        self.superseded
            .iter()
            .take(max)
            .take_while(|superseded| superseded.since <= self.oldest)
            .map(|superseded| superseded.revision)
            .collect()
    }

    /// Drops the first `count` of what [`Index::superseded`] returned.
    pub(super) fn forget(&mut self, count: usize) {
        for Superseded { key, revision, .. } in self.superseded.drain(..count) {
            let Some(states) = self.keys.get_mut(&key) else { continue };
            states.older.retain(|state| state.revision != revision);
            if states.newest.revision == revision && states.older.is_empty() {
                self.keys.remove(&key);
            }
        }
    }

    /// The copy of a key that the index already holds.
    fn shared(&self, key: &Arc<str>) -> Arc<str> {
        self.keys
            .get_key_value(&**key)
            .map_or_else(|| Arc::clone(key), |(held, _)| Arc::clone(held))
    }

    fn served(&self, at: Revision) -> Result<(), TooOld> {
        if at < self.oldest { Err(TooOld(self.oldest)) } else { Ok(()) }
    }

    fn under<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a States)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.keys
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }
}

impl States {
    fn at(&self, at: Revision) -> Option<Revision> {
        std::iter::once(&self.newest)
            .chain(self.older.iter().rev())
            .find(|state| state.revision <= at)
            .filter(|state| state.live)
            .map(|state| state.revision)
    }
}
