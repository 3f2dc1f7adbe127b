//! The first SIGTERM or SIGINT stops the program in order; the second one immediately.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The exit status that a shell reports for a program ended by SIGTERM.
const STATUS_OF_SIGTERM: i32 = 143;
/// timeout(1) and terminals signal a process and its group: a signal this soon after the first one is a
/// duplicate of it.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// A token that the first signal cancels.
pub(crate) fn shutdown() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            Instant::now()
        };
        let first = next().await;
        cancelled.cancel();
        while next().await - first < SAME_SIGNAL {}
        std::process::exit(STATUS_OF_SIGTERM);
    });
    Ok(token)
}
