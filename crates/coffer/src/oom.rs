//! Whom the kernel ends when memory runs out: of what runs on the machine, the API server last.

use std::io;

/// Where a process's own score is.
const FILE: &str = "/proc/self/oom_score_adj";
/// The API server's: just above what Kubernetes gives its kubelet, below every container's.
pub(crate) const API_SERVER: i32 = -998;

/// This process's score, from -1000 (never) to 1000 (first).
pub(crate) fn score() -> i32 {
    let text = std::fs::read_to_string(FILE).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// Gives this process, and what it starts from here on, a score.
///
/// # Errors
/// When it is lower than what this process may have: that takes CAP_SYS_RESOURCE.
pub(crate) fn set_score(score: i32) -> io::Result<()> {
    std::fs::write(FILE, score.to_string())
}

/// Protects this process. What it starts is given the score back that is returned here.
pub(crate) fn protect() -> i32 {
    let inherited = score();
    if inherited > API_SERVER
        && let Err(error) = set_score(API_SERVER)
    {
        tracing::debug!(%error, "the API server is not protected from running out of memory");
    }
    inherited
}
