//! All objects of one kind, shared by the controllers of a process, and indices of them.
//!
//! An index finds the pods of a node without reading any other pod. Objects and indices change together under
//! one lock, so that a reader of several keys of an index does not miss an object that moves between them.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kube::Resource;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;

use super::Change;
use crate::key::ObjectKey;

/// A shared handle to all objects of a kind, as of some recent moment.
pub(crate) struct Cache<K>(Arc<Shared<K>>);

struct Shared<K> {
    store: RwLock<Store<K>>,
    synced: watch::Sender<bool>,
    /// Objects returned so far: the cost of reading this cache.
    visited: AtomicU64,
}

struct Store<K> {
    objects: BTreeMap<Arc<ObjectKey>, Arc<K>>,
    /// How many objects each namespace has.
    per_namespace: HashMap<String, usize>,
    indices: Vec<(TypeId, Box<dyn ErasedIndex<K>>)>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        let store =
            Store { objects: BTreeMap::new(), per_namespace: HashMap::new(), indices: Vec::new() };
        Self(Arc::new(Shared {
            store: RwLock::new(store),
            synced: watch::Sender::new(false),
            visited: AtomicU64::new(0),
        }))
    }
}

impl<K> fmt::Debug for Cache<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({} objects)", self.len())
    }
}

/// The key by which an index finds objects. The type identifies the index, which all its users share.
pub(crate) trait IndexBy<K>: 'static {
    /// The type of the key.
    type Key: Clone + Eq + Hash + Send + Sync + 'static;

    /// Calls `each` with every key of the object. It must depend on the object only.
    fn keys(object: &K, each: &mut dyn FnMut(Self::Key));
}

type Bucket<K> = BTreeMap<Arc<ObjectKey>, Arc<K>>;

struct Buckets<K, I: IndexBy<K>>(HashMap<I::Key, Bucket<K>>);

/// Calls `each` with every key that finds the object, or with those up to a panic: that is the object's alone.
fn keys_of<K, I: IndexBy<K>>(object: &K, mut each: impl FnMut(I::Key)) {
    if catch_unwind(AssertUnwindSafe(|| I::keys(object, &mut each))).is_err() {
        let index = std::any::type_name::<I>();
        tracing::error!(index, "an object cannot be indexed, its keys panicked: this is a bug");
    }
}

/// An index without the type of its key.
trait ErasedIndex<K>: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn put(&mut self, key: &Arc<ObjectKey>, object: &Arc<K>);
    fn take(&mut self, key: &Arc<ObjectKey>, object: &K);
    fn replace(&mut self, key: &Arc<ObjectKey>, old: &K, new: &Arc<K>);
}

impl<K: Send + Sync + 'static, I: IndexBy<K>> ErasedIndex<K> for Buckets<K, I> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn put(&mut self, key: &Arc<ObjectKey>, object: &Arc<K>) {
        keys_of::<K, I>(object, |by| {
            self.0.entry(by).or_default().insert(key.clone(), object.clone());
        });
    }

    fn take(&mut self, key: &Arc<ObjectKey>, object: &K) {
        keys_of::<K, I>(object, |by| {
            if let Some(bucket) = self.0.get_mut(&by) {
                bucket.remove(key);
                if bucket.is_empty() {
                    self.0.remove(&by);
                }
            }
        });
    }

    fn replace(&mut self, key: &Arc<ObjectKey>, old: &K, new: &Arc<K>) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        keys_of::<K, I>(old, |by| before.push(by));
        keys_of::<K, I>(new, |by| after.push(by));
        if before != after {
            self.take(key, old);
        }
        self.put(key, new);
    }
}

/// Finds objects of a cache by one of their properties.
pub(crate) struct Index<K, I> {
    cache: Cache<K>,
    at: usize,
    by: PhantomData<fn() -> I>,
}

impl<K, I> Clone for Index<K, I> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), at: self.at, by: PhantomData }
    }
}

impl<K: Send + Sync + 'static, I: IndexBy<K>> Index<K, I> {
    /// The objects with a key, in name order.
    pub(crate) fn get(&self, key: &I::Key) -> Vec<Arc<K>> {
        self.get_all(std::slice::from_ref(key))
    }

    /// The objects with any of these keys, as of one moment. An object with several of them is returned
    /// several times.
    pub(crate) fn get_all<'k>(&self, keys: impl IntoIterator<Item = &'k I::Key>) -> Vec<Arc<K>> {
        let found = self.read(|buckets| {
            let buckets = keys.into_iter().filter_map(|key| buckets.0.get(key));
            buckets.flat_map(BTreeMap::values).cloned().collect()
        });
        self.cache.visit(found)
    }

    /// The number of keys.
    #[cfg(test)]
    fn key_count(&self) -> usize {
        self.read(|buckets| buckets.0.len())
    }

    /// The number of objects with a key.
    pub(crate) fn count(&self, key: &I::Key) -> usize {
        self.read(|buckets| buckets.0.get(key).map_or(0, BTreeMap::len))
    }

    fn read<R>(&self, with: impl FnOnce(&Buckets<K, I>) -> R) -> R {
        let store = self.cache.read();
        let buckets = store.indices[self.at].1.as_any().downcast_ref();
        with(buckets.expect("the index is of this type"))
    }
}

