//! One watch per kind and process, with a cache that all controllers of the process share.
//!
//! An [`Informer`] watches a kind with a type in this program ([`Watched`]), or, for [`crate::inventory`],
//! the metadata of a kind that discovery finds at run time. It turns kube's watch stream into [`Change`]s
//! with the object before and after, also across a relist, where kube's own reflector only replaces all
//! objects. Handlers run in the informer's task after the cache is updated; they add keys to queues and must
//! not wait. Data flow: API server → watcher → cache → handlers.
//!
//! A kind whose objects change all the time, such as nodes' Leases, is listed every few seconds instead
//! ([`Informer::list_every`]): one response with all objects costs much less than an event per change,
//! because the process wakes up and decrypts once. Handlers get the same changes up to one period later, and
//! only the last of several between two lists.

pub(crate) mod cache;
pub(crate) mod index;
pub(crate) mod metadata;
mod trim;
mod watched;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub(crate) use self::cache::{Cache, Index, IndexBy};
pub(crate) use self::watched::Watched;
use crate::key::ObjectKey;

/// A change of one object. At least one side is present. A recreated object is reported as two changes, so
/// that both sides have the same uid.
#[derive(Debug)]
pub(crate) struct Change<K> {
    /// The object before, unless it is new.
    pub(crate) old: Option<Arc<K>>,
    /// The object now, unless it was deleted.
    pub(crate) new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The newest state known.
    pub(crate) fn latest(&self) -> &Arc<K> {
        self.new.as_ref().or(self.old.as_ref()).expect("a change has at least one side")
    }

    /// Whether the object was deleted.
    pub(crate) fn is_delete(&self) -> bool {
        self.new.is_none()
    }
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// A watch that is not running yet: register handlers, then [`Informer::run`] it.
pub(crate) struct Informer<K> {
    cache: Cache<K>,
    handlers: Vec<Handler<K>>,
    trim: Box<dyn FnMut(&mut K) + Send>,
    /// How often all objects are listed, where they are not watched.
    listed_every: Option<Duration>,
    changes: Arc<AtomicU64>,
}

impl<K> Informer<K> {
    /// An informer that removes from each object what no controller reads.
    pub(crate) fn trimming(trim: impl FnMut(&mut K) + Send + 'static) -> Self {
        Self {
            cache: Cache::default(),
            handlers: Vec::new(),
            trim: Box::new(trim),
            listed_every: None,
            changes: Arc::default(),
        }
    }

    /// The cache that this informer fills.
    pub(crate) fn cache(&self) -> Cache<K> {
        self.cache.clone()
    }

    /// The number of changes since the start.
    pub(crate) fn changes(&self) -> Arc<AtomicU64> {
        self.changes.clone()
    }

    /// Calls `handler` for every change, in order. It must not block.
    pub(crate) fn on_change(&mut self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.handlers.push(Box::new(handler));
    }

    /// Lists all objects every `period` instead of watching them. The shortest of several periods is used.
    pub(crate) fn list_every(&mut self, period: Duration) {
        self.listed_every = Some(self.listed_every.map_or(period, |known| known.min(period)));
    }

    fn handle(&self, changes: &[Change<K>]) {
        self.changes.fetch_add(changes.len() as u64, Ordering::Relaxed);
        for change in changes {
            self.handlers.iter().for_each(|handler| handler(change));
        }
    }
}

impl<K: Resource + Debug + 'static> Informer<K> {
    /// Watches or lists `api` until `shutdown`. Errors are logged and retried: those of a watch with
    /// back-off, those of a list after the period.
    pub(crate) async fn run(
        mut self,
        api: Api<K>,
        config: watcher::Config,
        shutdown: CancellationToken,
    ) where
        K: Clone + DeserializeOwned + Send + Sync,
        K::DynamicType: Clone,
    {
        let kind = api.resource_url().to_owned();
        match self.listed_every {
            Some(period) => {
                shutdown.run_until_cancelled(self.list_periodically(&api, &kind, period)).await;
            }
            None => {
                let events = watcher::watcher(api, config).default_backoff();
                self.apply(events, &kind, shutdown).await;
            }
        }
    }

