//! The errors of starting a containerd.

use std::path::PathBuf;
use std::time::Duration;

/// Why containerd did not start. Each message is one line that a user can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program or a network plugin that Coffer's own containerd needs is not installed.
    #[error(
        "{program} is not installed: not found in {searched} (Debian's package is {package}); \
         install it or give --container-runtime-endpoint"
    )]
    Missing {
        /// What was looked for.
        program: &'static str,
        /// Where.
        searched: String,
        /// Its Debian package.
        package: &'static str,
    },
    /// A file or directory of ours could not be written, read or removed.
    #[error("cannot {action} {path}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The path of a socket would be longer than the kernel accepts.
    #[error("the socket path {path} is longer than {max_bytes} bytes")]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// The kernel's limit.
        max_bytes: usize,
    },
    /// The program cannot be executed.
    #[error("cannot run {program}")]
    Spawn {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The daemon ended before it was ready.
    #[error("containerd ended at start ({status}); last log line: {last_log_line}; see {log}")]
    DiedAtStart {
        /// How it ended.
        status: String,
        /// Its last line of log.
        last_log_line: String,
        /// Where the rest is.
        log: PathBuf,
    },
    /// The daemon runs but its CRI service did not become ready.
    #[error("containerd was not ready within {} s: {reason}; see {log}", waited.as_secs())]
    NotReady {
        /// How long we waited.
        waited: Duration,
        /// Its last status.
        reason: String,
        /// Where the rest is.
        log: PathBuf,
    },
    /// `ctr` failed to import an image.
    #[error("cannot import image {reference}: {reason}")]
    Import {
        /// The image.
        reference: String,
        /// The last line of ctr's error.
        reason: String,
    },
    /// No range of addresses for pods is free on this machine.
    #[error("no free /24 for pods in 10.128.0.0/9: every one overlaps a route of this machine")]
    NoSubnet,
    /// The runtime returned an error.
    #[error("CRI call {call} failed: {message}")]
    Cri {
        /// The CRI call.
        call: &'static str,
        /// The runtime's message.
        message: String,
    },
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
