//! Connections to the SQLite database, and their errors.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use super::error::OpenError;
use super::options::Options;
use crate::StoreError;

/// An error of the database; cheap to clone, so that each write of a batch can return it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("database: {0}")]
pub(super) struct LogError(Arc<rusqlite::Error>);

impl LogError {
    /// Whether nothing was written and a later try may succeed.
    pub(super) fn is_disk_full(&self) -> bool {
        self.0.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
    }

    fn is_corrupt(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        matches!(self.0.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
    }

    pub(super) fn from_io(error: std::io::Error) -> Self {
        rusqlite::Error::ToSqlConversionFailure(Box::new(error)).into()
    }

    pub(super) fn on_open(self, dir: &Path) -> OpenError {
        let dir = dir.to_owned();
        if self.is_corrupt() {
            OpenError::Corrupt { dir, reason: self.to_string() }
        } else {
            OpenError::Database { dir, source: Box::new(self) }
        }
    }
}

impl From<rusqlite::Error> for LogError {
    fn from(error: rusqlite::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl From<LogError> for StoreError {
    fn from(error: LogError) -> Self {
        Self::Io(Box::new(error))
    }
}

/// Opens the database with the settings that the store relies on.
pub(super) fn connect(file: &Path, options: &Options) -> Result<Connection, LogError> {
    // `DataDir` creates the file with its mode; SQLite must not create one.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: in WAL mode, the log is fsynced by each commit before it returns.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The checkpointer's work.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    let limit = i64::try_from(options.checkpoint_bytes).unwrap_or(i64::MAX).saturating_mul(2);
    connection.pragma_update(None, "journal_size_limit", limit)?;
    connection.pragma_update(None, "cache_size", -i64::from(options.cache_kib))?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}
