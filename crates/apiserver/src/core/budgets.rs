//! Disruption budgets as evictions look at them: what of each judges a pod, read once for each of its revisions,
//! when first an eviction asks.
//!
//! A user who may evict may usually write budgets, too, as large as objects can be. Reading one is heavy work of
//! the eviction that first needs it ([`Budgets::bytes_to_ask`]), not of the cache.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coffer_api::kinds::pod_disruption_budget::ALWAYS_ALLOW;
use coffer_api::selector::LabelSelector;
use coffer_store::Revision;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Structured;
use parking_lot::Mutex;

use crate::cache::{CacheEvent, CachedObject, Facts, Observer, Scope};
use crate::object::{Resource, Resources};

type Labels = BTreeMap<String, String>;

/// What of a budget judges an eviction.
#[derive(Debug)]
pub(super) struct Budget {
    /// Without one no pod is selected.
    selector: Option<LabelSelector>,
    /// Of keys and values of the selector.
    selector_bytes: usize,
    /// Whether pods that are not ready may always go.
    pub(super) always_allows_unready: bool,
    pub(super) current_healthy: i32,
    pub(super) desired_healthy: i32,
}

impl Budget {
    /// `None` for a selector that validation would have refused: what the budget guards is not known.
    pub(super) fn of(budget: PodDisruptionBudget) -> Option<Self> {
        let spec = budget.spec.unwrap_or_default();
        let status = budget.status.unwrap_or_default();
        let selector = spec.selector.as_ref();
        Some(Self {
            selector: selector.map(LabelSelector::of_structured).transpose().ok()?,
            selector_bytes: selector.map_or(0, bytes),
            always_allows_unready: spec.unhealthy_pod_eviction_policy.as_deref()
                == Some(ALWAYS_ALLOW),
            current_healthy: status.current_healthy,
            desired_healthy: status.desired_healthy,
        })
    }

    /// Whether the budget's selector selects what has these labels. Without one it selects nothing; an empty
    /// one selects all.
    pub(super) fn selects(&self, labels: &Labels) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }
}

fn bytes(selector: &Structured) -> usize {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| key.len() + value.len());
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let values = expression.values.iter().flatten().map(String::len);
        expression.key.len() + expression.operator.len() + values.sum::<usize>()
    });
    labels.chain(expressions).sum()
}

/// What was read of a budget at a revision.
type Read = (Revision, Option<Arc<Budget>>);

/// The budgets of all namespaces, as far as evictions have asked for them.
pub(super) struct Budgets {
    resource: Arc<Resource>,
    /// By key, with the revision that was read; `None` for one that cannot be.
    read: Mutex<HashMap<Arc<str>, Read>>,
    #[cfg(test)]
    reads: std::sync::atomic::AtomicUsize,
}

impl Budgets {
    /// Forgets each budget when it changes.
    pub(super) fn following(resources: &Resources) -> Arc<Self> {
        let resource = resources.of::<PodDisruptionBudget>().clone();
        let budgets = Arc::new(Self {
            resource,
            read: Mutex::default(),
            #[cfg(test)]
            reads: Default::default(),
        });
        budgets.resource.shard().observe(budgets.clone());
        budgets
    }

    /// The budgets' kind.
    pub(super) fn resource(&self) -> &Resource {
        &self.resource
    }

    fn stored(&self, namespace: &str) -> Vec<Arc<CachedObject>> {
        let scope = Scope::Namespace(namespace.to_owned());
        self.resource.shard().list(&self.resource.collection(namespace), &scope).0
    }

    /// The budgets of a namespace as they are now, with what is read of each; `None` for one that cannot be.
    pub(super) fn of(&self, namespace: &str) -> Vec<(Arc<CachedObject>, Option<Arc<Budget>>)> {
        let stored = self.stored(namespace).into_iter();
        let read = |object: Arc<CachedObject>| {
            let budget = self.read(&object);
            (object, budget)
        };
        stored.map(read).collect()
    }

    /// How many bytes it takes to ask the budgets of a namespace about what has these labels: of those that are
    /// not read yet, of the selectors of the others, and, if all that is not more than `enough` anyway, of
    /// those that select it and are written.
    pub(super) fn bytes_to_ask(&self, namespace: &str, labels: &Labels, enough: usize) -> usize {
        let stored = self.stored(namespace);
        let known: Vec<Option<Arc<Budget>>> = {
            let read = self.read.lock();
            let known = |object: &Arc<CachedObject>| match read.get(&object.key) {
                Some((revision, budget)) if *revision == object.revision => budget.clone(),
                _ => None,
            };
            stored.iter().map(known).collect()
        };
        let both = || stored.iter().zip(&known);
        let to_read = both().map(|(object, budget)| match budget {
            Some(budget) => budget.selector_bytes,
            None => object.bytes.len(),
        });
        let to_read: usize = to_read.sum();
        if to_read > enough {
            return to_read;
        }
        let selecting = both().filter_map(|(object, budget)| {
            budget.as_ref()?.selects(labels).then_some(object.bytes.len())
        });
        to_read + selecting.sum::<usize>()
    }

