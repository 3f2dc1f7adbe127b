//! Checkpoints: copies SQLite's write-ahead log into the database without blocking the writer.
//!
//! By default SQLite does this within a commit, and all later writes wait while megabytes are written and
//! fsynced. Here a separate thread copies while commits continue. When it has nearly caught up it notifies the
//! writer, which copies the last few pages between two batches. The write-ahead log is then completely copied,
//! and the next commit restarts it. Only if the checkpoint cannot keep up at all does the writer wait for it.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::connection::{LogError, connect};
use super::options::Options;

const PAGE_BYTES: usize = 4096;
/// The log may grow to this multiple of its size at a checkpoint before the writer waits.
const BEHIND_MAX: i64 = 4;
/// Rounds of copying before the writer finishes, whatever is left.
const ROUNDS_MAX: usize = 4;
/// A round that copied fewer pages than this was the last one needed.
const NEARLY_DONE_PAGES: i64 = 200;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Idle,
    Requested,
    Copying,
    /// The writer may finish.
    Copied,
    Stop,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// The writer's side of the checkpoint.
#[derive(Debug)]
pub(super) struct Checkpointer {
    shared: Shared,
    thread: Option<JoinHandle<()>>,
    limit_pages: i64,
}

impl Checkpointer {
    pub(super) fn start(file: &Path, options: &Options) -> Result<Self, LogError> {
        let connection = connect(file, options)?;
        let shared: Shared = Arc::new((Mutex::new(State::Idle), Condvar::new()));
        let copier = Copier { connection, shared: Arc::clone(&shared) };
        let thread = std::thread::Builder::new().name("store-checkpoint".to_owned());
        let thread = thread.spawn(move || copier.run()).map_err(LogError::from_io)?;
        let limit_pages = i64::try_from(options.checkpoint_bytes / PAGE_BYTES).unwrap_or(i64::MAX);
        Ok(Self { shared, thread: Some(thread), limit_pages })
    }

    /// Between two batches: starts a checkpoint, or finishes one on the writer's own connection.
    ///
    /// A failed checkpoint loses nothing, because the log keeps what is not copied; it is retried.
    pub(super) fn maintain(&self, connection: &Connection) {
        if let Err(error) = self.try_maintain(connection) {
            tracing::warn!(%error, "WAL checkpoint failed, retrying");
        }
    }

    fn try_maintain(&self, connection: &Connection) -> Result<(), LogError> {
        let pages = checkpoint(connection, "NOOP")?.log;
        if pages < self.limit_pages {
            return Ok(());
        }
        let (state, changed) = &*self.shared;
        let mut state = state.lock();
        if pages >= self.limit_pages.saturating_mul(BEHIND_MAX) {
            while matches!(*state, State::Requested | State::Copying) {
                changed.wait(&mut state);
            }
        }
        match *state {
            State::Idle => {
                *state = State::Requested;
                changed.notify_all();
            }
            State::Copied => {
                // The thread is idle until the next request.
                *state = State::Idle;
                checkpoint(connection, "PASSIVE")?;
            }
            State::Requested | State::Copying | State::Stop => {}
        }
        Ok(())
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        let (state, changed) = &*self.shared;
        *state.lock() = State::Stop;
        changed.notify_all();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the store's checkpoint thread panicked");
        }
    }
}

/// The thread's side.
struct Copier {
    connection: Connection,
    shared: Shared,
}

impl Copier {
    fn run(self) {
        while self.until_requested() {
            for _ in 0..ROUNDS_MAX {
                match copy(&self.connection) {
                    Ok(pages) if pages >= NEARLY_DONE_PAGES => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "WAL checkpoint failed, retrying");
                        break;
                    }
                }
            }
            let (state, changed) = &*self.shared;
            let mut state = state.lock();
            if *state == State::Copying {
                *state = State::Copied;
            }
            changed.notify_all();
        }
    }

    /// Waits until a checkpoint is requested; false if there will be none.
    fn until_requested(&self) -> bool {
        let (state, changed) = &*self.shared;
        let mut state = state.lock();
        loop {
            match *state {
                State::Requested => {
                    *state = State::Copying;
                    return true;
                }
                State::Stop => return false,
                _ => changed.wait(&mut state),
            }
        }
    }
}

/// The number of pages in the log, and how many of them are copied.
struct Progress {
    log: i64,
    copied: i64,
}

/// Copies what is in the log at this moment; returns the number of pages.
fn copy(connection: &Connection) -> Result<i64, LogError> {
    let before = checkpoint(connection, "NOOP")?;
    let after = checkpoint(connection, "PASSIVE")?;
    Ok(after.copied - before.copied)
}

/// Mode NOOP only reads the progress.
fn checkpoint(connection: &Connection, mode: &str) -> Result<Progress, LogError> {
    let mut statement = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    Ok(statement.query_row([], |row| Ok(Progress { log: row.get(1)?, copied: row.get(2)? }))?)
}
