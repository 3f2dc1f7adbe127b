//! How large the largest objects of a namespace are that a small write may be judged by.
//!
//! A pod's account and owner are read whole when it is made, and which ones they are is known only once its body
//! is decoded. So that a request of a few hundred bytes does not take a thread that serves others for as long
//! as it takes to read a megabyte, it weighs as much as the largest that it may name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coffer_api::kinds::ServiceAccount;
use parking_lot::RwLock;

use crate::cache::{CacheEvent, CachedObject, Facts, Observer};
use crate::object::{Resource, Resources};

/// Smaller objects weigh nothing.
const BYTES_MIN: usize = 8 * 1024;

/// The large objects of one kind, by namespace: how many have how many bytes.
#[derive(Default)]
pub(super) struct Heaviest(RwLock<HashMap<String, BTreeMap<usize, usize>>>);

impl Heaviest {
    /// Follows what pods and templates of pods are judged by: accounts, and each kind that may own them.
    pub(super) fn of_judged(resources: &Resources) -> Vec<Arc<Self>> {
        let judged = resources.iter().filter(|it| it.has_template || it.is::<ServiceAccount>());
        let follow = |resource: &Arc<Resource>| {
            let heaviest = Arc::<Self>::default();
            resource.shard().observe(heaviest.clone());
            heaviest
        };
        judged.map(follow).collect()
    }

    /// Bytes of the largest object of a namespace.
    pub(super) fn bytes(&self, namespace: &str) -> usize {
        let namespaces = self.0.read();
        let largest = namespaces.get(namespace).and_then(BTreeMap::last_key_value);
        largest.map_or(0, |(bytes, _)| *bytes)
    }
}

fn count(namespaces: &mut HashMap<String, BTreeMap<usize, usize>>, object: &CachedObject) {
    if object.bytes.len() >= BYTES_MIN {
        let sizes = namespaces.entry(object.namespace.clone()).or_default();
        *sizes.entry(object.bytes.len()).or_default() += 1;
    }
}

fn uncount(namespaces: &mut HashMap<String, BTreeMap<usize, usize>>, object: &CachedObject) {
    let Some(sizes) = namespaces.get_mut(&object.namespace) else { return };
    if let Some(count) = sizes.get_mut(&object.bytes.len()) {
        *count -= 1;
        if *count == 0 {
            sizes.remove(&object.bytes.len());
        }
    }
    if sizes.is_empty() {
        namespaces.remove(&object.namespace);
    }
}

impl Observer for Heaviest {
    fn reset(&self, objects: &mut dyn Iterator<Item = (&CachedObject, Option<&Facts>)>) {
        let mut namespaces = HashMap::new();
        objects.for_each(|(object, _)| count(&mut namespaces, object));
        *self.0.write() = namespaces;
    }

    fn changed(&self, event: &CacheEvent, _: Option<&Facts>) {
        let is_large = |object: &Arc<CachedObject>| object.bytes.len() >= BYTES_MIN;
        if !event.old.iter().chain(&event.new).any(is_large) {
            return;
        }
        let mut namespaces = self.0.write();
        event.old.iter().for_each(|old| uncount(&mut namespaces, old));
        event.new.iter().for_each(|new| count(&mut namespaces, new));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(namespace: &str, bytes: usize) -> Arc<CachedObject> {
        Arc::new(CachedObject {
            key: "/registry/serviceaccounts/n/a".into(),
            revision: 1,
            bytes: vec![b' '; bytes].into(),
            namespace: namespace.to_owned(),
            name: "a".to_owned(),
            labels: BTreeMap::new(),
            fields: Vec::new(),
            is_decoded: true,
        })
    }

    #[test]
    fn the_largest_object_of_a_namespace_is_known_after_any_change() {
        let heaviest = Heaviest::default();
        let (small, large, larger) = (object("n", 100), object("n", 20_000), object("n", 90_000));
        let change = |old: Option<&Arc<CachedObject>>, new: Option<&Arc<CachedObject>>| {
            let event = CacheEvent { revision: 2, old: old.cloned(), new: new.cloned() };
            heaviest.changed(&event, None);
            (heaviest.bytes("n"), heaviest.bytes("m"))
        };
        assert_eq!(change(None, Some(&small)), (0, 0));
        assert_eq!(change(None, Some(&large)), (20_000, 0));
        assert_eq!(change(None, Some(&large)), (20_000, 0));
        assert_eq!(change(Some(&small), Some(&larger)), (90_000, 0));
        assert_eq!(change(Some(&larger), None), (20_000, 0));
        assert_eq!(change(Some(&large), None), (20_000, 0), "there is another one");
        assert_eq!(change(Some(&large), Some(&small)), (0, 0));
        assert!(heaviest.0.read().is_empty());
        let all = [object("n", 9_000), object("m", 70_000)];
        heaviest.reset(&mut all.iter().map(|object| (&**object, None)));
        assert_eq!((heaviest.bytes("n"), heaviest.bytes("m")), (9_000, 70_000));
    }
}
