//! Every object of every served kind, by its metadata: what namespace deletion, garbage collection
//! and quotas look at, since they must know kinds that this program was not written for.
//!
//! It is no second informer, but a set of them: one [`Informer`] for the metadata of each kind that
//! discovery names, which is repeated, because a real API server may be taught new kinds. A kind that
//! another controller watches by its type is not watched again; its informer feeds the inventory too.
//! Of each object only its identity, owners and finalizers are kept: annotations of a secret count
//! as its payload, and a hundred thousand objects must fit.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use kube::discovery::{Scope, verbs};
use kube::runtime::watcher;
use kube::{Api, Client, Discovery, Resource};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error;
pub(crate) use crate::informer::metadata::Meta;
use crate::informer::{Cache, Informer, Watched};

/// How often the served kinds are asked for again, as upstream's garbage collector does.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(30);
/// The same while discovery fails.
const DISCOVERY_RETRY: Duration = Duration::from_secs(1);

/// What happened to one object, as far as its metadata tell. At least one side is there.
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
        format!("{}.{}", self.resource.plural, self.resource.group)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.resource.api_version, self.resource.plural)
    }
}

/// A shared handle to what is known.
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
    held: Option<Arc<dyn Held>>,
    /// Ends the watch; `None` if it is not the inventory's own.
    stop: Option<CancellationToken>,
}

/// A cache whose kind has been forgotten.
trait Held: Send + Sync {
    fn count_in(&self, namespace: &str) -> usize;
    fn synced(&self) -> BoxFuture<'static, ()>;
}

impl<K: Send + Sync + 'static> Held for Cache<K> {
    fn count_in(&self, namespace: &str) -> usize {
        Cache::count_in(self, namespace)
    }

    fn synced(&self) -> BoxFuture<'static, ()> {
        let cache = self.clone();
        async move { Cache::synced(&cache).await }.boxed()
    }
}

impl Inventory {
    /// The kind that an owner reference or event names; any served version will do.
    pub(crate) fn kind(&self, api_version: &str, kind: &str) -> Option<Arc<Kind>> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let kinds = self.0.kinds.read().expect("no code panics while it holds the kinds");
        let mut kinds = kinds.values().map(|entry| &entry.kind);
        kinds.find(|found| found.resource.group == group && found.resource.kind == kind).cloned()
    }

    /// Every kind that is known.
    pub(crate) fn kinds(&self) -> Vec<Arc<Kind>> {
        let kinds = self.0.kinds.read().expect("no code panics while it holds the kinds");
        kinds.values().map(|entry| entry.kind.clone()).collect()
    }

    /// How many objects of a resource, named as [`Kind::qualified`] does, a namespace has. `None` for
    /// one that is not watched.
    pub(crate) fn count(&self, qualified: &str, namespace: &str) -> Option<usize> {
        let kinds = self.0.kinds.read().expect("no code panics while it holds the kinds");
        Some(kinds.get(qualified)?.held.as_ref()?.count_in(namespace))
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
            (kind.qualified(), Entry { kind: kind.clone(), held: None, stop: None })
        };
        let mut known = inventory.0.kinds.write().expect("no code panics while it holds them");
        known.extend(kinds.iter().map(entry));
        drop(known);
        inventory
    }
}

type Handler = Arc<dyn Fn(&Arc<Kind>, &MetaChange<'_>) + Send + Sync>;

/// The watches behind an [`Inventory`]: register handlers, then [`Watcher::run`] it.
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
    /// The view that this watcher keeps.
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

    /// Sees what an informer sees, instead of watching its kind again. All handlers must have been
    /// registered before.
    pub(crate) fn adopt<K: Watched>(&mut self, informer: &mut Informer<K>) {
        let kind = Arc::new(Kind::of::<K>());
        self.tell(informer, &kind);
        let held: Arc<dyn Held> = Arc::new(informer.cache());
        let entry = Entry { kind: kind.clone(), held: Some(held), stop: None };
        let mut kinds = self.inventory.0.kinds.write().expect("no code panics while it holds them");
        kinds.insert(kind.qualified(), entry);
    }

    fn tell<K: Resource + 'static>(&self, informer: &mut Informer<K>, kind: &Arc<Kind>) {
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
                    self.follow(kinds, &client, &shutdown, &mut watches);
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

    /// Begins to watch kinds that are new and stops at those that are gone.
    fn follow(
        &self,
        discovered: Vec<Kind>,
        client: &Client,
        shutdown: &CancellationToken,
        watches: &mut JoinSet<()>,
    ) {
        let shared = &self.inventory.0;
        let mut kinds = shared.kinds.write().expect("no code panics while it holds the kinds");
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
        let held: Vec<_> = kinds.values().filter_map(|entry| entry.held.clone()).collect();
        drop(kinds);
        if !*shared.synced.borrow() {
            let inventory = self.inventory.clone();
            let shutdown = shutdown.clone();
            watches.spawn(async move {
                let all = futures::future::join_all(held.iter().map(|held| held.synced()));
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
        // Events own nothing, are owned by nothing, and outnumber everything else.
        if kind.resource.plural == "events" {
            return Entry { kind, held: None, stop: Some(stop) };
        }
        let mut informer = Informer::<Meta>::trimming(|_| {});
        let held: Arc<dyn Held> = Arc::new(informer.cache());
        self.tell(&mut informer, &kind);
        let api = kind.api(client.clone(), "");
        watches.spawn(informer.run(api, watcher::Config::default(), stop.clone()));
        Entry { kind, held: Some(held), stop: Some(stop) }
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
            // One stored event has two kinds; the group's is the other face of core's.
            let twin = resource.plural == "events" && resource.group == "events.k8s.io";
            !twin && wanted.iter().all(|verb| capabilities.supports_operation(verb))
        })
        .map(|(resource, capabilities)| Kind {
            resource,
            namespaced: capabilities.scope == Scope::Namespaced,
        })
        .collect())
}
