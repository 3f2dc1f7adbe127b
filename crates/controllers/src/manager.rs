//! What the controllers of one process share: the client, one informer per kind, the event sink;
//! and who owns their tasks.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::hash::Hash;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::informer::Informer;
use crate::queue::Queue;
use crate::{events, inventory};

/// Collects controllers, then runs them together.
pub struct Manager {
    client: Client,
    informers: HashMap<TypeId, Box<dyn Watching>>,
    inventory: Option<inventory::Watcher>,
    workers: Vec<Worker>,
    events: events::Sink,
    event_writer: events::Writer,
}

type Worker = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// An informer whose kind has been forgotten.
trait Watching: Send {
    fn as_any(&mut self) -> &mut dyn Any;
    fn run(self: Box<Self>, client: Client, shutdown: CancellationToken) -> BoxFuture<'static, ()>;
}

impl<K> Watching for Informer<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn run(self: Box<Self>, client: Client, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
        Informer::run(*self, Api::all(client), watcher::Config::default(), shutdown).boxed()
    }
}

impl Manager {
    /// A manager without controllers.
    pub fn new(client: Client) -> Self {
        let (events, event_writer) = events::channel(client.clone());
        Self {
            client,
            informers: HashMap::new(),
            inventory: None,
            workers: Vec::new(),
            events,
            event_writer,
        }
    }

    /// The API client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A recorder of events that come from `component`.
    pub fn recorder(&self, component: &'static str) -> events::Recorder {
        self.events.recorder(component)
    }

    /// The process's one informer for a kind.
    pub fn informer<K>(&mut self) -> &mut Informer<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        self.informers
            .entry(TypeId::of::<K>())
            .or_insert_with(|| Box::new(Informer::<K>::default()))
            .as_any()
            .downcast_mut()
            .expect("the map's key is the type")
    }

    /// The process's one inventory of all kinds.
    pub fn inventory(&mut self) -> &mut inventory::Watcher {
        self.inventory.get_or_insert_default()
    }

    /// Adds a task; it gets a token that is cancelled at shutdown and must then return soon.
    pub fn add_worker<F>(&mut self, worker: impl FnOnce(CancellationToken) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.workers.push(Box::new(move |shutdown| worker(shutdown).boxed()));
    }

    /// Adds the usual task: once `ready` (the caches it reads have been filled), it reconciles the
    /// keys of a queue with `workers` at a time.
    pub fn add_controller<T, F, R>(
        &mut self,
        name: &'static str,
        workers: usize,
        queue: Queue<T>,
        ready: impl Future<Output = ()> + Send + 'static,
        reconcile: F,
    ) where
        T: Clone + Eq + Hash + Display + Send + 'static,
        F: Fn(T) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.add_worker(move |shutdown| async move {
            if shutdown.run_until_cancelled(ready).await.is_some() {
                queue.work(name, workers, &shutdown, reconcile).await;
            }
        });
    }

    /// Runs everything until `shutdown`; returns when all tasks have ended. A task that panics
    /// ends the process's controllers, because half of them running is worse than none.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.event_writer.run(shutdown.clone()));
        for informer in self.informers.into_values() {
            tasks.spawn(informer.run(self.client.clone(), shutdown.clone()));
        }
        if let Some(inventory) = self.inventory {
            tasks.spawn(inventory.run(self.client.clone(), shutdown.clone()));
        }
        for worker in self.workers {
            tasks.spawn(worker(shutdown.clone()));
        }
        // Controllers hold the other ends; without this one the writer ends when they have.
        drop(self.events);
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a controller ended abnormally, stopping all");
                shutdown.cancel();
            }
        }
    }
}
