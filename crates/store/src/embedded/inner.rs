//! The state that all handles of a store share, and reads of it.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;

use super::hub::Hub;
use super::index::Index;
use super::log::View;
use super::options::Options;
use super::readers::Readers;
use super::writer::Job;
use crate::{Revision, StoreError};

/// The shared state of a store.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) options: Options,
    pub(super) index: Arc<RwLock<Index>>,
    pub(super) hub: Hub,
    pub(super) readers: Readers,
    pub(super) jobs: mpsc::Sender<Job>,
    /// Places in the writer's queue. Closed by shutdown.
    pub(super) places: Arc<Semaphore>,
    pub(super) writer: Mutex<Option<JoinHandle<()>>>,
}

impl Inner {
    /// The oldest and the newest revision that can be read.
    pub(super) fn served(&self) -> (Revision, Revision) {
        let index = self.index.read();
        (index.oldest(), index.newest())
    }

    /// Runs a read on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&RwLock<Index>, &View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let index = Arc::clone(&self.index);
        self.readers.read(move |view| read(&index, view)).await
    }

    /// The same, of the newest state: if a compaction overtakes the read, it reads a newer one.
    pub(super) async fn read_newest<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&RwLock<Index>, &View<'_>) -> Result<T, StoreError> + Send + Clone + 'static,
    ) -> Result<T, StoreError> {
        loop {
            match self.read(read.clone()).await {
                Err(StoreError::Compacted { .. }) => {}
                outcome => return outcome,
            }
        }
    }
}
