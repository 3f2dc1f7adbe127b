//! Watches that only count: when did each event arrive.
//!
//! A watch sends one line for each event, so lines are counted and not parsed: with thousands of
//! watchers the client must not be slower than the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Result, bail};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::transport::client;
use crate::transport::target::Target;
use crate::transport::wire::is_error_event;

/// Receives events as they arrive.
pub(crate) trait Observer: Send + Sync + 'static {
    /// A watcher got so many events more.
    fn arrived(&self, watcher: usize, events: usize, at: Instant);
}

/// An observer that is not interested.
pub(crate) struct Ignore;

impl Observer for Ignore {
    fn arrived(&self, _: usize, _: usize, _: Instant) {}
}

/// Watches under way; they end when this is dropped.
pub(crate) struct Watchers {
    _running: JoinSet<()>,
    lost: Arc<AtomicU64>,
}

impl Watchers {
    /// Opens a watch for each path; returns when the server has begun to answer all.
    pub(crate) async fn open(
        context: &Context,
        target: &Arc<Target>,
        label: &str,
        paths: &[String],
        observer: Arc<dyn Observer>,
    ) -> Result<Self> {
        let options = &context.options;
        let streams = options.streams.get();
        let clients = client::connect(target, options.for_watches(), paths.len(), streams).await?;
        let lost = Arc::new(AtomicU64::new(0));
        let mut running = JoinSet::new();
        for (watcher, (mut client, path)) in clients.into_iter().zip(paths).enumerate() {
            let body = client.open(path).await?;
            let (observer, lost) = (observer.clone(), lost.clone());
            running.spawn(async move {
                follow(watcher, body, &*observer).await;
                lost.fetch_add(1, Ordering::Relaxed);
                // The connection is shared, and ends with the last of its clients.
                drop(client);
            });
            if watcher % 64 == 0 {
                context.progress.draw(label, watcher as f64 / paths.len() as f64, "watchers");
            }
        }
        context.progress.clear();
        Ok(Self { _running: running, lost })
    }

    /// Watches that the server ended.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Fails if the server ended one.
    pub(crate) fn check(&self) -> Result<()> {
        match self.lost() {
            0 => Ok(()),
            lost => bail!("the server ended {lost} watches"),
        }
    }
}

async fn follow(watcher: usize, mut body: Incoming, observer: &dyn Observer) {
    while let Some(Ok(frame)) = body.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        let now = Instant::now();
        if is_error_event(data) {
            return;
        }
        // Every line ends an event; one that is split over frames is counted where it ends.
        let events = data.iter().filter(|byte| **byte == b'\n').count();
        if events > 0 {
            observer.arrived(watcher, events, now);
        }
    }
}
