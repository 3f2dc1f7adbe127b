//! The trait of controllers, and how one is set up.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::{Client, Resource};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::events::Recorder;
use crate::informer::{Cache, Change, Index, IndexBy, Watched};
use crate::inventory::{Inventory, Kind, MetaChange};
use crate::key::ObjectKey;
use crate::manager::Manager;
use crate::queue::{Queue, WorkQueue};

/// A control loop: compares the actual state with the desired one and writes the difference, one key at a
/// time.
///
/// The framework fills the caches before the first key, reconciles up to [`Self::WORKERS`] keys concurrently
/// but never one key twice at a time, retries a failed key with back-off, and ends between two keys at
/// shutdown.
pub(crate) trait Controller: Send + Sync + Sized + 'static {
    /// Upstream's name of the controller, for logs.
    const NAME: &'static str;
    /// How many keys are reconciled concurrently. A worker has one request in flight, unless the controller
    /// documents otherwise, so that this bounds the load on the API server.
    const WORKERS: usize;
    /// The queue of its keys: [`Queue`]`<`[`ObjectKey`]`>` for nearly all, which reconcile one object by its
    /// name.
    type Queue: WorkQueue;

    /// Registers handlers, which add keys to the queue. They run in the informers' tasks and must neither
    /// wait nor read more than what the change is about.
    fn watches(watches: &mut Watches<'_, Self>);

    /// Reconciles one key: reads the caches, decides in a pure function, and applies the decision. It is
    /// idempotent and does not depend on earlier calls.
    fn reconcile(
        &self,
        key: &<Self::Queue as WorkQueue>::Key,
    ) -> impl Future<Output = Result<Next, Error>> + Send;
}

/// When a key that was reconciled without an error is to be reconciled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// After the next change.
    Change,
    /// After the next change, and after this time at the latest.
    After(Duration),
}

impl Next {
    /// After a time, if there is one.
    pub(crate) fn after(wait: Option<Duration>) -> Self {
        wait.map_or(Self::Change, Self::After)
    }
}

/// Provides a controller with client, caches and queue, and records which caches it has to wait for.
pub(crate) struct Setup<'a, C: Controller> {
    manager: &'a mut Manager,
    queue: C::Queue,
    synced: Vec<BoxFuture<'static, ()>>,
}

impl<'a, C: Controller> Setup<'a, C> {
    /// The API client.
    pub(crate) fn client(&self) -> Client {
        self.manager.client()
    }

    /// A recorder of events that come from `component`.
    pub(crate) fn recorder(&self, component: &'static str) -> Recorder {
        self.manager.recorder(component)
    }

    /// The queue of this controller, for the keys that it adds itself.
    pub(crate) fn queue(&self) -> C::Queue {
        self.queue.clone()
    }

    /// All objects of a kind.
    pub(crate) fn cache<K: Watched>(&mut self) -> Cache<K> {
        let cache = self.manager.informer::<K>().cache();
        let awaited = cache.clone();
        self.synced.push(async move { awaited.synced().await }.boxed());
        cache
    }

    /// Lists a kind every `period` instead of watching it; see [`crate::informer`].
    pub(crate) fn list_every<K: Watched>(&mut self, period: Duration) {
        self.manager.informer::<K>().list_every(period);
    }

    /// All objects of a kind, found by one of their properties.
    pub(crate) fn index<K: Watched, I: IndexBy<K>>(&mut self) -> Index<K, I> {
        self.cache::<K>().index()
    }

    /// The metadata of all objects of all kinds.
    pub(crate) fn inventory(&mut self) -> Inventory {
        let inventory = self.manager.inventory().inventory();
        let awaited = inventory.clone();
        self.synced.push(async move { awaited.synced().await }.boxed());
        inventory
    }
}

/// Registers what a controller watches.
pub(crate) struct Watches<'a, C: Controller> {
    setup: Setup<'a, C>,
    controller: Arc<C>,
}

impl<C: Controller> Watches<'_, C> {
    /// Calls `handler` for every change of an object of a kind.
    pub(crate) fn on<K: Watched>(
        &mut self,
        handler: impl Fn(&C, &Change<K>) + Send + Sync + 'static,
    ) {
        self.setup.cache::<K>();
        let controller = self.controller.clone();
        let informer = self.setup.manager.informer::<K>();
        informer.on_change(move |change| handler(&controller, change));
    }

    /// Calls `handler` for every change of the metadata of any object.
    pub(crate) fn on_any(
        &mut self,
        handler: impl Fn(&C, &Arc<Kind>, &MetaChange<'_>) + Send + Sync + 'static,
    ) {
        self.setup.inventory();
        let controller = self.controller.clone();
        let inventory = self.setup.manager.inventory();
        inventory.on_change(move |kind, change| handler(&controller, kind, change));
    }
}