    /// Lists from the server's cache every `period`.
    async fn list_periodically(&mut self, api: &Api<K>, kind: &str, period: Duration)
    where
        K: Clone + DeserializeOwned,
    {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match api.list(&ListParams::default().match_any()).await {
                Ok(listed) => {
                    let objects = listed.items.into_iter().map(|mut object| {
                        (self.trim)(&mut object);
                        (ObjectKey::of(&object), Arc::new(object))
                    });
                    let objects = objects.collect();
                    self.handle(&self.cache.replace_all(objects));
                    self.cache.set_synced();
                }
                Err(error) => {
                    let error = crate::error::shown(&error);
                    tracing::warn!(kind, %error, "list failed, will retry");
                }
            }
        }
    }

    async fn apply(
        mut self,
        events: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
        kind: &str,
        shutdown: CancellationToken,
    ) {
        let mut events = pin!(events.take_until(shutdown.cancelled_owned()));
        let mut listed = BTreeMap::new();
        while let Some(event) = events.next().await {
            let changes = match event {
                Ok(watcher::Event::Init) => {
                    listed.clear();
                    continue;
                }
                Ok(watcher::Event::InitApply(mut object)) => {
                    (self.trim)(&mut object);
                    listed.insert(ObjectKey::of(&object), Arc::new(object));
                    continue;
                }
                Ok(watcher::Event::InitDone) => {
                    self.handle(&self.cache.replace_all(std::mem::take(&mut listed)));
                    self.cache.set_synced();
                    continue;
                }
                Ok(watcher::Event::Apply(mut object)) => {
                    (self.trim)(&mut object);
                    self.cache.replace(ObjectKey::of(&object), Some(Arc::new(object)))
                }
                Ok(watcher::Event::Delete(object)) => {
                    self.cache.replace(ObjectKey::of(&object), None)
                }
                Err(error) => {
                    log(kind, &error);
                    continue;
                }
            };
            self.handle(&changes);
        }
    }
}

