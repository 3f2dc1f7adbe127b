//! The data directory: private to its owner, locked by one process at a time.
//!
//! ```text
//! coffer.lock        locked while a Coffer runs; contains its process id
//! admin.kubeconfig   for the administrator
//! kubeconfig/        for the parts
//! pki/               keys and certificates
//! store/             objects, secrets sealed
//! sealing.key        the key that they are sealed with
//! kubelet/           mount points of the node's pods
//! containerd/        the runtime, if it is Coffer's own
//! ```

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::files;

const LOCK: &str = "coffer.lock";

/// Where the keys of a data directory are.
pub(crate) fn pki_of(data_dir: &Path) -> PathBuf {
    data_dir.join("pki")
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    #[error("cannot open data directory {path}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("data directory {path} is in use by another coffer (process {holder})")]
    InUse { path: PathBuf, holder: String },
    #[error(
        "{path} contains files that are not Coffer's; give --data-dir an empty or new directory"
    )]
    Foreign { path: PathBuf },
}

/// A data directory that is locked until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory if it does not exist, and locks it.
    pub(crate) fn lock(path: &Path) -> Result<Self, DataDirError> {
        let open = |source| DataDirError::Open { path: path.to_owned(), source };
        // Checked before its mode is changed: `--data-dir /etc` must do no harm.
        if is_foreign(path).map_err(open)? {
            return Err(DataDirError::Foreign { path: path.to_owned() });
        }
        files::private_directory(path).map_err(open)?;
        let path = path.canonicalize().map_err(open)?;
        let mut lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join(LOCK))
            .map_err(open)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = lock.read_to_string(&mut holder);
                return Err(DataDirError::InUse { path, holder: holder.trim().to_owned() });
            }
            Err(errno) => return Err(open(errno.into())),
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(open)?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory, as an absolute path without links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn pki(&self) -> PathBuf {
        pki_of(&self.path)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    pub(crate) fn sealing_key(&self) -> PathBuf {
        self.path.join("sealing.key")
    }

    pub(crate) fn kubelet(&self) -> PathBuf {
        self.path.join("kubelet")
    }

    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.path.join("admin.kubeconfig")
    }

    /// The kubeconfig of a part, such as `scheduler`.
    pub(crate) fn kubeconfig(&self, part: &str) -> PathBuf {
        self.path.join("kubeconfig").join(format!("{part}.kubeconfig"))
    }
}

/// Whether the directory contains files but was never used by Coffer.
fn is_foreign(path: &Path) -> std::io::Result<bool> {
    match path.read_dir() {
        Ok(mut entries) => Ok(entries.next().is_some() && !path.join(LOCK).exists()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_can_be_locked_once_and_again_after_its_release() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let held = DataDir::lock(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let second = DataDir::lock(&path).unwrap_err().to_string();
        assert!(second.contains(&format!("(process {})", std::process::id())), "{second}");
        drop(held);
        DataDir::lock(&path).unwrap();
    }

    #[test]
    fn a_directory_with_foreign_files_is_rejected_and_not_changed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("passwd"), "").unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let error = DataDir::lock(directory.path()).unwrap_err();
        assert!(matches!(error, DataDirError::Foreign { .. }), "{error}");
        assert_eq!(directory.path().metadata().unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_file_instead_of_a_directory_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DataDir::lock(file.path()).unwrap_err();
        assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
    }
}
