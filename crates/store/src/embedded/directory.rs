//! The data directory: private to its owner, and locked by one process at a time.
//!
//! It contains `store.db`, SQLite's `store.db-wal` and `store.db-shm`, and `store.lock`. SQLite gives its
//! additional files the mode of the database, so creating `store.db` with mode 0600 before SQLite opens it
//! covers all three.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::OpenError;

const DATABASE: &str = "store.db";
const LOCK: &str = "store.lock";

/// A data directory that this process holds until the value is dropped.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    /// The kernel drops the lock with the file, also when the process is killed.
    lock: File,
}

impl DataDir {
    /// Creates the directory if it does not exist, and locks it.
    pub(super) fn hold(path: &Path) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Directory { dir: path.to_owned(), source };
        private_dir(path).map_err(unusable)?;
        let lock = private_file(&path.join(LOCK)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { dir: path.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        private_file(&path.join(DATABASE)).map_err(unusable)?;
        // Without this, a power loss could remove the names of files whose contents are durable.
        File::open(path).and_then(|dir| dir.sync_all()).map_err(unusable)?;
        Ok(Self { path: path.to_owned(), lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }
}

impl Drop for DataDir {
    /// Explicit, because a child that is being started at this moment has a copy of the descriptor, and would
    /// hold the lock until it closes it.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, dir = %self.path.display(), "cannot unlock the data directory");
        }
    }
}

fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    restrict(path, 0o700)
}

fn private_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    restrict(path, 0o600)?;
    Ok(file)
}

/// Restricts the mode of a file or directory that was created with a wider one, by hand or by a restore.
fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    let found = std::fs::metadata(path)?.permissions().mode() & 0o7777;
    if found & !mode == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(found & mode))
}
