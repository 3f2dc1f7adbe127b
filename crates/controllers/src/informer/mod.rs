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
mod handlers;
pub(crate) mod index;
pub(crate) mod metadata;
mod trim;
mod watched;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
use self::handlers::Handlers;
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

/// A watch that is not running yet: register handlers, then [`Informer::run`] it.
pub(crate) struct Informer<K> {
    cache: Cache<K>,
    handlers: Handlers<K>,
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
            handlers: Handlers::default(),
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

    /// Calls `handler` for every change, in order. It must not block. If it panics for an object, it is
    /// called for that object again.
    pub(crate) fn on_change(&mut self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.handlers.add(handler);
    }

    /// Lists all objects every `period` instead of watching them. The shortest of several periods is used.
    pub(crate) fn list_every(&mut self, period: Duration) {
        self.listed_every = Some(self.listed_every.map_or(period, |known| known.min(period)));
    }
}

impl<K: Resource + Debug + 'static> Informer<K> {
    fn handle(&mut self, kind: &str, changes: &[Change<K>]) {
        self.changes.fetch_add(changes.len() as u64, Ordering::Relaxed);
        changes.iter().for_each(|change| self.handlers.call(kind, change));
    }

    /// Cuts an object. One that this panics for is kept as it is by then: it is larger, and it is there.
    fn trimmed(&mut self, kind: &str, mut object: K) -> (ObjectKey, Arc<K>) {
        let key = ObjectKey::of(&object);
        if catch_unwind(AssertUnwindSafe(|| (self.trim)(&mut object))).is_err() {
            tracing::error!(kind, object = %key, "trimming the object panicked: this is a bug");
        }
        (key, Arc::new(object))
    }

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
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.handlers.due() => {
                    self.handlers.retry(kind, &self.cache);
                    continue;
                }
            }
            match api.list(&ListParams::default().match_any()).await {
                Ok(listed) => {
                    let objects = listed.items.into_iter();
                    let objects = objects.map(|object| self.trimmed(kind, object)).collect();
                    let changes = self.cache.replace_all(objects);
                    self.handle(kind, &changes);
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
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = self.handlers.due() => {
                    self.handlers.retry(kind, &self.cache);
                    continue;
                }
            };
            let Some(event) = event else { break };
            let changes = match event {
                Ok(watcher::Event::Init) => {
                    listed.clear();
                    continue;
                }
                Ok(watcher::Event::InitApply(object)) => {
                    let (key, object) = self.trimmed(kind, object);
                    listed.insert(key, object);
                    continue;
                }
                Ok(watcher::Event::InitDone) => {
                    let changes = self.cache.replace_all(std::mem::take(&mut listed));
                    self.handle(kind, &changes);
                    self.cache.set_synced();
                    continue;
                }
                Ok(watcher::Event::Apply(object)) => {
                    let (key, object) = self.trimmed(kind, object);
                    self.cache.replace(key, Some(object))
                }
                Ok(watcher::Event::Delete(object)) => {
                    self.cache.replace(ObjectKey::of(&object), None)
                }
                Err(error) => {
                    log(kind, &error);
                    continue;
                }
            };
            self.handle(kind, &changes);
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

    /// The failing handler sees the object from what it saw last to what it is at the retry, once; the
    /// other handler and the other object are served meanwhile.
    #[tokio::test(start_paused = true)]
    async fn a_handler_that_panics_is_called_again_and_others_are_not_affected() {
        let version = |object: &Option<Arc<ConfigMap>>| {
            let version = object.as_ref().and_then(|it| it.metadata.resource_version.clone());
            version.unwrap_or("-".into())
        };
        let shown = move |change: &Change<ConfigMap>| {
            let name = change.latest().metadata.name.clone().unwrap_or_default();
            format!("{name} {}→{}", version(&change.old), version(&change.new))
        };
        let mut informer = Informer::<ConfigMap>::trimming(|object| {
            assert!(object.metadata.name.as_deref() != Some("b"), "a value of a user");
        });
        let log = || Arc::new(parking_lot::Mutex::new(Vec::new()));
        let (panics, fine) = (log(), log());
        let log = panics.clone();
        informer.on_change(move |change| {
            let mut log = log.lock();
            log.push(shown(change));
            let tries = log.iter().filter(|line| line.starts_with("a ")).count();
            assert!(
                tries > 3 || change.latest().metadata.name.as_deref() != Some("a"),
                "of a user"
            );
        });
        let log = fine.clone();
        informer.on_change(move |change| log.lock().push(shown(change)));
        let cache = informer.cache();
        let first = [
            Init,
            InitApply(object("a", "1", "1")),
            InitApply(object("b", "2", "2")),
            InitDone,
            Apply(object("a", "1", "3")),
        ];
        let later = futures::stream::once(async {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Apply(object("a", "1", "4"))
        });
        let events = futures::stream::iter(first).chain(later).map(Ok);
        informer.apply(events, "configmaps", CancellationToken::new()).await;
        assert_eq!(*panics.lock(), ["a -→1", "b -→2", "a -→3", "a -→3", "a -→3", "a 3→4"]);
        assert_eq!(*fine.lock(), ["a -→1", "b -→2", "a 1→3", "a 3→4"]);
        assert_eq!(cache.len(), 2);
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
