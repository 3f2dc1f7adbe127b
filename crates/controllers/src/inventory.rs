//! Every object of every served kind, by its metadata: what namespace deletion and garbage
//! collection look at, since both must know kinds that this program was not written for.
//!
//! Kinds come from discovery, which is repeated, because a real API server may be taught new ones.
//! Of each object only its identity, owners and finalizers are kept: annotations of a secret count
//! as its payload, and a hundred thousand objects must fit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use kube::api::{ApiResource, PartialObjectMeta};
use kube::core::DynamicObject;
use kube::discovery::{Scope, verbs};
use kube::runtime::watcher;
use kube::{Api, Client, Discovery, Resource};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error;
use crate::informer::{Cache, Change, Informer};

/// How often the served kinds are asked for again, as upstream's garbage collector does.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(30);
/// The same while discovery fails.
const DISCOVERY_RETRY: Duration = Duration::from_secs(1);

/// The metadata of an object whose kind is known beside it.
pub type Meta = PartialObjectMeta<DynamicObject>;

/// A served kind whose objects can be listed, watched and deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Kind {
    /// An API for the metadata of this kind's objects.
    pub fn api(&self, client: Client, namespace: &str) -> Api<Meta> {
        if self.namespaced && !namespace.is_empty() {
            Api::namespaced_with(client, namespace, &self.resource)
        } else {
            Api::all_with(client, &self.resource)
        }
    }

    /// `pods.` or `deployments.apps`, as conditions of namespaces name resources.
    pub fn qualified(&self) -> String {
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
pub struct Inventory(Arc<Shared>);

struct Shared {
    kinds: RwLock<BTreeMap<String, Watched>>,
    /// True once all kinds of the first discovery have been listed.
    synced: watch::Sender<bool>,
}

#[derive(Clone)]
struct Watched {
    kind: Arc<Kind>,
    /// Absent for kinds that are listed when needed but not watched.
    cache: Option<Cache<Meta>>,
    stop: CancellationToken,
}

impl Inventory {
    /// The kind that an owner reference or event names; any served version will do.
    pub fn kind(&self, api_version: &str, kind: &str) -> Option<Arc<Kind>> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let kinds = self.0.kinds.read().expect("no code panics while it holds the kinds");
        let mut kinds = kinds.values().map(|watched| &watched.kind);
        kinds.find(|found| found.resource.group == group && found.resource.kind == kind).cloned()
    }

    /// Every kind that is known.
    pub fn kinds(&self) -> Vec<Arc<Kind>> {
        let kinds = self.0.kinds.read().expect("no code panics while it holds the kinds");
        kinds.values().map(|watched| watched.kind.clone()).collect()
    }

    /// How many objects of a resource, named as [`Kind::qualified`] does, a namespace has. `None` for
    /// one that is not watched.
    pub fn count(&self, qualified: &str, namespace: &str) -> Option<usize> {
        let kinds = self.0.kinds.read().expect("no code panics while it holds the kinds");
        Some(kinds.get(qualified)?.cache.as_ref()?.count_in(namespace))
    }

    /// Waits until every kind of the first discovery has been listed once.
    pub async fn synced(&self) {
        let mut synced = self.0.synced.subscribe();
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = synced.wait_for(|synced| *synced).await;
    }
}

type Handler = Arc<dyn Fn(&Arc<Kind>, &Change<Meta>) + Send + Sync>;

/// The watches behind an [`Inventory`]: register handlers, then [`Watcher::run`] it.
pub struct Watcher {
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
    pub fn inventory(&self) -> Inventory {
        self.inventory.clone()
    }

    /// Calls `handler` for every change of every kind. It must not block.
    pub fn on_change(
        &mut self,
        handler: impl Fn(&Arc<Kind>, &Change<Meta>) + Send + Sync + 'static,
    ) {
        self.handlers.push(Arc::new(handler));
    }

    /// Discovers and watches until `shutdown`.
    pub async fn run(self, client: Client, shutdown: CancellationToken) {
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
        kinds.retain(|_, watched| {
            let stays = discovered.contains(&watched.kind);
            if !stays {
                watched.stop.cancel();
            }
            stays
        });
        for kind in discovered {
            let entry = kinds.entry(kind.qualified());
            entry.or_insert_with(|| self.watch(Arc::new(kind), client, shutdown, watches));
        }
        let caches: Vec<_> = kinds.values().filter_map(|watched| watched.cache.clone()).collect();
        drop(kinds);
        if !*shared.synced.borrow() {
            let inventory = self.inventory.clone();
            let shutdown = shutdown.clone();
            watches.spawn(async move {
                let all = futures::future::join_all(caches.iter().map(Cache::synced));
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
    ) -> Watched {
        let stop = shutdown.child_token();
        // Events own nothing, are owned by nothing, and outnumber everything else.
        if kind.resource.plural == "events" {
            return Watched { kind, cache: None, stop };
        }
        let mut informer = Informer::trimming(identity);
        let cache = informer.cache();
        for handler in self.handlers.iter().cloned() {
            let kind = kind.clone();
            informer.on_change(move |change| handler(&kind, change));
        }
        let api = kind.api(client.clone(), "");
        watches.spawn(informer.run(api, watcher::Config::default(), stop.clone()));
        Watched { kind, cache: Some(cache), stop }
    }
}

/// Keeps what tells an object apart and who owns it.
fn identity(object: &mut Meta) {
    let meta = object.meta_mut();
    (meta.annotations, meta.labels, meta.managed_fields) = (None, None, None);
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