impl<C: Controller<Queue = Queue<ObjectKey>>> Watches<'_, C> {
    /// Adds an object's own key whenever it changes.
    pub(crate) fn own<K: Watched>(&mut self) {
        self.own_if::<K>(|_| true);
    }

    /// Adds an object's own key whenever it changes in a way that is of interest.
    pub(crate) fn own_if<K: Watched>(
        &mut self,
        is_of_interest: impl Fn(&Change<K>) -> bool + Send + Sync + 'static,
    ) {
        let queue = self.setup.queue();
        self.on::<K>(move |_, change| {
            if is_of_interest(change) {
                queue.add(ObjectKey::of(&**change.latest()));
            }
        });
    }
}

/// Adds a controller, which `build` creates, to a manager.
pub(crate) fn add<C: Controller>(
    manager: &mut Manager,
    build: impl FnOnce(&mut Setup<'_, C>) -> C,
) {
    let mut setup = Setup { manager, queue: C::Queue::default(), synced: Vec::new() };
    let controller = Arc::new(build(&mut setup));
    let mut watches = Watches { setup, controller: controller.clone() };
    C::watches(&mut watches);
    let Setup { manager, queue, synced } = watches.setup;
    manager.add_worker::<C>(move |shutdown| {
        async move {
            let ready = futures::future::join_all(synced);
            if shutdown.run_until_cancelled(ready).await.is_none() {
                return;
            }
            let mut workers = JoinSet::new();
            for _ in 0..C::WORKERS {
                let (controller, queue) = (controller.clone(), queue.clone());
                let shutdown = shutdown.clone();
                workers.spawn(async move { work(&*controller, &queue, &shutdown).await });
            }
            workers.join_all().await;
        }
        .boxed()
    });
}

/// Reconciles one key after the other until `shutdown`. A key whose reconcile panics has failed as with any
/// error: it is retried with back-off, and the others are not affected.
async fn work<C: Controller>(controller: &C, queue: &C::Queue, shutdown: &CancellationToken) {
    while let Some(key) = shutdown.run_until_cancelled(queue.next()).await {
        let reconciled = AssertUnwindSafe(async { controller.reconcile(&key).await });
        let outcome = reconciled.catch_unwind().await.unwrap_or(Err(Error::Panicked));
        if let Err(error) = &outcome {
            if error.is_routine() {
                tracing::debug!(controller = C::NAME, %key, %error, "will retry");
            } else {
                tracing::warn!(controller = C::NAME, %key, %error, "will retry");
            }
        }
        queue.done(key, outcome.as_ref().copied());
    }
}

/// The key of an object's namespace.
pub(crate) fn namespace_key<K: Resource>(object: &K) -> ObjectKey {
    ObjectKey::new("", object.meta().namespace.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Panics at the first try of each key that begins so, and notes what it has reconciled.
    #[derive(Default)]
    struct Panics {
        tried: Mutex<Vec<String>>,
    }

    impl Controller for Panics {
        const NAME: &'static str = "panics";
        const WORKERS: usize = 1;
        type Queue = Queue<ObjectKey>;

        fn watches(_: &mut Watches<'_, Self>) {}

        async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
            let is_first = {
                let mut tried = self.tried.lock();
                tried.push(key.name.clone());
                tried.iter().filter(|name| **name == key.name).count() == 1
            };
            assert!(!(is_first && key.name.starts_with("panic")), "{} of a user", key.name);
            Ok(Next::Change)
        }
    }

    /// One pod's status ended all controllers, and the API server with them, at every start again.
    #[tokio::test(start_paused = true)]
    async fn a_key_whose_reconcile_panics_is_retried_and_others_are_reconciled() {
        let (controller, queue) = (Panics::default(), Queue::default());
        for name in ["panic-1", "fine", "panic-2"] {
            queue.add(ObjectKey::new("ns", name));
        }
        let shutdown = CancellationToken::new();
        let until = async {
            while controller.tried.lock().len() < 5 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            shutdown.cancel();
        };
        tokio::join!(work(&controller, &queue, &shutdown), until);
        let mut tried = controller.tried.lock().clone();
        assert_eq!(tried[..3], ["panic-1", "fine", "panic-2"]);
        tried[3..].sort();
        assert_eq!(tried[3..], ["panic-1", "panic-2"]);
    }
}
