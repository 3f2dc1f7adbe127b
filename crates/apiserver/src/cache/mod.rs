//! The watch cache: every object of every kind as encoded bytes, and the recent past.
//!
//! One task reads one watch of the whole store and applies events in revision order, so "the cache
//! has seen revision N" is one number. Reads wait until that number reaches the store's, which
//! makes a GET or LIST from here as fresh as one from the store. The cache does not decide who may
//! see what and does not encode for a client; it holds what the registry wrote.

mod inbox;
mod note;
mod objects;
mod shard;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coffer_store::{Change, Event, ListOptions, Revision, Store, StoreError, Value};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

pub(crate) use inbox::{Initial, NoEvent, time_for_state};
pub(crate) use note::{Described, Entry, Facts, Note};
pub(crate) use shard::{Observer, Scope, Shard, Start, Subscription};

/// How long a read waits for the cache to reach the store before it gives up (503).
const FRESH_WAIT: Duration = Duration::from_secs(3);
/// How long the reader of the store pauses before it lists again after its watch broke.
const RESYNC_PAUSE: Duration = Duration::from_millis(200);
/// How often it is looked which watchers are too slow.
const LATE_EVERY: Duration = Duration::from_secs(5);

/// One object as it is served.
pub(crate) struct CachedObject {
    pub(crate) key: Arc<str>,
    pub(crate) revision: Revision,
    /// The encoding with its resourceVersion. Of what cannot be decoded, what is stored.
    pub(crate) bytes: Bytes,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Selectable fields beyond `metadata.name` and `metadata.namespace`.
    pub(crate) fields: Vec<(&'static str, String)>,
    /// Whether it was decoded. What was not is known by its key only: it has no labels and no fields, those
    /// that ask for all of it get an error, and it can be deleted.
    pub(crate) is_decoded: bool,
}

/// One write, with the object before and after it.
pub(crate) struct CacheEvent {
    pub(crate) revision: Revision,
    pub(crate) old: Option<Arc<CachedObject>>,
    pub(crate) new: Option<Arc<CachedObject>>,
}

impl CachedObject {
    fn of(key: &str, revision: Revision, bytes: Bytes, entry: Entry) -> Self {
        let Entry { namespace, name, labels, fields } = entry;
        let is_decoded = true;
        Self { key: key.into(), revision, bytes, namespace, name, labels, fields, is_decoded }
    }

    /// What a value is that cannot be decoded, by its key below the prefix of its kind.
    fn undecoded(key: &str, prefix: &str, revision: Revision, bytes: Bytes) -> Self {
        let path = key.strip_prefix(prefix).unwrap_or(key);
        let (namespace, name) = path.split_once('/').unwrap_or(("", path));
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let entry = Entry { namespace, name, ..Entry::default() };
        Self { is_decoded: false, ..Self::of(key, revision, bytes, entry) }
    }

    /// The value of a selectable field beyond name and namespace, if the kind has it.
    pub(crate) fn field(&self, field: &str) -> Option<&String> {
        self.fields.iter().find(|(name, _)| *name == field).map(|(_, value)| value)
    }
}

impl CacheEvent {
    /// The object before the write and after it, as far as there was one.
    fn states(&self) -> impl Iterator<Item = &CachedObject> {
        self.old.iter().chain(&self.new).map(|object| &**object)
    }

    /// The object after the write, or the last one before it.
    pub(crate) fn subject(&self) -> &CachedObject {
        self.new.as_ref().or(self.old.as_ref()).expect("an event has a state before or after it")
    }
}

/// Reads what a stored value says about itself. Errors are one line without any of the value's bytes.
pub(crate) trait Index: Send + Sync {
    /// The bytes that are served: with the resourceVersion.
    fn stamp(&self, value: &[u8], revision: Revision) -> Result<Bytes, String>;

    /// What the object is found by. No more of the value is decoded than that takes.
    fn entry(&self, value: &[u8]) -> Result<Entry, String>;

    /// The same of a value that is decoded as a whole, with a look at the typed object.
    fn whole(&self, value: &[u8], look: &mut dyn FnMut(&dyn Any)) -> Result<Entry, String>;
}

/// What one kind brings to the cache.
pub(crate) struct ShardSource {
    pub(crate) prefix: String,
    pub(crate) index: Arc<dyn Index>,
}

/// Why a read from the cache failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the watch cache is {behind} revisions behind the store")]
    Stale { behind: u64 },
}

