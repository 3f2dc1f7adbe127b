//! What the controllers of one process share (the client, one informer per kind, the event sink), and their
//! tasks.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::informer::{Informer, Watched};
use crate::{events, inventory};

/// Interval of the debug log of informers: their objects, changes and reads.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Registered controllers, which [`Manager::run`] runs; see [`crate::controller_manager`].
pub struct Manager {
    client: Client,
    informers: HashMap<TypeId, Box<dyn ErasedInformer>>,
    inventory: Option<inventory::Watcher>,
    workers: Vec<Worker>,
    /// The names of the controllers' types, for a test that none is missing.
    controllers: Vec<&'static str>,
    events: events::Sink,
    event_writer: events::Writer,
}

type Worker = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;
type Report = Box<dyn Fn() + Send>;

/// An informer without the type of its objects.
trait ErasedInformer: Send {
    fn as_any(&mut self) -> &mut dyn Any;
    /// Reports this informer's changes to the inventory, so that no kind is watched twice.
    fn feed(&mut self, inventory: &mut inventory::Watcher);
    fn report(&self) -> Report;
    fn run(self: Box<Self>, client: Client, shutdown: CancellationToken) -> BoxFuture<'static, ()>;
}

impl<K: Watched> ErasedInformer for Informer<K> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn feed(&mut self, inventory: &mut inventory::Watcher) {
        if K::FIELDS.is_none() {
            inventory.subscribe(self);
        }
    }

    fn report(&self) -> Report {
        let (cache, changes) = (self.cache(), self.changes());
        Box::new(move || {
            let (kind, changes) = (K::kind(&()), changes.load(Ordering::Relaxed));
            let (objects, visited) = (cache.len(), cache.visited());
            tracing::debug!(%kind, objects, changes, visited, "informer");
        })
    }

    fn run(self: Box<Self>, client: Client, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
        let all = watcher::Config::default();
        let config = match K::FIELDS {
            Some(fields) => all.fields(fields),
            None => all,
        };
        Informer::run(*self, Api::all(client), config, shutdown).boxed()
    }
}

impl Manager {
    /// A manager without controllers.
    pub(crate) fn new(client: Client) -> Self {
        let (events, event_writer) = events::channel(client.clone());
        Self {
            client,
            informers: HashMap::new(),
            inventory: None,
            workers: Vec::new(),
            controllers: Vec::new(),
            events,
            event_writer,
        }
    }

    /// The API client.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// A recorder of events that come from `component`.
    pub(crate) fn recorder(&self, component: &'static str) -> events::Recorder {
        self.events.recorder(component)
    }

    /// The only informer of this process for a kind.
    pub(crate) fn informer<K: Watched>(&mut self) -> &mut Informer<K> {
        self.informers
            .entry(TypeId::of::<K>())
            .or_insert_with(|| Box::new(Informer::<K>::trimming(K::trimmer())))
            .as_any()
            .downcast_mut()
            .expect("the map's key is the type")
    }

    /// The only inventory of this process.
    pub(crate) fn inventory(&mut self) -> &mut inventory::Watcher {
        self.inventory.get_or_insert_default()
    }

    /// Adds the task of a controller. It gets a token that is cancelled at shutdown, and must then return
    /// soon.
    pub(crate) fn add_worker<C>(
        &mut self,
        worker: impl FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send + 'static,
    ) {
        self.controllers.push(type_name::<C>());
        self.workers.push(Box::new(worker));
    }

    /// The names of the types of the added controllers.
    #[cfg(test)]
    pub(crate) fn controllers(&self) -> &[&'static str] {
        &self.controllers
    }

    /// Runs all tasks until `shutdown` and returns when they have ended. If a task panics, all are ended: it
    /// is better that no controller runs than that only some do.
    ///
    /// # Errors
    /// A task panicked. Other tasks of the process are not ended by that.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Panicked> {
        let shutdown = shutdown.child_token();
        let mut tasks = JoinSet::new();
        tasks.spawn(self.event_writer.run(shutdown.clone()));
        let reports: Vec<_> = self.informers.values().map(|informer| informer.report()).collect();
        tasks.spawn(report(reports, shutdown.clone()));
        if let Some(mut inventory) = self.inventory {
            self.informers.values_mut().for_each(|informer| informer.feed(&mut inventory));
            tasks.spawn(inventory.run(self.client.clone(), shutdown.clone()));
        }
        for informer in self.informers.into_values() {
            tasks.spawn(informer.run(self.client.clone(), shutdown.clone()));
        }
        for worker in self.workers {
            tasks.spawn(worker(shutdown.clone()));
        }
        tracing::debug!(controllers = ?self.controllers, "controllers are running");
        // The event writer ends when the controllers have dropped their senders.
        drop(self.events);
        let mut outcome = Ok(());
        while let Some(ended) = tasks.join_next().await {
            // The message of a panic may quote an object.
            if ended.is_err() {
                tracing::error!("a task panicked, stopping all controllers");
                shutdown.cancel();
                outcome = Err(Panicked);
            }
        }
        outcome
    }
}

/// A controller panicked, and all were ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a controller panicked")]
pub struct Panicked;

async fn report(reports: Vec<Report>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(REPORT_INTERVAL);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        reports.iter().for_each(|report| report());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_all_controllers_and_nothing_else_of_the_process() {
        let mut manager = Manager::new(crate::testing::unreachable_client());
        manager.add_worker::<()>(|_| async { panic!("hunter2") }.boxed());
        manager.add_worker::<()>(|shutdown| async move { shutdown.cancelled().await }.boxed());
        let process = CancellationToken::new();
        assert_eq!(manager.run(process.clone()).await, Err(Panicked));
        assert!(!process.is_cancelled());
    }

    #[tokio::test]
    async fn a_shutdown_returns_no_error() {
        let mut manager = Manager::new(crate::testing::unreachable_client());
        manager.add_worker::<()>(|shutdown| async move { shutdown.cancelled().await }.boxed());
        let process = CancellationToken::new();
        process.cancel();
        assert_eq!(manager.run(process).await, Ok(()));
    }
}
