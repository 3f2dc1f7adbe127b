//! Watch fan-out: how long from a write's request to its event at each watcher.
//!
//! Time begins when the write is sent, so that a server gains nothing by responding late. The client
//! decrypts every event, too: its share is in the figures and is the same for every server.

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use tokio::sync::Notify;

use super::run::Run;
use crate::load::secrets::Secrets;
use crate::load::watchers::{Observer, Watchers};
use crate::measure::report::Phase;
use crate::measure::stats::Tally;
use crate::options::Options;
use crate::transport::client::APPLICATION_JSON;

/// How long after the last write its events may take.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Watchers of the collection.
    #[arg(long, value_name = "NUMBER", default_value = "1000")]
    watchers: NonZeroUsize,
    /// Writes in a second.
    #[arg(long, value_name = "NUMBER", default_value = "10")]
    rate: NonZeroU64,
}

#[derive(Debug, Args)]
pub(crate) struct WatchObjects {
    /// Secrets, each with a watcher.
    #[arg(long, value_name = "NUMBER", default_value = "5000")]
    watchers: NonZeroUsize,
    /// Writes in a second.
    #[arg(long, value_name = "NUMBER", default_value = "200")]
    rate: NonZeroU64,
}

const WRITE: usize = 0;
const DELIVERY: usize = 1;
const LAST: usize = 2;
const ROWS: &[&str] = &["write", "event at a watcher", "event at the last watcher"];

/// Writes and their events: write `n` goes to `watchers` watchers, and each watcher gets its own
/// writes in order.
struct Fanout {
    epoch: Instant,
    /// When each write was sent, in nanoseconds after the epoch.
    sent: Vec<AtomicU64>,
    /// Watchers that have yet to get each write.
    missing: Vec<AtomicUsize>,
    /// Events that each watcher has got.
    got: Vec<AtomicUsize>,
    /// Writes go to one watcher each, in turn, rather than each to all.
    one_each: bool,
    tally: Tally,
    outstanding: AtomicUsize,
    complete: Notify,
}

impl Fanout {
    fn new(writes: usize, watchers: usize, one_each: bool) -> Self {
        let receivers = if one_each { 1 } else { watchers };
        Self {
            epoch: Instant::now(),
            sent: (0..writes).map(|_| AtomicU64::new(0)).collect(),
            missing: (0..writes).map(|_| AtomicUsize::new(receivers)).collect(),
            got: (0..watchers).map(|_| AtomicUsize::new(0)).collect(),
            one_each,
            tally: Tally::new(ROWS),
            outstanding: AtomicUsize::new(writes * receivers),
            complete: Notify::new(),
        }
    }

    /// The write that a watcher's event of this number is of.
    fn write_of(&self, watcher: usize, nth: usize) -> usize {
        if self.one_each { watcher + nth * self.got.len() } else { nth }
    }

    fn sends(&self, write: usize) {
        let now = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.sent[write].store(now, Ordering::Release);
    }
}

impl Observer for Fanout {
    fn arrived(&self, watcher: usize, events: usize, at: Instant) {
        let first = self.got[watcher].fetch_add(events, Ordering::Relaxed);
        for nth in first..first + events {
            let write = self.write_of(watcher, nth);
            // More events than writes: another client writes here. Nothing to time them by.
            let Some(sent) = self.sent.get(write) else { continue };
            let sent = Duration::from_nanos(sent.load(Ordering::Acquire));
            let late = at.saturating_duration_since(self.epoch).saturating_sub(sent);
            self.tally.record(DELIVERY, late);
            if self.missing[write].fetch_sub(1, Ordering::AcqRel) == 1 && !self.one_each {
                self.tally.record(LAST, late);
            }
            if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.complete.notify_one();
            }
        }
    }
}

/// Which secret each write changes.
struct Writes {
    secrets: Secrets,
    objects: u64,
    count: usize,
    rate: u64,
}

impl Watch {
    fn writes(&self, options: &Options) -> u64 {
        options.count_or(100)
    }

    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        vec![
            format!("watch a collection of secrets {} times", self.watchers),
            format!("update a secret {} times, {} a second", self.writes(options), self.rate),
        ]
    }

    pub(super) async fn measure(&self, run: &mut Run<'_>) -> Result<()> {
        let secrets = run.populate("watch", 1).await?;
        let revision = run.revision(&secrets.path).await?;
        let path = format!("{}?watch=1&resourceVersion={revision}", secrets.path);
        let paths = vec![path; self.watchers.get()];
        let count = self.writes(&run.context.options) as usize;
        let writes = Writes { secrets, objects: 1, count, rate: self.rate.get() };
        let name = format!("{} watchers of one collection", self.watchers);
        let fanout = Fanout::new(count, paths.len(), false);
        fan_out(run, &name, paths, writes, fanout).await
    }
}

