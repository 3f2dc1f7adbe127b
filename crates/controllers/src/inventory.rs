//! The metadata of all objects of all served kinds, for namespace deletion, garbage collection and quotas,
//! which have to handle kinds that this program has no types for.
//!
//! It has one metadata [`Informer`] for each kind that discovery finds. Discovery is repeated, because other
//! API servers may add kinds. A kind that another controller watches by its type is not watched twice: its
//! informer reports to the inventory too. Only identity, owners and finalizers of an object are kept:
//! annotations of secrets count as payload, and a hundred thousand objects must fit into memory.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use coffer_api::status::GroupResource;
use coffer_api::well_known::api_group;
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use kube::discovery::{Scope, verbs};
use kube::runtime::watcher;
use kube::{Api, Client, Discovery, Resource};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error;
pub(crate) use crate::informer::metadata::Meta;
use crate::informer::{Cache, Informer, Watched};

/// Interval of discovery: that of upstream's garbage collector.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(30);
/// The same while discovery fails.
const DISCOVERY_RETRY: Duration = Duration::from_secs(1);

/// A change of one object's metadata. At least one side is present.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetaChange<'a> {
    /// The metadata before, unless the object is new.
    pub(crate) old: Option<&'a ObjectMeta>,
    /// The metadata now, unless the object was deleted.
    pub(crate) new: Option<&'a ObjectMeta>,
}

impl<'a> MetaChange<'a> {
    /// The newest state known.
    pub(crate) fn latest(&self) -> &'a ObjectMeta {
        self.new.or(self.old).expect("a change has at least one side")
    }
}

/// A served kind whose objects can be listed, watched and deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Group, version, kind and plural.
    pub(crate) resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub(crate) namespaced: bool,
}

impl Kind {
    fn of<K: Watched>() -> Self {
        let resource = ApiResource::erase::<K>(&());
        let namespaced = TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>();
        Self { resource, namespaced }
    }

    /// An API for the metadata of this kind's objects.
    pub(crate) fn api(&self, client: Client, namespace: &str) -> Api<Meta> {
        if self.namespaced && !namespace.is_empty() {
            Api::namespaced_with(client, namespace, &self.resource)
        } else {
            Api::all_with(client, &self.resource)
        }
    }

    /// `pods.` or `deployments.apps`, as conditions of namespaces name resources.
    pub(crate) fn qualified(&self) -> String {
        let ApiResource { group, plural, .. } = &self.resource;
        GroupResource { group, resource: plural }.qualified()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.resource.api_version, self.resource.plural)
    }
}

/// A shared handle to the known kinds and their objects.
#[derive(Clone)]
pub(crate) struct Inventory(Arc<Shared>);

struct Shared {
    kinds: RwLock<BTreeMap<String, Entry>>,
    /// True once all kinds of the first discovery have been listed.
    synced: watch::Sender<bool>,
}

#[derive(Clone)]
struct Entry {
    kind: Arc<Kind>,
    /// Absent for kinds that are listed when needed but not watched.
    cache: Option<Arc<dyn ErasedCache>>,
    /// Ends the watch; `None` if another informer watches the kind.
    stop: Option<CancellationToken>,
}

/// A cache without the type of its objects.
trait ErasedCache: Send + Sync {
    fn count_in(&self, namespace: &str) -> usize;
    fn synced(&self) -> BoxFuture<'static, ()>;
}

impl<K: Send + Sync + 'static> ErasedCache for Cache<K> {
    fn count_in(&self, namespace: &str) -> usize {
        Cache::count_in(self, namespace)
    }

    fn synced(&self) -> BoxFuture<'static, ()> {
        let cache = self.clone();
        async move { Cache::synced(&cache).await }.boxed()
    }
}

impl Inventory {
    /// The kind of an owner reference, in any served version.
    pub(crate) fn kind(&self, api_version: &str, kind: &str) -> Option<Arc<Kind>> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let kinds = self.0.kinds.read();
        let mut kinds = kinds.values().map(|entry| &entry.kind);
        kinds.find(|found| found.resource.group == group && found.resource.kind == kind).cloned()
    }

    /// All known kinds.
    pub(crate) fn kinds(&self) -> Vec<Arc<Kind>> {
        let kinds = self.0.kinds.read();
        kinds.values().map(|entry| entry.kind.clone()).collect()
    }

    /// The number of objects of a resource ([`Kind::qualified`]) in a namespace. `None` for a resource that
    /// is not watched.
    pub(crate) fn count(&self, qualified: &str, namespace: &str) -> Option<usize> {
        let kinds = self.0.kinds.read();
        Some(kinds.get(qualified)?.cache.as_ref()?.count_in(namespace))
    }

    /// Waits until every kind of the first discovery has been listed once.
    pub(crate) async fn synced(&self) {
        let mut synced = self.0.synced.subscribe();
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = synced.wait_for(|synced| *synced).await;
    }
}

#[cfg(test)]
impl Inventory {
    /// One that knows kinds and watches none.
    pub(crate) fn knowing(kinds: &[Arc<Kind>]) -> Self {
        let inventory = Watcher::default().inventory();
        let entry = |kind: &Arc<Kind>| {
            (kind.qualified(), Entry { kind: kind.clone(), cache: None, stop: None })
        };
        let mut known = inventory.0.kinds.write();
        known.extend(kinds.iter().map(entry));
        drop(known);
        inventory
    }
}

