//! A kind's objects by storage key: in order for lists, hashed for what asks for one.
//!
//! Keys of one kind begin alike and lie all over the heap, so that finding one among 10,000 by
//! comparing costs a dozen cache misses. A hash finds it with two.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use super::CachedObject;

/// The objects; both sides hold the same ones.
#[derive(Default)]
pub(super) struct Objects {
    sorted: BTreeMap<Arc<str>, Arc<CachedObject>>,
    hashed: HashSet<ByKey>,
    /// Of their encodings.
    bytes: usize,
}

impl Objects {
    pub(super) fn get(&self, key: &str) -> Option<&Arc<CachedObject>> {
        self.hashed.get(key).map(|ByKey(object)| object)
    }

    /// Adds an object, or replaces the one with its key, which is returned.
    pub(super) fn insert(&mut self, object: Arc<CachedObject>) -> Option<Arc<CachedObject>> {
        self.hashed.replace(ByKey(object.clone()));
        self.bytes += object.bytes.len();
        let old = self.sorted.insert(object.key.clone(), object);
        self.bytes -= old.as_ref().map_or(0, |old| old.bytes.len());
        old
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<Arc<CachedObject>> {
        self.hashed.remove(key);
        let old = self.sorted.remove(key);
        self.bytes -= old.as_ref().map_or(0, |old| old.bytes.len());
        old
    }

    /// Bytes of all encodings.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// All, in the order of their keys.
    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<CachedObject>> {
        self.sorted.values()
    }

    /// Those whose key begins with `prefix` and comes after `after`, in order.
    pub(super) fn below<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<CachedObject>> {
        let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
        self.sorted
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, object)| object)
    }
}

impl FromIterator<Arc<CachedObject>> for Objects {
    fn from_iter<T: IntoIterator<Item = Arc<CachedObject>>>(all: T) -> Self {
        let mut objects = Self::default();
        for object in all {
            objects.insert(object);
        }
        objects
    }
}

/// An object that is its key, as far as a hash table can tell.
struct ByKey(Arc<CachedObject>);

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As `str` does it, which is what is asked with.
        (*self.0.key).hash(state);
    }
}

impl Borrow<str> for ByKey {
    fn borrow(&self) -> &str {
        &self.0.key
    }
}