fn log(kind: &str, error: &watcher::Error) {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => {
            tracing::warn!(kind, error = %crate::error::shown(error), "watch failed, will retry");
        }
        watcher::Error::WatchError(status) if status.code == 410 => {
            tracing::debug!(kind, "resourceVersion of the watch expired, listing again");
        }
        watcher::Error::WatchError(status) => {
            tracing::warn!(kind, code = status.code, reason = status.reason, "watch ended");
        }
        watcher::Error::NoResourceVersion => {
            tracing::warn!(kind, "a watch event has no resourceVersion");
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use parking_lot::Mutex;

    use super::*;

    fn object(name: &str, uid: &str, version: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some("ns".into());
        object.metadata.name = Some(name.into());
        object.metadata.uid = Some(uid.into());
        object.metadata.resource_version = Some(version.into());
        object
    }

    /// Runs events through an informer; returns what its handler saw as `name old→new`.
    async fn seen(events: Vec<watcher::Event<ConfigMap>>) -> (Vec<String>, Cache<ConfigMap>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut informer = Informer::<ConfigMap>::trimming(|_| {});
        let log = seen.clone();
        informer.on_change(move |change: &Change<ConfigMap>| {
            let side = |side: &Option<Arc<ConfigMap>>| {
                let version =
                    side.as_ref().and_then(|object| object.metadata.resource_version.clone());
                version.unwrap_or("-".into())
            };
            let name = change.latest().metadata.name.clone().unwrap_or_default();
            log.lock().push(format!("{name} {}→{}", side(&change.old), side(&change.new)));
        });
        let cache = informer.cache();
        let events = futures::stream::iter(events.into_iter().map(Ok));
        informer.apply(events, "configmaps", CancellationToken::new()).await;
        let seen = seen.lock().clone();
        (seen, cache)
    }

    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};

    #[tokio::test]
    async fn a_relist_reports_only_differences() {
        let (seen, cache) = seen(vec![
            Init,
            InitApply(object("a", "1", "1")),
            InitApply(object("b", "2", "2")),
            InitApply(object("c", "3", "3")),
            InitDone,
            Apply(object("a", "1", "4")),
            // The watch failed. Meanwhile b was changed, c deleted and d created; a is unchanged.
            Init,
            InitApply(object("a", "1", "4")),
            InitApply(object("b", "2", "5")),
            InitApply(object("d", "4", "7")),
            InitDone,
        ])
        .await;
        assert_eq!(seen, ["a -→1", "b -→2", "c -→3", "a 1→4", "b 2→5", "d -→7", "c 3→-"]);
        assert_eq!(cache.in_namespace("ns").len(), 3);
        assert_eq!(cache.in_namespace("n").len(), 0);
    }

    /// A scheduler that began to place pods before all others were counted put too many on a node.
    #[tokio::test]
    async fn a_cache_is_synced_after_handlers_have_seen_the_whole_first_list() {
        let mut informer = Informer::<ConfigMap>::trimming(|_| {});
        let (cache, synced) = (informer.cache(), Arc::new(Mutex::new(Vec::new())));
        let log = synced.clone();
        let seen = cache.clone();
        informer.on_change(move |_: &Change<ConfigMap>| {
            log.lock().push(futures::FutureExt::now_or_never(seen.synced()).is_some());
        });
        let list = [InitApply(object("a", "1", "1")), InitApply(object("b", "2", "2")), InitDone];
        let events = futures::stream::iter([Init].into_iter().chain(list).map(Ok));
        informer.apply(events, "configmaps", CancellationToken::new()).await;
        assert_eq!(*synced.lock(), [false, false]);
        cache.synced().await;
    }

    #[tokio::test]
    async fn a_recreated_object_is_reported_as_a_deletion_and_a_creation() {
        let (seen, _) = seen(vec![
            Init,
            InitApply(object("a", "1", "1")),
            InitDone,
            Apply(object("a", "2", "3")),
            Delete(object("a", "2", "4")),
        ])
        .await;
        assert_eq!(seen, ["a -→1", "a 1→-", "a -→3", "a 3→-"]);
    }

    /// Five hundred leases that are renewed each second cost one response per period. Handlers get renewals
    /// and deletions, and nothing of unchanged objects.
    #[tokio::test(start_paused = true)]
    async fn a_listed_kind_is_not_watched_and_reports_differences() {
        let served = Arc::new(Mutex::new(vec![object("a", "1", "1"), object("b", "2", "2")]));
        let items = served.clone();
        let server = crate::testing::Api::responding(move |_| {
            let items = items.lock();
            Some(serde_json::json!({ "apiVersion": "v1", "kind": "ConfigMapList",
                "metadata": { "resourceVersion": "9" }, "items": *items }))
        });
        let mut informer = Informer::<ConfigMap>::trimming(|_| {});
        informer.list_every(Duration::from_secs(60));
        informer.list_every(Duration::from_secs(5));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        informer.on_change(move |change: &Change<ConfigMap>| {
            let name = change.latest().metadata.name.clone().unwrap_or_default();
            log.lock().push((name, change.is_delete()));
        });
        let cache = informer.cache();
        let stop = CancellationToken::new();
        let api = Api::all(server.client());
        let running = tokio::spawn(informer.run(api, watcher::Config::default(), stop.clone()));
        cache.synced().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let taken = || std::mem::take(&mut *seen.lock());
        assert_eq!(taken(), [("a".to_owned(), false), ("b".to_owned(), false)]);
        *served.lock() = vec![object("a", "1", "7")];
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(taken(), [("a".to_owned(), false), ("b".to_owned(), true)]);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(taken(), []);
        assert_eq!(server.lines(), ["GET /api/v1/configmaps"; 4]);
        stop.cancel();
        running.await.expect("ends at shutdown");
    }

    #[tokio::test]
    async fn an_incomplete_list_does_not_change_the_cache() {
        let (seen, cache) = seen(vec![
            Init,
            InitApply(object("a", "1", "1")),
            InitDone,
            Init,
            InitApply(object("b", "2", "2")),
            Init,
        ])
        .await;
        assert_eq!(seen, ["a -→1"]);
        assert!(cache.get(&ObjectKey::new("ns", "a")).is_some());
    }
}
