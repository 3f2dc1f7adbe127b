//! The objects of a kind that admission needs at every create, parsed once per revision.
//!
//! The cache shows each write here before its revision counts as applied: what is here is as fresh as a read
//! that settles. An object that cannot be parsed stays here without its content, so that a step that needs
//! it can refuse.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coffer_api::kinds::Served;
use parking_lot::RwLock;

use crate::cache::{CacheEvent, CachedObject, Facts, Observer};
use crate::object::Resources;

/// Objects by name; `None` for one that cannot be parsed.
pub(super) type Named<T> = BTreeMap<String, Option<Arc<T>>>;

/// From an object's bytes to what a step keeps of it; `None` where they cannot be parsed.
type Parse<T> = Box<dyn Fn(&[u8]) -> Option<T> + Send + Sync>;

/// The objects of one kind, or what a step keeps of each.
pub(super) struct Parsed<T> {
    parse: Parse<T>,
    /// By namespace, which is empty for kinds of the cluster.
    namespaces: RwLock<HashMap<String, Arc<Named<T>>>>,
}

impl<T: Send + Sync + 'static> Parsed<T> {
    /// Follows a kind. `keep` makes of an object what is kept of it; `None` where its content is invalid.
    pub(super) fn of_kind<K: Served>(resources: &Resources, keep: fn(K) -> Option<T>) -> Arc<Self> {
        let parse = move |bytes: &[u8]| serde_json::from_slice::<K>(bytes).ok().and_then(keep);
        let parsed = Arc::new(Self { parse: Box::new(parse), namespaces: RwLock::default() });
        resources.of::<K>().shard().observe(parsed.clone());
        parsed
    }

    /// The objects of a namespace, or of the cluster with an empty one.
    pub(super) fn of(&self, namespace: &str) -> Arc<Named<T>> {
        self.namespaces.read().get(namespace).cloned().unwrap_or_default()
    }

    fn parse(&self, object: &CachedObject) -> Option<Arc<T>> {
        let parsed = (self.parse)(&object.bytes);
        if parsed.is_none() {
            tracing::error!(
                key = &*object.key,
                "cannot decode the object; writes that depend on it are refused"
            );
        }
        parsed.map(Arc::new)
    }
}

impl<T: Send + Sync + 'static> Observer for Parsed<T> {
    fn reset(&self, objects: &mut dyn Iterator<Item = (&CachedObject, Option<&Facts>)>) {
        let mut namespaces: HashMap<String, Named<T>> = HashMap::new();
        for (object, _) in objects {
            let named = namespaces.entry(object.namespace.clone()).or_default();
            named.insert(object.name.clone(), self.parse(object));
        }
        let shared = namespaces.into_iter().map(|(namespace, named)| (namespace, Arc::new(named)));
        *self.namespaces.write() = shared.collect();
    }

    fn changed(&self, _: &CacheEvent, _: Option<&Facts>) {}

    fn applied(&self, event: &CacheEvent) {
        let parsed = event.new.as_deref().map(|object| self.parse(object));
        let object = event.subject();
        let mut namespaces = self.namespaces.write();
        let shared = namespaces.entry(object.namespace.clone()).or_default();
        let named = Arc::make_mut(shared);
        match parsed {
            Some(parsed) => named.insert(object.name.clone(), parsed),
            None => named.remove(&object.name),
        };
        if named.is_empty() {
            namespaces.remove(&object.namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use coffer_api::kinds::RuntimeClass;
    use coffer_store::embedded::{Embedded, Options};
    use coffer_store::{Store, Value};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cache::Cache;

    /// Objects that exist when the server starts, and later ones; in both cases also one whose content is
    /// invalid.
    #[tokio::test]
    async fn objects_are_parsed_at_the_start_and_at_each_write_and_unreadable_ones_have_no_content()
    {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Embedded::open(&dir.path().join("db"), Options::default());
        let store: Arc<dyn Store> = Arc::new(store.expect("a store"));
        let class = |name: &str, handler: &str| {
            let json = format!(r#"{{"metadata":{{"name":"{name}"}},"handler":{handler}}}"#);
            Value::new(json.into_bytes())
        };
        let key = |name: &str| format!("/registry/runtimeclasses/{name}");
        let first = store.create(&key("a"), class("a", "\"runsc\"")).await.expect("stored");
        let second = store.create(&key("b"), class("b", "\"bad\"")).await.expect("stored");
        let resources = Resources::all();
        let cache = Cache::load(store.clone(), resources.sources()).await.expect("loaded");
        let cache = Arc::new(cache);
        resources.attach(&cache);
        let keep = |class: RuntimeClass| Some(class.handler).filter(|handler| handler != "bad");
        let parsed = Parsed::of_kind(&resources, keep);
        let shutdown = CancellationToken::new();
        let follow = {
            let (cache, stop) = (cache.clone(), shutdown.clone());
            async move { cache.follow(stop).await }
        };
        let follow = tokio::spawn(follow);
        let found = |name: &str| parsed.of("").get(name).cloned();
        let handler = |text: &str| Some(Some(Arc::new(text.to_owned())));
        assert_eq!((found("a"), found("b"), found("c")), (handler("runsc"), Some(None), None));
        store.create(&key("c"), class("c", "\"kata\"")).await.expect("stored");
        store.update(&key("a"), class("a", "\"bad\""), first).await.expect("stored");
        store.delete(&key("b"), second).await.expect("deleted");
        cache.fresh().await.expect("the cache follows");
        assert_eq!((found("a"), found("b"), found("c")), (Some(None), None, handler("kata")));
        shutdown.cancel();
        follow.await.expect("no panic");
    }
}
