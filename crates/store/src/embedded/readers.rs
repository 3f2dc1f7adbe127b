//! Connections for reads, a bounded number of them, used in turns.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::connection::LogError;
use super::error::closed;
use super::log::{LogReader, View};
use super::options::Options;
use crate::StoreError;

/// Opens connections as they are first needed, and keeps them.
#[derive(Debug)]
pub(super) struct Readers {
    file: PathBuf,
    options: Options,
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<LogReader>>>,
}

impl Readers {
    pub(super) fn new(file: PathBuf, options: &Options) -> Self {
        let turns = Arc::new(Semaphore::new(options.readers_max));
        Self { file, options: options.clone(), turns, idle: Arc::default() }
    }

    pub(super) fn open(&self) -> Result<LogReader, LogError> {
        LogReader::open(&self.file, &self.options)
    }

    /// Runs the read on a thread that may block, over a view that it alone uses.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| closed())?;
        let idle = Arc::clone(&self.idle);
        let reader = match idle.lock().pop() {
            Some(reader) => reader,
            None => self.open()?,
        };
        let outcome = tokio::task::spawn_blocking(move || {
            let outcome = reader.view().map_err(StoreError::from).and_then(|view| read(&view));
            idle.lock().push(reader);
            drop(turn);
            outcome
        });
        outcome.await.map_err(|stopped| StoreError::Closed(stopped.to_string()))?
    }

    /// Waits for the reads under way, refuses later ones and closes the connections.
    pub(super) async fn close(&self) {
        let all = u32::try_from(self.options.readers_max).unwrap_or(u32::MAX);
        // An error means that it is closed already.
        let _idle = self.turns.acquire_many(all).await;
        self.turns.close();
        self.idle.lock().clear();
    }
}
