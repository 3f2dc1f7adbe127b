//! Which process the kernel kills when memory runs out: the API server last.

use std::io;

/// The file with a process's own score.
const FILE: &str = "/proc/self/oom_score_adj";
/// The API server's: just above what Kubernetes gives its kubelet, below every container's.
pub(crate) const API_SERVER: i32 = -998;

/// This process's score, from -1000 (never killed) to 1000 (killed first).
pub(crate) fn score() -> i32 {
    let text = std::fs::read_to_string(FILE).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// Sets the score of this process and of processes that it starts from now on.
///
/// # Errors
/// When it is lower than the current one and the process lacks CAP_SYS_RESOURCE.
pub(crate) fn set_score(score: i32) -> io::Result<()> {
    std::fs::write(FILE, score.to_string())
}

/// Protects this process. Returns the score for the processes that it starts.
pub(crate) fn protect() -> i32 {
    let inherited = score();
    if inherited > API_SERVER
        && let Err(error) = set_score(API_SERVER)
    {
        tracing::debug!(%error, "cannot protect the API server from the OOM killer");
    }
    inherited
}