impl WatchObjects {
    fn writes(&self, options: &Options) -> u64 {
        options.count_or(2000)
    }

    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        vec![
            format!("create {} secrets of {} bytes", self.watchers, options.size),
            "watch each by a field selector for its name".to_owned(),
            format!("update them in turn {} times, {} a second", self.writes(options), self.rate),
        ]
    }

    pub(super) async fn measure(&self, run: &mut Run<'_>) -> Result<()> {
        let objects = self.watchers.get() as u64;
        let secrets = run.populate("watch", objects).await?;
        let revision = run.revision(&secrets.path).await?;
        let path = |number| {
            format!(
                "{}?watch=1&resourceVersion={revision}&fieldSelector=metadata.name%3D{}",
                secrets.path,
                secrets.name(number)
            )
        };
        let paths: Vec<_> = (0..objects).map(path).collect();
        let count = self.writes(&run.context.options) as usize;
        let writes = Writes { secrets, objects, count, rate: self.rate.get() };
        let name = format!("{objects} watchers of one secret each");
        let fanout = Fanout::new(count, paths.len(), true);
        fan_out(run, &name, paths, writes, fanout).await
    }
}

async fn fan_out(
    run: &mut Run<'_>,
    name: &str,
    paths: Vec<String>,
    writes: Writes,
    fanout: Fanout,
) -> Result<()> {
    let mut client = run.client().await?;
    let (context, target) = (&mut *run.context, run.target);
    let fanout = Arc::new(fanout);
    let before = context.meter.rss_bytes();
    let opening = Instant::now();
    let watchers = Watchers::open(context, target, name, &paths, fanout.clone()).await?;
    let (opened, watching) = (opening.elapsed(), context.meter.rss_bytes());
    let metering = context.meter.start();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / writes.rate as f64));
    for write in 0..writes.count {
        ticks.tick().await;
        let number = write as u64 % writes.objects;
        let (path, body) = (writes.secrets.path_of(number), writes.secrets.body(number));
        fanout.sends(write);
        let start = Instant::now();
        client.call(Method::PUT, &path, Some((APPLICATION_JSON, body))).await?;
        fanout.tally.record(WRITE, start.elapsed());
        context.progress.draw(name, write as f64 / writes.count as f64, "writes");
    }
    let all = tokio::time::timeout(TIMEOUT, fanout.complete.notified()).await;
    watchers.check()?;
    if all.is_err() {
        let missing = fanout.outstanding.load(Ordering::Relaxed);
        bail!("{missing} events did not arrive within {} s", TIMEOUT.as_secs());
    }
    context.progress.clear();
    let mut phase = Phase::new(name, &fanout.tally, metering.stop());
    phase.operations = fanout.tally.count(DELIVERY);
    phase.fact("all watches open after", opened.as_secs_f64(), "seconds");
    if let (Some(before), Some(watching)) = (before, watching) {
        let grown = watching.saturating_sub(before) as f64;
        phase.fact("memory per watcher", grown / paths.len() as f64, "bytes");
    }
    context.push(phase);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_to_all_is_complete_when_the_last_watcher_has_it() {
        let fanout = Fanout::new(2, 3, false);
        fanout.sends(0);
        fanout.sends(1);
        let now = Instant::now();
        for watcher in 0..3 {
            fanout.arrived(watcher, 1, now);
        }
        assert_eq!((fanout.tally.count(DELIVERY), fanout.tally.count(LAST)), (3, 1));
        for watcher in 0..3 {
            fanout.arrived(watcher, 1, now);
        }
        assert_eq!((fanout.tally.count(LAST), fanout.outstanding.load(Ordering::Relaxed)), (2, 0));
    }

    #[test]
    fn alternating_writes_are_distinguished_by_watcher_and_round() {
        let fanout = Fanout::new(5, 2, true);
        assert_eq!(fanout.write_of(1, 0), 1);
        assert_eq!(fanout.write_of(0, 2), 4);
        fanout.arrived(1, 2, Instant::now());
        // A third event of watcher 1 would be of write 5, which does not exist.
        fanout.arrived(1, 1, Instant::now());
        assert_eq!(fanout.outstanding.load(Ordering::Relaxed), 3);
    }
}
