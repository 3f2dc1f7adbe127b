//! Copies SQLite's write-ahead log into the database beside the writer, not in its way.
//!
//! Left alone, SQLite does this within a commit, and every write behind that commit waits while
//! megabytes are written and fsynced. Here a thread of its own copies while commits go on; when it
//! has nearly caught up it says so, and the writer, between two batches, copies the few pages that
//! came last. The write-ahead log is then wholly copied, and the next commit begins it anew. It is
//! only when the copying cannot keep up at all that the writer waits for it.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::Options;
use super::log::{LogError, connect};

const PAGE_BYTES: usize = 4096;
/// The log may grow to this many times its size at a checkpoint before the writer waits.
const BEHIND_MAX: i64 = 4;
/// Rounds of copying before the writer is asked to finish, whatever is left.
const ROUNDS_MAX: usize = 4;
/// A round that copied fewer pages than this was the last one needed.
const NEARLY_DONE_PAGES: i64 = 200;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Idle,
    Asked,
    Copying,
    /// The writer may finish.
    Copied,
    Stop,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// The writer's side of the copying.
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

    /// Between two batches: starts a copy, or finishes one on the writer's own connection.
    ///
    /// A copy that fails loses nothing, for the log keeps what is not copied; it is tried again.
    pub(super) fn maintain(&self, connection: &Connection) {
        if let Err(error) = self.try_maintain(connection) {
            tracing::warn!(%error, "the store's log is not copied");
        }
    }

    fn try_maintain(&self, connection: &Connection) -> Result<(), LogError> {
        let pages = checkpoint(connection, "NOOP")?.log;
        if pages < self.limit_pages {
            return Ok(());
        }
        let (_, changed) = &*self.shared;
        let mut state = lock(&self.shared);
        if pages >= self.limit_pages.saturating_mul(BEHIND_MAX) {
            while matches!(*state, State::Asked | State::Copying) {
                state = changed.wait(state).expect(UNPOISONED);
            }
        }
        match *state {
            State::Idle => {
                *state = State::Asked;
                changed.notify_all();
            }
            State::Copied => {
                // The other side does nothing before it is asked again.
                *state = State::Idle;
                checkpoint(connection, "PASSIVE")?;
            }
            State::Asked | State::Copying | State::Stop => {}
        }
        Ok(())
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        *lock(&self.shared) = State::Stop;
        self.shared.1.notify_all();
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
        while self.await_order() {
            for _ in 0..ROUNDS_MAX {
                match copy(&self.connection) {
                    Ok(pages) if pages >= NEARLY_DONE_PAGES => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "the store's log is not copied");
                        break;
                    }
                }
            }
            let mut state = lock(&self.shared);
            if *state == State::Copying {
                *state = State::Copied;
            }
            self.shared.1.notify_all();
        }
    }

    /// Waits until a copy is asked for; false if there will be none.
    fn await_order(&self) -> bool {
        let mut state = lock(&self.shared);
        loop {
            match *state {
                State::Asked => {
                    *state = State::Copying;
                    return true;
                }
                State::Stop => return false,
                _ => state = self.shared.1.wait(state).expect(UNPOISONED),
            }
        }
    }
}

const UNPOISONED: &str = "nothing panics while it holds the state of the copying";

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.0.lock().expect(UNPOISONED)
}

/// How many pages are in the log, and how many of them are copied.
struct Progress {
    log: i64,
    copied: i64,
}

/// Copies what is in the log at this moment; answers how many pages that were.
fn copy(connection: &Connection) -> Result<i64, LogError> {
    let before = checkpoint(connection, "NOOP")?;
    let after = checkpoint(connection, "PASSIVE")?;
    Ok(after.copied - before.copied)
}

/// In mode NOOP it only looks.
fn checkpoint(connection: &Connection, mode: &str) -> Result<Progress, LogError> {
    let mut statement = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    Ok(statement.query_row([], |row| Ok(Progress { log: row.get(1)?, copied: row.get(2)? }))?)
}
