//! One watch per kind and process, with a cache that all controllers of the process share.
//!
//! An [`Informer`] watches a kind that this program knows by its type ([`Watched`]), or, for
//! [`crate::inventory`], the metadata of one that it learns of at run time. It turns kube's watch stream into [`Change`]s that carry the object before and
//! after, also across a relist, where kube's own reflector only replaces everything. Handlers run
//! in the informer's task, after the cache holds the change; they put keys into queues and must not
//! wait. Data flows: API server → watcher → cache → handlers.

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

use futures::{Stream, StreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

pub(crate) use self::cache::{Cache, Index, IndexBy};
pub(crate) use self::watched::Watched;
use crate::key::ObjectKey;

/// What happened to one object. At least one side is there. An object that was deleted and made
/// again under its name arrives as two changes, so both sides always have one uid.
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
    trim: fn(&mut K),
    changes: Arc<AtomicU64>,
}

impl<K> Informer<K> {
    /// An informer that cuts out of each object what no controller reads, before it is kept.
    pub(crate) fn trimming(trim: fn(&mut K)) -> Self {
        Self { cache: Cache::default(), handlers: Vec::new(), trim, changes: Arc::default() }
    }

    /// The view that this informer keeps.
    pub(crate) fn cache(&self) -> Cache<K> {
        self.cache.clone()
    }

    /// Counts the changes seen since the start.
    pub(crate) fn changes(&self) -> Arc<AtomicU64> {
        self.changes.clone()
    }

    /// Calls `handler` for every change, in order. It must not block.
    pub(crate) fn on_change(&mut self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.handlers.push(Box::new(handler));
    }
}

impl<K: Resource + Debug + 'static> Informer<K> {
    /// Watches `api` until `shutdown`; errors are logged and retried with back-off.
    pub(crate) async fn run(self, api: Api<K>, config: watcher::Config, shutdown: CancellationToken)
    where
        K: Clone + DeserializeOwned + Send + Sync,
        K::DynamicType: Clone,
    {
        let kind = api.resource_url().to_owned();
        self.follow(watcher::watcher(api, config).default_backoff(), &kind, shutdown).await;
    }

    async fn follow(
        self,
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
                Ok(watcher::Event::InitDone) => self.cache.replace_all(std::mem::take(&mut listed)),
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
            self.changes.fetch_add(changes.len() as u64, Ordering::Relaxed);
            for change in &changes {
                self.handlers.iter().for_each(|handler| handler(change));
            }
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
            tracing::debug!(kind, "the watch is too old, listing again");
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
    use std::sync::Mutex;

    use k8s_openapi::api::core::v1::ConfigMap;

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
            log.lock().unwrap().push(format!("{name} {}→{}", side(&change.old), side(&change.new)));
        });
        let cache = informer.cache();
        let events = futures::stream::iter(events.into_iter().map(Ok));
        informer.follow(events, "configmaps", CancellationToken::new()).await;
        let seen = seen.lock().unwrap().clone();
        (seen, cache)
    }

    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};

    #[tokio::test]
    async fn a_relist_reports_only_what_differs() {
        let (seen, cache) = seen(vec![
            Init,
            InitApply(object("a", "1", "1")),
            InitApply(object("b", "2", "2")),
            InitApply(object("c", "3", "3")),
            InitDone,
            Apply(object("a", "1", "4")),
            // The watch broke: b changed, c went away, d came, and a is as it was.
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

    #[tokio::test]
    async fn an_object_made_again_under_its_name_is_a_deletion_and_a_creation() {
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

    #[tokio::test]
    async fn a_broken_list_leaves_the_cache_as_it_was() {
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
