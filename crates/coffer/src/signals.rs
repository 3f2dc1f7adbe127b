//! SIGTERM and SIGINT end the program in order; a second one ends it at once.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell reports for a program that SIGTERM ended.
const STATUS_OF_SIGTERM: i32 = 143;

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
        };
        next().await;
        cancelled.cancel();
        next().await;
        std::process::exit(STATUS_OF_SIGTERM);
    });
    Ok(token)
}