type Handler = Arc<dyn Fn(&Arc<Kind>, &MetaChange<'_>) + Send + Sync>;

/// The informers of an [`Inventory`]: register handlers, then [`Watcher::run`] it.
pub(crate) struct Watcher {
    inventory: Inventory,
    handlers: Vec<Handler>,
}

impl Default for Watcher {
    fn default() -> Self {
        let synced = watch::Sender::new(false);
        let inventory = Inventory(Arc::new(Shared { kinds: RwLock::default(), synced }));
        Self { inventory, handlers: Vec::new() }
    }
}

impl Watcher {
    /// The inventory that this watcher fills.
    pub(crate) fn inventory(&self) -> Inventory {
        self.inventory.clone()
    }

    /// Calls `handler` for every change of every kind. It must not block.
    pub(crate) fn on_change(
        &mut self,
        handler: impl Fn(&Arc<Kind>, &MetaChange<'_>) + Send + Sync + 'static,
    ) {
        self.handlers.push(Arc::new(handler));
    }

    /// Uses an existing informer instead of watching its kind again. All handlers must have been registered
    /// before.
    pub(crate) fn subscribe<K: Watched>(&mut self, informer: &mut Informer<K>) {
        let kind = Arc::new(Kind::of::<K>());
        self.forward(informer, &kind);
        let cache: Arc<dyn ErasedCache> = Arc::new(informer.cache());
        let entry = Entry { kind: kind.clone(), cache: Some(cache), stop: None };
        self.inventory.0.kinds.write().insert(kind.qualified(), entry);
    }

    fn forward<K: Resource + 'static>(&self, informer: &mut Informer<K>, kind: &Arc<Kind>) {
        let (handlers, kind) = (self.handlers.clone(), kind.clone());
        informer.on_change(move |change| {
            let change = MetaChange {
                old: change.old.as_ref().map(|object| object.meta()),
                new: change.new.as_ref().map(|object| object.meta()),
            };
            handlers.iter().for_each(|handler| handler(&kind, &change));
        });
    }

    /// Discovers and watches until `shutdown`.
    pub(crate) async fn run(self, client: Client, shutdown: CancellationToken) {
        let mut watches = JoinSet::new();
        loop {
            let wait = match discover(&client).await {
                Ok(kinds) => {
                    self.update_watches(kinds, &client, &shutdown, &mut watches);
                    DISCOVERY_INTERVAL
                }
                Err(error) => {
                    tracing::warn!(error = %error::shown(&error), "discovery failed, will retry");
                    DISCOVERY_RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => break,
            }
            while watches.try_join_next().is_some() {}
        }
        while watches.join_next().await.is_some() {}
    }

    /// Starts watches for new kinds and ends those for kinds that are no longer served.
    fn update_watches(
        &self,
        discovered: Vec<Kind>,
        client: &Client,
        shutdown: &CancellationToken,
        watches: &mut JoinSet<()>,
    ) {
        let shared = &self.inventory.0;
        let mut kinds = shared.kinds.write();
        kinds.retain(|_, entry| match &entry.stop {
            Some(stop) if !discovered.contains(&entry.kind) => {
                stop.cancel();
                false
            }
            _ => true,
        });
        for kind in discovered {
            let entry = kinds.entry(kind.qualified());
            entry.or_insert_with(|| self.watch(Arc::new(kind), client, shutdown, watches));
        }
        let caches: Vec<_> = kinds.values().filter_map(|entry| entry.cache.clone()).collect();
        drop(kinds);
        if !*shared.synced.borrow() {
            let inventory = self.inventory.clone();
            let shutdown = shutdown.clone();
            watches.spawn(async move {
                let all = futures::future::join_all(caches.iter().map(|cache| cache.synced()));
                if shutdown.run_until_cancelled(all).await.is_some() {
                    inventory.0.synced.send_replace(true);
                }
            });
        }
    }

    fn watch(
        &self,
        kind: Arc<Kind>,
        client: &Client,
        shutdown: &CancellationToken,
        watches: &mut JoinSet<()>,
    ) -> Entry {
        let stop = shutdown.child_token();
        // Events have no owners and no dependents, and outnumber all other objects.
        if kind.resource.plural == "events" {
            return Entry { kind, cache: None, stop: Some(stop) };
        }
        let mut informer = Informer::<Meta>::trimming(|_| {});
        let cache: Arc<dyn ErasedCache> = Arc::new(informer.cache());
        self.forward(&mut informer, &kind);
        let api = kind.api(client.clone(), "");
        watches.spawn(informer.run(api, watcher::Config::default(), stop.clone()));
        Entry { kind, cache: Some(cache), stop: Some(stop) }
    }
}

async fn discover(client: &Client) -> Result<Vec<Kind>, kube::Error> {
    // Two requests, where the server knows the aggregated form.
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) => discovery,
        Err(_) => Discovery::new(client.clone()).run().await?,
    };
    let all = discovery.groups().flat_map(|group| group.recommended_resources());
    let wanted = [verbs::LIST, verbs::WATCH, verbs::DELETE];
    Ok(all
        .filter(|(resource, capabilities)| {
            // Events are served in two groups. Those of the core group are enough.
            let duplicate = resource.plural == "events" && resource.group == api_group::EVENTS;
            !duplicate && wanted.iter().all(|verb| capabilities.supports_operation(verb))
        })
        .map(|(resource, capabilities)| Kind {
            resource,
            namespaced: capabilities.scope == Scope::Namespaced,
        })
        .collect())
}
