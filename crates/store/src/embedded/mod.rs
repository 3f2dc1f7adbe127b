//! The engine that needs nothing beside it: one directory, one process, one writer thread.
//!
//! A write goes [`writer`] → [`log`] (SQLite, fsynced) → [`index`] (memory) → [`hub`] (watchers) →
//! its caller. A read takes a view of the log and asks the index ([`list`]); it waits for no write.
//! A watch reads the log, then listens to the hub ([`watch`]). Why SQLite, and why only as a log:
//! `docs/decisions/0001-storage-engine.md`.

mod checkpoint;
mod directory;
mod hub;
mod index;
mod list;
mod log;
mod quota;
mod readers;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::{Semaphore, oneshot};

use crate::{Event, ListOptions, Page, Revision, Store, StoreError, Value, Versioned};
use directory::DataDir;
use hub::Hub;
use index::{Contradiction, Index};
use log::{LogError, LogWriter, Sink, View};
use readers::Readers;
use writer::{Job, UNPOISONED, Write, WriteJob, Writer};

/// Longer keys are refused.
pub const KEY_BYTES_MAX: usize = 4096;
/// Longer values are refused. What the API server takes of an object is less: see its registry.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// What a store may hold unless told otherwise: etcd's default.
pub const QUOTA_BYTES: u64 = 2 << 30;

/// Log entries read at once while the store opens.
const LOAD_ENTRIES: usize = 8192;

/// The limits of an embedded store.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a replaced state can still be listed and watched from; kept between once and twice
    /// this long.
    pub history: Duration,
    /// Compacts earlier when there are more writes than this in the history.
    pub history_writes_max: u64,
    /// Compacts earlier when replaced and removed values of the history take more bytes than this.
    pub history_bytes_max: usize,
    /// Bytes of the database in use, history included, beyond which writes that grow are
    /// [`StoreError::NoSpace`] until there is room again.
    pub quota_bytes: u64,
    /// Writes that wait for the writer; more wait outside, in order.
    pub write_queue_max: usize,
    /// Writes that share one fsync.
    pub batch_writes_max: usize,
    /// Bytes of values after which a batch takes no further write.
    pub batch_bytes_max: usize,
    /// Events that wait for one watcher; one more and it is [`StoreError::Lagged`].
    pub watch_queue_max: usize,
    /// Reads that touch the disk at the same time; more wait.
    pub readers_max: usize,
    /// Memory for pages of the database, for each reader and for the writer.
    pub cache_kib: u32,
    /// Bytes in SQLite's write-ahead log before they are copied into the database.
    pub checkpoint_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history: Duration::from_secs(5 * 60),
            history_writes_max: 1_000_000,
            history_bytes_max: 128 << 20,
            quota_bytes: QUOTA_BYTES,
            write_queue_max: 1024,
            batch_writes_max: 256,
            batch_bytes_max: 4 << 20,
            watch_queue_max: 4096,
            readers_max: 4,
            cache_kib: 2048,
            checkpoint_bytes: 8 << 20,
        }
    }
}

/// Why a data directory did not open. Each names the directory.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("data directory {} is in use by another process", dir.display())]
    InUse {
        /// The data directory.
        dir: PathBuf,
    },
    /// It cannot be made, entered or written.
    #[error("data directory {} cannot be used: {source}", dir.display())]
    Directory {
        /// The data directory.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A newer release wrote it.
    #[error("data directory {} has format {found}; this release knows {known}", dir.display())]
    Format {
        /// The data directory.
        dir: PathBuf,
        /// The format found.
        found: i32,
        /// The newest format this release reads.
        known: i32,
    },
    /// What is in it is not a whole store.
    #[error("data directory {} is damaged: {reason}", dir.display())]
    Corrupt {
        /// The data directory.
        dir: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The database did not open for another reason.
    #[error("data directory {} does not open: {source}", dir.display())]
    Database {
        /// The data directory.
        dir: PathBuf,
        /// What the database said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A store in a local directory. Cloning makes another handle on the same store; the last handle
/// dropped closes it in its own time, [`Embedded::shutdown`] waits until that is done.
#[derive(Clone, Debug)]
pub struct Embedded {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    index: Arc<RwLock<Index>>,
    hub: Hub,
    readers: Readers,
    jobs: mpsc::Sender<Job>,
    /// Places in the writer's queue. Closed by shutdown.
    places: Arc<Semaphore>,
    writer: Mutex<Option<JoinHandle<()>>>,
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
                // Given back last, when the database is closed.
                drop(held);
            })
            .map_err(|source| OpenError::Directory { dir, source })?;
        let writer = Mutex::new(Some(writer));
        Ok(Self { inner: Arc::new(Inner { options, index, hub, readers, jobs, places, writer }) })
    }

    /// Refuses new writes, answers those that are queued, ends every watch, closes the database and
    /// gives the directory back.
    pub async fn shutdown(self) {
        self.inner.places.close();
        // Fails only if the writer has ended already.
        let _ = self.inner.jobs.send(Job::Stop);
        self.inner.readers.close().await;
        let writer = self.inner.writer.lock().expect("nothing panics while it holds this").take();
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
        let (answer, answered) = oneshot::channel();
        let job = WriteJob { key: key.into(), write, answer, place };
        self.inner.jobs.send(Job::Write(job)).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

/// As much of a key as an error should carry.
fn abridged(key: &str) -> String {
    key.chars().take(KEY_BYTES_MAX / 4).collect()
}

fn closed() -> StoreError {
    StoreError::Closed("the store is shut down".to_owned())
}

/// Reads the index out of the log.
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

impl Inner {
    /// The oldest and the newest revision that reads are answered at.
    fn served(&self) -> (Revision, Revision) {
        let index = self.index.read().expect(UNPOISONED);
        (index.oldest(), index.newest())
    }

    /// Runs a read on a thread that may block.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&RwLock<Index>, &View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let index = Arc::clone(&self.index);
        self.readers.read(move |view| read(&index, view)).await
    }

    /// The same, of the newest state: if a compaction overtakes the read, it reads a newer one.
    async fn read_newest<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&RwLock<Index>, &View<'_>) -> Result<T, StoreError> + Send + Clone + 'static,
    ) -> Result<T, StoreError> {
        loop {
            match self.read(read.clone()).await {
                Err(StoreError::Compacted { .. }) => {}
                answered => return answered,
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
        let (answer, answered) = oneshot::channel();
        self.inner.jobs.send(Job::Compact { before, answer }).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}
