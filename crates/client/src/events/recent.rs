//! A map of what was used last: beyond its limit it forgets what was not used for longest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// As many entries as its limit.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    /// Keys by the time of their last use.
    order: BTreeMap<u64, K>,
    uses: u64,
    max: usize,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    pub(super) fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), uses: 0, max }
    }

    /// The entry of a key, made if there is none, which is now the last used.
    pub(super) fn entry(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        self.uses += 1;
        if let Some((used, _)) = self.entries.get(key) {
            self.order.remove(used);
        } else if self.entries.len() >= self.max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.order.insert(self.uses, key.clone());
        let entry = self.entries.entry(key.clone()).or_insert_with(|| (0, make()));
        entry.0 = self.uses;
        &mut entry.1
    }

    #[cfg(test)]
    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_is_forgotten() {
        let mut recent = Recent::new(3);
        for key in [1, 2, 3, 1, 4] {
            *recent.entry(&key, || 0) += 1;
        }
        let held: Vec<_> = (1..=4).map(|key| recent.get_mut(&key).copied()).collect();
        assert_eq!(held, [Some(2), None, Some(1), Some(1)]);
        assert_eq!((recent.entries.len(), recent.order.len()), (3, 3));
    }
}
