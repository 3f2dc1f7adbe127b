//! The log on disk: one row for each write, by revision, in a SQLite database.
//!
//! ```text
//! log    revision INTEGER PRIMARY KEY   dense from 1; superseded rows are removed after compaction
//!        op       INTEGER               1 create, 2 update, 3 delete
//!        previous INTEGER               the revision replaced; NULL for a create
//!        key      TEXT
//! value  revision INTEGER PRIMARY KEY   of the create or update that wrote it
//!        bytes    BLOB
//! state  oldest   INTEGER               one row: the oldest revision available
//! ```
//!
//! Both tables only grow at their end, so that a commit touches few pages; the index finds keys. `value` is
//! separate from `log` so that opening the store reads no values.
//! `PRAGMA application_id` identifies the file as ours, `PRAGMA user_version` is the format.

use std::path::Path;
use std::sync::Arc;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, Transaction, TransactionBehavior};

use super::checkpoint::Checkpointer;
use super::connection::{LogError, connect};
use super::error::OpenError;
use super::options::Options;
use crate::{Change, Event, Revision, Value};

/// "COFR"
const APPLICATION_ID: i32 = 0x434f_4652;
const FORMAT: i32 = 1;

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Create,
    Update,
    Delete,
}

/// One write, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) revision: Revision,
    pub(super) op: Op,
    pub(super) previous: Option<Revision>,
    pub(super) key: Arc<str>,
}

/// What one commit changes.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// New writes, in order. A value for all but removals.
    pub(super) entries: Vec<(Entry, Option<Value>)>,
    /// The new oldest revision, if it moves.
    pub(super) oldest: Option<Revision>,
    /// Superseded revisions whose rows go.
    pub(super) superseded: Vec<Revision>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.oldest.is_none() && self.superseded.is_empty()
    }
}

/// The target of the writer thread's commits. A trait so that tests can make any of them fail.
pub(super) trait Sink: Send {
    /// Makes the whole batch durable, or none of it.
    fn commit(&mut self, batch: &Batch) -> Result<(), LogError>;

    /// The length in bytes of a value that this sink has committed.
    fn value_len(&mut self, revision: Revision) -> Result<usize, LogError>;

    /// Bytes of the database in use, without free pages.
    fn used_bytes(&mut self) -> Result<u64, LogError>;

    /// Called between two batches, when no write is waiting.
    fn maintain(&mut self) {}
}

/// The one connection that writes.
pub(super) struct LogWriter {
    // Before the connection, so that it is dropped first; closing the connection does the last checkpoint.
    checkpointer: Checkpointer,
    connection: Connection,
}

impl LogWriter {
    /// Opens the database, creates its tables if it is new, and rejects one that is not ours.
    pub(super) fn open(dir: &Path, file: &Path, options: &Options) -> Result<Self, OpenError> {
        let mut connection = connect(file, options).map_err(|e| e.on_open(dir))?;
        let (application, format) = identity(&connection).map_err(|e| e.on_open(dir))?;
        match (application, format) {
            (0, 0) => create(&mut connection).map_err(|e| e.on_open(dir))?,
            (APPLICATION_ID, FORMAT) => {}
            (APPLICATION_ID, found) => {
                return Err(OpenError::Format { dir: dir.to_owned(), found, known: FORMAT });
            }
            _ => {
                let reason = "the database belongs to another program".to_owned();
                return Err(OpenError::Corrupt { dir: dir.to_owned(), reason });
            }
        }
        let checkpointer = Checkpointer::start(file, options).map_err(|e| e.on_open(dir))?;
        Ok(Self { checkpointer, connection })
    }
}

impl Sink for LogWriter {
    fn commit(&mut self, batch: &Batch) -> Result<(), LogError> {
        let txn = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        append(&txn, batch)?;
        if let Some(oldest) = batch.oldest {
            txn.prepare_cached("UPDATE state SET oldest = ?1")?.execute([oldest])?;
        }
        remove(&txn, &batch.superseded)?;
        Ok(txn.commit()?)
    }

    fn value_len(&mut self, revision: Revision) -> Result<usize, LogError> {
        let sql = "SELECT length(bytes) FROM value WHERE revision = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([revision], |row| row.get(0))?)
    }

    fn used_bytes(&mut self) -> Result<u64, LogError> {
        let pages = |pragma: &str| -> Result<u64, LogError> {
            let mut statement = self.connection.prepare_cached(pragma)?;
            Ok(statement.query_row([], |row| row.get(0))?)
        };
        let used = pages("PRAGMA page_count")?.saturating_sub(pages("PRAGMA freelist_count")?);
        Ok(used.saturating_mul(pages("PRAGMA page_size")?))
    }

    fn maintain(&mut self) {
        self.checkpointer.maintain(&self.connection);
    }
}