impl<K> Cache<K> {
    /// The objects of one namespace, in name order.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let from = ObjectKey::new(namespace, "");
        let store = self.read();
        let range = store.objects.range::<ObjectKey, _>((Bound::Included(&from), Bound::Unbounded));
        let range = range.take_while(|(key, _)| key.namespace == namespace);
        let found = range.map(|(_, object)| object.clone()).collect();
        drop(store);
        self.visit(found)
    }

    /// One object.
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        let found = self.read().objects.get(key).cloned();
        self.0.visited.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Whether the object exists.
    pub(crate) fn contains(&self, key: &ObjectKey) -> bool {
        self.read().objects.contains_key(key)
    }

    /// The number of objects.
    pub(crate) fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// The number of objects in a namespace.
    pub(crate) fn count_in(&self, namespace: &str) -> usize {
        self.read().per_namespace.get(namespace).copied().unwrap_or_default()
    }

    /// The number of objects returned since the start.
    pub(crate) fn visited(&self) -> u64 {
        self.0.visited.load(Ordering::Relaxed)
    }

    /// Waits until all objects have been listed once.
    pub(crate) async fn synced(&self) {
        let mut synced = self.0.synced.subscribe();
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    fn visit(&self, found: Vec<Arc<K>>) -> Vec<Arc<K>> {
        self.0.visited.fetch_add(found.len() as u64, Ordering::Relaxed);
        found
    }

    fn read(&self) -> RwLockReadGuard<'_, Store<K>> {
        self.0.store.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Store<K>> {
        self.0.store.write()
    }
}

impl<K: Send + Sync + 'static> Cache<K> {
    /// The index of this type. It is built at its first use.
    pub(crate) fn index<I: IndexBy<K>>(&self) -> Index<K, I> {
        let mut store = self.write();
        let known = store.indices.iter().position(|(type_, _)| *type_ == TypeId::of::<I>());
        let at = known.unwrap_or_else(|| {
            let mut buckets = Buckets::<K, I>(HashMap::new());
            for (key, object) in &store.objects {
                buckets.put(key, object);
            }
            store.indices.push((TypeId::of::<I>(), Box::new(buckets)));
            store.indices.len() - 1
        });
        drop(store);
        Index { cache: self.clone(), at, by: PhantomData }
    }
}

impl<K: Resource> Cache<K> {
    /// Inserts an object, as the informer does, for tests of readers.
    #[cfg(test)]
    pub(crate) fn insert(&self, object: K) -> Vec<Change<K>> {
        self.replace(ObjectKey::of(&object), Some(Arc::new(object)))
    }

    /// Takes an object out where only a watch would.
    #[cfg(test)]
    pub(crate) fn remove(&self, key: &ObjectKey) -> Vec<Change<K>> {
        self.replace(key.clone(), None)
    }

    /// Replaces one object, or removes it.
    pub(super) fn replace(&self, key: ObjectKey, object: Option<Arc<K>>) -> Vec<Change<K>> {
        let old = match &object {
            Some(object) => self.write().put(Arc::new(key), object.clone()),
            None => self.write().take(&key),
        };
        changes(old, object)
    }

    /// Ends the waits for a first list. What is derived from changes must be complete by then, so handlers have
    /// seen them first.
    pub(super) fn set_synced(&self) {
        self.0.synced.send_replace(true);
    }

    /// Replaces all objects by a complete list. Unchanged objects are kept.
    pub(super) fn replace_all(&self, listed: BTreeMap<ObjectKey, Arc<K>>) -> Vec<Change<K>> {
        let mut all = Vec::new();
        let mut store = self.write();
        let deleted: Vec<_> =
            store.objects.keys().filter(|key| !listed.contains_key(&***key)).cloned().collect();
        for (key, new) in listed {
            let known = store.objects.get(&key).is_some_and(|old| is_same_version(&**old, &*new));
            if !known {
                let old = store.put(Arc::new(key), new.clone());
                all.extend(changes(old, Some(new)));
            }
        }
        for key in deleted {
            all.extend(changes(store.take(&key), None));
        }
        all
    }
}

impl<K> Store<K> {
    fn put(&mut self, key: Arc<ObjectKey>, object: Arc<K>) -> Option<Arc<K>> {
        let old = self.objects.insert(key.clone(), object.clone());
        if old.is_none() {
            match self.per_namespace.get_mut(&key.namespace) {
                Some(count) => *count += 1,
                None => drop(self.per_namespace.insert(key.namespace.clone(), 1)),
            }
        }
        for (_, index) in &mut self.indices {
            match &old {
                Some(old) => index.replace(&key, old, &object),
                None => index.put(&key, &object),
            }
        }
        old
    }

