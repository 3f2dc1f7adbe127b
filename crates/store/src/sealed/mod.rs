//! The encryption layer every secret passes: a store over another store.
//!
//! Values whose key starts with one of the given prefixes are sealed on their way down and opened
//! on their way up, in reads, lists and watches alike; all others pass as they are. The form of a
//! sealed value is in [`envelope`], the keys are in [`keyring`]. A value that does not open is
//! [`StoreError::Sealed`], never an empty or a missing one.

mod envelope;
mod keyring;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};

use crate::{Change, Event, ListOptions, Page, Revision, Store, StoreError, Value, Versioned};
pub use keyring::{KeyFileError, KeyId, Keyring};

/// Pages with more items than this are opened on a thread that may be busy for long.
const INLINE_ITEMS_MAX: usize = 16;

/// A store that keeps the values under some prefixes sealed.
#[derive(Clone, Debug)]
pub struct Sealed<S> {
    store: S,
    seal: Seal,
}

/// The keys, and where they apply.
#[derive(Clone, Debug)]
struct Seal {
    keyring: Arc<Keyring>,
    prefixes: Arc<[String]>,
}

/// Why a sealed store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The key file is not usable.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// There are sealed values but no key file. A new key would not open them.
    #[error("key file {} is missing, and the store holds values sealed with it", path.display())]
    KeyFileMissing {
        /// Where the key file should be.
        path: PathBuf,
    },
    /// The store could not be asked whether it holds sealed values.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<S: Store> Sealed<S> {
    /// Seals the values under `prefixes` with the keys of a ring.
    pub fn new(store: S, keyring: Keyring, prefixes: &[&str]) -> Self {
        let prefixes = prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
        Self { store, seal: Seal { keyring: Arc::new(keyring), prefixes } }
    }

    /// The same with the keys of a file, which is made if the store holds nothing to be opened yet.
    pub async fn open(store: S, key_file: &Path, prefixes: &[&str]) -> Result<Self, OpenError> {
        if let Some(keyring) = Keyring::load(key_file)? {
            return Ok(Self::new(store, keyring, prefixes));
        }
        for prefix in prefixes {
            let one = ListOptions { limit: Some(1), ..ListOptions::default() };
            if !store.list(prefix, one).await?.items.is_empty() {
                return Err(OpenError::KeyFileMissing { path: key_file.to_owned() });
            }
        }
        let keyring = Keyring::generate()?;
        keyring.store_new(key_file)?;
        tracing::info!(key_file = %key_file.display(), "generated a sealing key");
        Ok(Self::new(store, keyring, prefixes))
    }

    /// The store beneath, in which values are sealed.
    pub fn inner(&self) -> &S {
        &self.store
    }
}

impl Seal {
    fn applies(&self, key: &str) -> bool {
        self.prefixes.iter().any(|prefix| key.starts_with(&**prefix))
    }

    fn seal(&self, key: &str, value: Value) -> Result<Value, StoreError> {
        if !self.applies(key) {
            return Ok(value);
        }
        let sealed = envelope::seal(&self.keyring, key, value.as_bytes())
            .map_err(|failure| sealed_error(key, &failure))?;
        Ok(Value::sealed(sealed, key, value))
    }

    fn open(&self, key: &str, value: Value) -> Result<Value, StoreError> {
        if !self.applies(key) {
            return Ok(value);
        }
        // The event of a write of our own, as the engine hands it on: a tenth of what a durable
        // create costs went into opening what had just been sealed.
        if let Some(plain) = value.sealed_from(key) {
            return Ok(plain.clone());
        }
        envelope::open(&self.keyring, key, value.as_bytes())
            .map_err(|failure| sealed_error(key, &failure))
    }

    fn open_item(&self, mut item: Versioned) -> Result<Versioned, StoreError> {
        item.value = self.open(&item.key, item.value)?;
        Ok(item)
    }

    fn open_page(&self, page: Page) -> Result<Page, StoreError> {
        let items = page.items.into_iter().map(|item| self.open_item(item));
        Ok(Page { items: items.collect::<Result<_, _>>()?, ..page })
    }

    fn open_event(&self, event: Event) -> Result<Event, StoreError> {
        let change = match event.change {
            Change::Created(value) => Change::Created(self.open(&event.key, value)?),
            Change::Updated(value) => Change::Updated(self.open(&event.key, value)?),
            Change::Deleted => Change::Deleted,
        };
        Ok(Event { change, ..event })
    }
}

fn sealed_error(key: &str, failure: &dyn std::error::Error) -> StoreError {
    StoreError::Sealed { key: key.to_owned(), reason: failure.to_string() }
}

#[async_trait]
impl<S: Store> Store for Sealed<S> {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        self.store.get(key).await?.map(|item| self.seal.open_item(item)).transpose()
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<Page, StoreError> {
        let page = self.store.list(prefix, options).await?;
        if page.items.len() <= INLINE_ITEMS_MAX {
            return self.seal.open_page(page);
        }
        let seal = self.seal.clone();
        let opened = tokio::task::spawn_blocking(move || seal.open_page(page)).await;
        opened.map_err(|stopped| StoreError::Closed(stopped.to_string()))?
    }

    async fn create(&self, key: &str, value: Value) -> Result<Revision, StoreError> {
        let value = self.seal.seal(key, value)?;
        self.store.create(key, value).await
    }

    async fn update(
        &self,
        key: &str,
        value: Value,
        expected: Revision,
    ) -> Result<Revision, StoreError> {
        let value = self.seal.seal(key, value)?;
        self.store.update(key, value, expected).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, StoreError> {
        self.store.delete(key, expected).await
    }

    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Event, StoreError>>, StoreError> {
        let events = self.store.watch(prefix, after).await?;
        let seal = self.seal.clone();
        Ok(stream::unfold(Some(events), move |events| {
            let seal = seal.clone();
            async move {
                let mut events = events?;
                let event = events.next().await?.and_then(|event| seal.open_event(event));
                // As everywhere, the stream ends after an error.
                let rest = event.is_ok().then_some(events);
                Some((event, rest))
            }
        })
        .boxed())
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.store.revision().await
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        self.store.compact(before).await
    }
}