fn append(txn: &Transaction<'_>, batch: &Batch) -> Result<(), LogError> {
    let mut log = txn.prepare_cached("INSERT INTO log VALUES (?1, ?2, ?3, ?4)")?;
    let mut values = txn.prepare_cached("INSERT INTO value VALUES (?1, ?2)")?;
    for (entry, value) in &batch.entries {
        log.execute((entry.revision, entry.op, entry.previous, &*entry.key))?;
        if let Some(value) = value {
            values.execute((entry.revision, value.as_bytes()))?;
        }
    }
    Ok(())
}

fn remove(txn: &Transaction<'_>, superseded: &[Revision]) -> Result<(), LogError> {
    let mut log = txn.prepare_cached("DELETE FROM log WHERE revision = ?1")?;
    let mut values = txn.prepare_cached("DELETE FROM value WHERE revision = ?1")?;
    for revision in superseded {
        log.execute([revision])?;
        values.execute([revision])?;
    }
    Ok(())
}

/// A connection that reads. With SQLite's write-ahead log, it reads concurrently with the writer.
#[derive(Debug)]
pub(super) struct LogReader {
    connection: Connection,
}

/// One state of the database, for as long as the value lives.
pub(super) struct View<'a> {
    txn: Transaction<'a>,
    oldest: Revision,
    newest: Revision,
}

impl LogReader {
    pub(super) fn open(file: &Path, options: &Options) -> Result<Self, LogError> {
        let connection = connect(file, options)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(Self { connection })
    }

    pub(super) fn view(&self) -> Result<View<'_>, LogError> {
        let txn = self.connection.unchecked_transaction()?;
        let (oldest, last): (Revision, Option<Revision>) = txn
            .prepare_cached("SELECT oldest, (SELECT max(revision) FROM log) FROM state")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        // A removal supersedes itself, so the newest row may have been removed; then it is not newer than
        // the compaction that removed it.
        let newest = last.unwrap_or(0).max(oldest);
        Ok(View { txn, oldest, newest })
    }
}

impl View<'_> {
    pub(super) fn oldest(&self) -> Revision {
        self.oldest
    }

    pub(super) fn newest(&self) -> Revision {
        self.newest
    }

    pub(super) fn value(&self, revision: Revision) -> Result<Value, LogError> {
        value(&self.txn, revision)
    }

    /// Up to `max` entries after `after`, in order of revision.
    pub(super) fn entries(&self, after: Revision, max: usize) -> Result<Vec<Entry>, LogError> {
        let mut statement = self.txn.prepare_cached(
            "SELECT revision, op, previous, key FROM log WHERE revision > ?1
             ORDER BY revision LIMIT ?2",
        )?;
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let entries = statement.query_map((after, max), Entry::from_row)?;
        Ok(entries.collect::<Result<_, _>>()?)
    }
}

impl Entry {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let key: Arc<str> = row.get_ref(3)?.as_str()?.into();
        Ok(Self { revision: row.get(0)?, op: row.get(1)?, previous: row.get(2)?, key })
    }

    /// The event of the write for watchers.
    pub(super) fn event(&self, value: Option<Value>) -> Event {
        let change = match (value, self.previous) {
            (Some(value), None) => Change::Created(value),
            (Some(value), Some(_)) => Change::Updated(value),
            (None, _) => Change::Deleted,
        };
        Event { revision: self.revision, key: self.key.as_ref().to_owned(), change }
    }
}

fn value(connection: &Connection, revision: Revision) -> Result<Value, LogError> {
    let mut statement = connection.prepare_cached("SELECT bytes FROM value WHERE revision = ?1")?;
    let bytes = statement.query_row([revision], |row| Ok(row.get_ref(0)?.as_blob()?.to_vec()))?;
    Ok(Value::new(bytes))
}

fn identity(connection: &Connection) -> Result<(i32, i32), LogError> {
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let format = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // Tables without our application_id are not ours.
    Ok(if tables > 0 && application == 0 { (-1, format) } else { (application, format) })
}

fn create(connection: &mut Connection) -> Result<(), LogError> {
    let txn = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    txn.execute_batch(
        "CREATE TABLE log (
             revision INTEGER PRIMARY KEY,
             op INTEGER NOT NULL,
             previous INTEGER,
             key TEXT NOT NULL
         ) STRICT;
         CREATE TABLE value (revision INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
         CREATE TABLE state (oldest INTEGER NOT NULL) STRICT;
         INSERT INTO state VALUES (0);",
    )?;
    txn.pragma_update(None, "application_id", APPLICATION_ID)?;
    txn.pragma_update(None, "user_version", FORMAT)?;
    Ok(txn.commit()?)
}

impl ToSql for Op {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let code: i64 = match self {
            Self::Create => 1,
            Self::Update => 2,
            Self::Delete => 3,
        };
        Ok(code.into())
    }
}

impl FromSql for Op {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_i64()? {
            1 => Ok(Self::Create),
            2 => Ok(Self::Update),
            3 => Ok(Self::Delete),
            other => Err(FromSqlError::OutOfRange(other)),
        }
    }
}
