//! Errors of the embedded store.

use std::path::PathBuf;

use crate::StoreError;

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

/// The error of operations after a shutdown.
pub(super) fn closed() -> StoreError {
    StoreError::Closed("the store is shut down".to_owned())
}