    fn take(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        let (key, old) = self.objects.remove_entry(key)?;
        if let Some(count) = self.per_namespace.get_mut(&key.namespace) {
            *count -= 1;
            if *count == 0 {
                self.per_namespace.remove(&key.namespace);
            }
        }
        for (_, index) in &mut self.indices {
            index.take(&key, &old);
        }
        Some(old)
    }
}

fn is_same_version<K: Resource>(one: &K, other: &K) -> bool {
    let (one, other) = (one.meta(), other.meta());
    one.uid == other.uid && one.resource_version == other.resource_version
}

/// A recreated object is a deletion and a creation.
pub(super) fn changes<K: Resource>(old: Option<Arc<K>>, new: Option<Arc<K>>) -> Vec<Change<K>> {
    match (old, new) {
        (None, None) => Vec::new(),
        (Some(old), Some(new)) if old.meta().uid != new.meta().uid => {
            vec![Change { old: Some(old), new: None }, Change { old: None, new: Some(new) }]
        }
        (old, new) => vec![Change { old, new }],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::Pod;

    struct ByNode;

    impl IndexBy<Pod> for ByNode {
        type Key = String;

        fn keys(pod: &Pod, each: &mut dyn FnMut(String)) {
            pod.node_name.iter().cloned().for_each(each);
        }
    }

    fn pod(name: &str, node: Option<&str>, version: &str) -> Pod {
        let meta =
            json!({ "namespace": "ns", "name": name, "uid": name, "resourceVersion": version });
        serde_json::from_value(json!({ "metadata": meta,
            "spec": { "nodeName": node, "containers": [] } }))
        .expect("a pod")
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect()
    }

    #[test]
    fn an_index_reflects_every_change_of_its_objects() {
        let cache = Cache::<Pod>::default();
        cache.insert(pod("before", Some("a"), "1"));
        let by_node = cache.index::<ByNode>();
        let on = |node: &str| by_node.get(&node.to_owned());
        assert_eq!(names(&on("a")), ["before"], "existing objects are indexed");
        cache.insert(pod("x", None, "2"));
        assert_eq!(on("a").len(), 1);
        cache.insert(pod("x", Some("a"), "3"));
        assert_eq!(names(&on("a")), ["before", "x"]);
        cache.insert(pod("x", Some("b"), "4"));
        assert_eq!(names(&on("a")), ["before"]);
        assert_eq!(names(&on("b")), ["x"]);
        cache.replace(ObjectKey::new("ns", "before"), None);
        assert_eq!(by_node.key_count(), 1, "an empty bucket is removed");
        let listed = [pod("x", Some("c"), "5"), pod("y", Some("c"), "6")];
        cache.replace_all(
            listed.into_iter().map(|pod| (ObjectKey::of(&pod), Arc::new(pod))).collect(),
        );
        assert_eq!(names(&on("c")), ["x", "y"]);
        assert_eq!(by_node.count(&"c".to_owned()), 2);
        assert_eq!((cache.count_in("ns"), cache.count_in("n"), cache.len()), (2, 0, 2));
        cache.replace(ObjectKey::new("ns", "x"), None);
        cache.replace(ObjectKey::new("ns", "y"), None);
        assert_eq!((cache.count_in("ns"), by_node.key_count()), (0, 0));
    }

    #[test]
    fn an_index_is_built_once_and_shared() {
        let cache = Cache::<Pod>::default();
        let (one, other) = (cache.index::<ByNode>(), cache.index::<ByNode>());
        assert_eq!(one.at, other.at);
    }

    struct Panics;

    impl IndexBy<Pod> for Panics {
        type Key = &'static str;

        fn keys(pod: &Pod, each: &mut dyn FnMut(&'static str)) {
            each("first");
            assert!(pod.node_name.is_some(), "a value of a user");
            each("second");
        }
    }

    #[test]
    fn an_object_whose_keys_panic_is_there_and_others_are_indexed() {
        let cache = Cache::<Pod>::default();
        let index = cache.index::<Panics>();
        cache.insert(pod("bad", None, "1"));
        cache.insert(pod("good", Some("n"), "2"));
        assert_eq!(names(&index.get(&"second")), ["good"]);
        assert_eq!((cache.len(), index.count(&"first")), (2, 2));
        cache.insert(pod("bad", None, "3"));
        cache.replace(ObjectKey::new("ns", "bad"), None);
        assert_eq!((cache.len(), index.count(&"first")), (1, 1));
    }

    #[test]
    fn a_lookup_visits_only_the_objects_it_returns() {
        let cache = Cache::<Pod>::default();
        let by_node = cache.index::<ByNode>();
        for at in 0..1000 {
            cache.insert(pod(&format!("p{at}"), Some(&format!("n{}", at % 100)), "1"));
        }
        let before = cache.visited();
        assert_eq!(by_node.get(&"n7".to_owned()).len(), 10);
        assert_eq!(cache.visited() - before, 10);
    }
}
