//! The data directory: made for its owner only, and held by one process at a time.
//!
//! What lies in it: `store.db` (with SQLite's `-wal` and `-shm` beside it) and `store.lock`. SQLite
//! gives the files beside the database the mode of the database itself, so that making `store.db`
//! with mode 0600 before SQLite sees it covers all three.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::OpenError;

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
    /// Makes the directory if it is not there, and locks it.
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
        // Without this, a power loss could forget the names of files whose contents are safe.
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
    /// Said aloud: a child that is being started at this moment still has a copy of the descriptor,
    /// and would hold the lock until it closes it.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, dir = %self.path.display(), "the data directory stays locked");
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

/// Narrows the mode of something that was made with a wider one, by hand or by a restore.
fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    let found = std::fs::metadata(path)?.permissions().mode() & 0o7777;
    if found & !mode == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(found & mode))
}
