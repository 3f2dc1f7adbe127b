//! What can go wrong between a data directory and a containerd that answers.

use std::path::PathBuf;
use std::time::Duration;

/// Why there is no containerd. Each message is one line that a person can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program or a network plugin that a containerd of our own needs is not there.
    #[error(
        "{program} is not installed: not found in {searched} (Debian's package is {package}); \
         install it or give --container-runtime-endpoint"
    )]
    Missing {
        /// What was looked for.
        program: &'static str,
        /// Where.
        searched: String,
        /// What brings it on Debian.
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
    /// A socket below the runtime directory would have a name longer than the kernel takes.
    #[error("the socket path {path} is longer than {max_bytes} bytes")]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// The kernel's limit.
        max_bytes: usize,
    },
    /// The program would not start at all.
    #[error("cannot run {program}")]
    Spawn {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The daemon ended before it answered.
    #[error("containerd ended at start ({status}); last words: {last_words}; see {log}")]
    DiedAtStart {
        /// How it ended.
        status: String,
        /// Its last line of log.
        last_words: String,
        /// Where the rest is.
        log: PathBuf,
    },
    /// The daemon runs but its CRI service did not become ready.
    #[error("containerd did not answer within {} s: {reason}; see {log}", waited.as_secs())]
    NotReady {
        /// How long we waited.
        waited: Duration,
        /// What it said last.
        reason: String,
        /// Where the rest is.
        log: PathBuf,
    },
    /// `ctr` could not bring an image in.
    #[error("cannot import image {reference}: {reason}")]
    Import {
        /// The image.
        reference: String,
        /// What ctr said.
        reason: String,
    },
    /// No range of addresses for pods is free on this machine.
    #[error("no free /24 for pods in 10.128.0.0/9: every one overlaps a route of this machine")]
    NoSubnet,
    /// The runtime answered a call with an error.
    #[error("the container runtime refused {call}: {message}")]
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
