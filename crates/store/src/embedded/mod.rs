//! The embedded engine: one directory, one process, one writer thread.
//!
//! A write goes [`writer`] → [`log`] (SQLite, fsynced) → [`index`] (memory) → [`hub`] (watchers) →
//! its caller. A read takes a view of the log and asks the index ([`list`]); it waits for no write.
//! A watch reads the log, then listens to the hub ([`watch`]). Why SQLite, and why only as a log:
//! `docs/decisions/0001-storage-engine.md`.

mod checkpoint;
mod connection;
mod directory;
mod error;
mod hub;
mod index;
mod inner;
mod list;
mod log;
mod options;
mod quota;
mod readers;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use futures::stream::BoxStream;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, oneshot};

use crate::{Event, ListOptions, Page, Revision, Store, StoreError, Value, Versioned};
use connection::LogError;
use directory::DataDir;
pub use error::OpenError;
use error::closed;
use hub::Hub;
use index::{Contradiction, Index};
use inner::Inner;
use log::{LogWriter, Sink, View};
pub use options::{Options, QUOTA_BYTES};
use readers::Readers;
use writer::{Job, Write, WriteJob, Writer};

/// Longer keys are rejected.
pub const KEY_BYTES_MAX: usize = 4096;
/// Longer values are rejected. The API server's limit for objects is lower: see its registry.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// Log entries per read while the store opens.
const LOAD_ENTRIES: usize = 8192;

/// A store in a local directory. Cloning makes another handle on the same store; the last handle
/// dropped closes it in its own time, [`Embedded::shutdown`] waits until that is done.
#[derive(Clone, Debug)]
pub struct Embedded {
    inner: Arc<Inner>,
}

impl Embedded {
    /// Opens the store in `dir`, making the directory (mode 0700) if it is not there.
    ///
    /// Blocks while it reads the log: about a microsecond for each key and each state of the history.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let held = DataDir::hold(dir)?;
        let sink = LogWriter::open(dir, &held.database(), &options)?;
        Self::over(held, sink, options)
    }

    fn over<S: Sink + 'static>(
        held: DataDir,
        sink: S,
        options: Options,
    ) -> Result<Self, OpenError> {
        let readers = Readers::new(held.database(), &options);
        let index = load(&readers).map_err(|reason| reason.on_open(held.path()))?;
        let hub = Hub::new(index.newest());
        let index = Arc::new(RwLock::new(index));
        let (jobs, queue) = mpsc::channel();
        let places = Arc::new(Semaphore::new(options.write_queue_max));
        let writer = Writer::new(sink, Arc::clone(&index), hub.clone(), options.clone());
        let dir = held.path().to_owned();
        let thread = std::thread::Builder::new().name("store-writer".to_owned());
        let writer = thread
            .spawn(move || {
                writer.run(&queue);
                // Unlocked last, when the database is closed.
                drop(held);
            })
            .map_err(|source| OpenError::Directory { dir, source })?;
        let writer = Mutex::new(Some(writer));
        Ok(Self { inner: Arc::new(Inner { options, index, hub, readers, jobs, places, writer }) })
    }

    /// Refuses new writes, completes those that are queued, ends every watch, closes the database and unlocks
    /// the directory.
    pub async fn shutdown(self) {
        self.inner.places.close();
        // Fails only if the writer has ended already.
        let _ = self.inner.jobs.send(Job::Stop);
        self.inner.readers.close().await;
        let writer = self.inner.writer.lock().take();
        let joined = tokio::task::spawn_blocking(|| writer.map(JoinHandle::join)).await;
        if let Ok(Some(Err(_))) | Err(_) = joined {
            tracing::error!("the store's writer panicked");
        }
    }

    async fn write(&self, key: &str, write: Write) -> Result<Revision, StoreError> {
        let bytes = write.len();
        if key.len() > KEY_BYTES_MAX || bytes > VALUE_BYTES_MAX {
            return Err(StoreError::TooLarge { key: abridged(key), bytes });
        }
        let place = Arc::clone(&self.inner.places).acquire_owned().await.map_err(|_| closed())?;
        let (result, written) = oneshot::channel();
        let job = WriteJob { key: key.into(), write, result, place };
        self.inner.jobs.send(Job::Write(job)).map_err(|_| closed())?;
        written.await.map_err(|_| closed())?
    }
}

/// As much of a key as an error should contain.
fn abridged(key: &str) -> String {
    key.chars().take(KEY_BYTES_MAX / 4).collect()
}

/// Loads the index from the log.
fn load(readers: &Readers) -> Result<Index, LoadError> {
    let reader = readers.open()?;
    let view = reader.view()?;
    let mut index = Index::since(view.oldest());
    let mut after = 0;
    loop {
        let entries = view.entries(after, LOAD_ENTRIES)?;
        let Some(last) = entries.last() else { return Ok(index) };
        after = last.revision;
        for entry in &entries {
            index.apply(entry)?;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
}

impl LoadError {
    fn on_open(self, dir: &Path) -> OpenError {
        match self {
            Self::Log(error) => error.on_open(dir),
            Self::Contradiction(error) => {
                OpenError::Corrupt { dir: dir.to_owned(), reason: error.to_string() }
            }
        }
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        let key: Arc<str> = key.into();
        self.inner.read_newest(move |index, view| list::get(index, view, &key)).await
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<Page, StoreError> {
        let prefix: Arc<str> = prefix.into();
        let newest = options.revision.is_none();
        let read = move |index: &RwLock<Index>, view: &View<'_>| {
            list::list(index, view, &prefix, &options)
        };
        if newest { self.inner.read_newest(read).await } else { self.inner.read(read).await }
    }

    async fn create(&self, key: &str, value: Value) -> Result<Revision, StoreError> {
        self.write(key, Write::Create(value)).await
    }

    async fn update(
        &self,
        key: &str,
        value: Value,
        expected: Revision,
    ) -> Result<Revision, StoreError> {
        self.write(key, Write::Update(value, expected)).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, StoreError> {
        self.write(key, Write::Delete(expected)).await
    }

    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Event, StoreError>>, StoreError> {
        watch::watch(Arc::clone(&self.inner), prefix, after)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.inner.served().1)
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        let (result, compacted) = oneshot::channel();
        self.inner.jobs.send(Job::Compact { before, result }).map_err(|_| closed())?;
        compacted.await.map_err(|_| closed())?
    }
}