/// All shards and the one reader that feeds them.
pub(crate) struct Cache {
    store: Arc<dyn Store>,
    shards: Vec<Arc<Shard>>,
    applied: tokio::sync::watch::Sender<Revision>,
}

impl Cache {
    /// Loads everything the store holds. A value that cannot be decoded is logged and kept by its key: it must
    /// not keep the server from its start.
    pub(crate) async fn load(
        store: Arc<dyn Store>,
        sources: Vec<ShardSource>,
    ) -> Result<Self, CacheError> {
        let shards = sources.into_iter().map(|source| Arc::new(Shard::new(source))).collect();
        let cache = Self { store, shards, applied: tokio::sync::watch::Sender::new(0) };
        cache.reload().await?;
        Ok(cache)
    }

    /// Lists every shard at one revision and forgets the past before it.
    async fn reload(&self) -> Result<Revision, CacheError> {
        let revision = self.store.revision().await?;
        for shard in &self.shards {
            let options = ListOptions { revision: Some(revision), ..Default::default() };
            let page = self.store.list(shard.prefix(), options).await?;
            let mut objects = Vec::with_capacity(page.items.len());
            for item in page.items {
                objects.push(shard.take_in(&item.key, &item.value, item.revision));
            }
            shard.reset(objects, revision);
        }
        self.applied.send_replace(revision);
        Ok(revision)
    }

    /// Follows the store until `shutdown`. After a broken watch it lists again; watchers
    /// are ended then, and the revision that they ask to resume from is too old.
    pub(crate) async fn follow(&self, shutdown: CancellationToken) {
        loop {
            let ended = shutdown.run_until_cancelled(self.follow_once()).await;
            let Some(error) = ended else { break };
            tracing::warn!(%error, "the store's watch ended; listing again");
            tokio::time::sleep(RESYNC_PAUSE).await;
            match self.reload().await {
                Ok(_) => {}
                Err(CacheError::Store(StoreError::Closed(_))) if shutdown.is_cancelled() => break,
                Err(error) => tracing::error!(%error, "the watch cache could not be reloaded"),
            }
        }
        for shard in &self.shards {
            shard.end_watchers();
        }
    }

    /// Ends watchers that are too slow with the state they begin with, for as long as it is polled.
    pub(crate) async fn end_late_watchers(&self) {
        let mut ticks = tokio::time::interval(LATE_EVERY);
        loop {
            let now = ticks.tick().await;
            for shard in &self.shards {
                shard.end_late_watchers(now);
            }
        }
    }

    async fn follow_once(&self) -> CacheError {
        let from = *self.applied.borrow();
        let mut events = match self.store.watch("/", from).await {
            Ok(events) => events,
            Err(error) => return error.into(),
        };
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.applied.send_replace(self.apply(event)),
                Err(error) => return error.into(),
            };
        }
        StoreError::Closed("the watch stream ended".to_owned()).into()
    }

    fn apply(&self, event: Event) -> Revision {
        if let Some(shard) = self.shard(&event.key) {
            let value: Option<Value> = match event.change {
                Change::Created(value) | Change::Updated(value) => Some(value),
                Change::Deleted => None,
            };
            let new = value.map(|value| shard.take_in(&event.key, &value, event.revision));
            shard.apply(&event.key, event.revision, new);
        }
        event.revision
    }

    fn shard(&self, key: &str) -> Option<&Arc<Shard>> {
        self.shards.iter().find(|shard| key.starts_with(shard.prefix()))
    }

    /// The shard that holds a prefix.
    pub(crate) fn of(&self, prefix: &str) -> Arc<Shard> {
        self.shard(prefix).expect("every served resource has a shard").clone()
    }

    /// The newest revision applied.
    pub(crate) fn revision(&self) -> Revision {
        *self.applied.borrow()
    }

    /// Waits until everything written before this call is applied; returns that revision.
    pub(crate) async fn fresh(&self) -> Result<Revision, CacheError> {
        let target = self.store.revision().await?;
        self.reach(target).await?;
        Ok(self.revision())
    }

    /// Waits until a revision is applied.
    pub(crate) async fn reach(&self, target: Revision) -> Result<(), CacheError> {
        // Mostly it is: a read then costs no timer.
        if self.revision() >= target {
            return Ok(());
        }
        let mut applied = self.applied.subscribe();
        let waited = tokio::time::timeout(FRESH_WAIT, applied.wait_for(|now| *now >= target)).await;
        match waited {
            Ok(_) => Ok(()),
            Err(_) => Err(CacheError::Stale { behind: target.saturating_sub(self.revision()) }),
        }
    }
}