    fn read(&self, object: &CachedObject) -> Option<Arc<Budget>> {
        if let Some((revision, budget)) = self.read.lock().get(&object.key)
            && *revision == object.revision
        {
            return budget.clone();
        }
        #[cfg(test)]
        self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let budget = serde_json::from_slice(&object.bytes).ok().and_then(Budget::of).map(Arc::new);
        self.read.lock().insert(object.key.clone(), (object.revision, budget.clone()));
        // Not under the lock, which is taken under the shard's. What changes from here on is forgotten then.
        let now = self.resource.shard().get(&object.key);
        if now.is_none_or(|now| now.revision != object.revision) {
            self.read.lock().remove(&object.key);
        }
        budget
    }
}

impl Observer for Budgets {
    fn reset(&self, _: &mut dyn Iterator<Item = (&CachedObject, Option<&Facts>)>) {
        self.read.lock().clear();
    }

    fn changed(&self, _: &CacheEvent, _: Option<&Facts>) {}

    fn applied(&self, event: &CacheEvent) {
        self.read.lock().remove(&event.subject().key);
    }
}

#[cfg(test)]
mod tests {
    use coffer_store::embedded::{Embedded, Options};
    use coffer_store::{Store, Value};
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cache::Cache;

    fn encoded(name: &str, operator: &str) -> Value {
        let budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": { "name": name, "namespace": "n" },
            "spec": { "selector": { "matchExpressions": [
                { "key": "app", "operator": operator, "values": ["web"] }] } },
        });
        let budget: PodDisruptionBudget = serde_json::from_value(budget).expect("a budget");
        Value::new(crate::object::Object::encode(&budget).to_vec())
    }

    #[tokio::test]
    async fn a_budget_is_read_once_for_each_of_its_revisions_and_forgotten_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Embedded::open(&dir.path().join("db"), Options::default());
        let store: Arc<dyn Store> = Arc::new(store.expect("a store"));
        let resources = Resources::all();
        let cache = Cache::load(store.clone(), resources.sources()).await.expect("loaded");
        let cache = Arc::new(cache);
        resources.attach(&cache);
        let budgets = Budgets::following(&resources);
        let shutdown = CancellationToken::new();
        let follow = {
            let (cache, stop) = (cache.clone(), shutdown.clone());
            async move { cache.follow(stop).await }
        };
        let follow = tokio::spawn(follow);
        let key = |name: &str| format!("/registry/poddisruptionbudgets/n/{name}");
        let first = store.create(&key("a"), encoded("a", "In")).await.expect("stored");
        store.create(&key("b"), encoded("b", "Odd")).await.expect("stored");
        cache.fresh().await.expect("the cache follows");
        let web: Labels = [("app".to_owned(), "web".to_owned())].into();
        let selecting = || -> Vec<Option<bool>> {
            let all = budgets.of("n").into_iter();
            all.map(|(_, budget)| budget.map(|budget| budget.selects(&web))).collect()
        };
        let reads = || budgets.reads.load(std::sync::atomic::Ordering::Relaxed);
        let unread = budgets.bytes_to_ask("n", &web, usize::MAX);
        for _ in 0..3 {
            assert_eq!(selecting(), [Some(true), None], "one cannot be read");
        }
        assert_eq!(reads(), 2);
        assert_eq!(budgets.bytes_to_ask("m", &web, usize::MAX), 0, "others are not asked");
        let second = store.update(&key("a"), encoded("a", "NotIn"), first).await.expect("stored");
        cache.fresh().await.expect("the cache follows");
        assert_eq!(selecting(), [Some(false), None]);
        assert_eq!(reads(), 3);
        let selectors = budgets.bytes_to_ask("n", &web, usize::MAX);
        assert!(selectors < unread, "what is read weighs as much as its selector");
        store.delete(&key("a"), second).await.expect("deleted");
        cache.fresh().await.expect("the cache follows");
        assert_eq!(selecting(), [None]);
        assert!(!budgets.read.lock().contains_key(&*key("a")));
        shutdown.cancel();
        follow.await.expect("no panic");
    }
}
