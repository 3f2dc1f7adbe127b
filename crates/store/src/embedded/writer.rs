//! The only thread that writes.
//!
//! It takes the writes that have arrived, checks them in order against the state after the ones before them,
//! commits the valid ones with one fsync, makes them visible to readers and watchers, and only then returns
//! their results. Between batches it compacts what is older than the history that is kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::connection::LogError;
use super::hub::Hub;
use super::index::Index;
use super::log::{Batch, Entry, Op, Sink};
use super::options::Options;
use super::quota::{HistoryBytes, Quota};
use crate::{Event, Revision, StoreError, Value};

/// Superseded rows removed by one commit: few enough that a write behind it barely waits.
const SWEEP_MAX: usize = 256;

/// A write to one key.
#[derive(Debug)]
pub(super) enum Write {
    Create(Value),
    Update(Value, Revision),
    Delete(Revision),
}

/// One write on its way to the writer.
#[derive(Debug)]
pub(super) struct WriteJob {
    pub(super) key: Arc<str>,
    pub(super) write: Write,
    pub(super) result: oneshot::Sender<Result<Revision, StoreError>>,
    /// Its place in the queue, released with the result.
    pub(super) place: OwnedSemaphorePermit,
}

/// A request to the writer.
#[derive(Debug)]
pub(super) enum Job {
    Write(WriteJob),
    Compact {
        before: Revision,
        result: oneshot::Sender<Result<(), StoreError>>,
    },
    /// Complete what came before, then end.
    Stop,
}

/// The writer's state. It lives on its thread and nowhere else.
pub(super) struct Writer<S> {
    sink: S,
    index: Arc<RwLock<Index>>,
    hub: Hub,
    options: Options,
    /// Why the writer stopped writing, after a failure that leaves the disk's state unknown.
    failed: Option<String>,
    /// The last commit found the disk full; only a write that someone waits for tries again.
    disk_full: bool,
    quota: Quota,
    history_bytes: HistoryBytes,
}

impl<S: Sink> Writer<S> {
    pub(super) fn new(sink: S, index: Arc<RwLock<Index>>, hub: Hub, options: Options) -> Self {
        let quota = Quota::new(&options);
        let history_bytes = HistoryBytes::default();
        Self { sink, index, hub, options, failed: None, disk_full: false, quota, history_bytes }
    }

    /// Runs until it is stopped, or until all senders are dropped.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let mut history = History::new(&self.options, self.newest());
        self.measure();
        loop {
            let wait = if self.has_superseded() { Duration::ZERO } else { history.wait() };
            match jobs.recv_timeout(wait) {
                Ok(first) => {
                    if !self.work(first, jobs) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    // The failure, if any, is in `failed`, and later writes return it.
                    let _ = self.commit(Batch::default());
                    self.sink.maintain();
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let due = history.due(self.newest(), self.oldest());
            if let Some(before) = due.max(self.history_is_too_large()) {
                let _ = self.compact(before);
            }
        }
    }

    /// Serves the job and what has queued behind it; false after a stop.
    fn work(&mut self, first: Job, jobs: &Receiver<Job>) -> bool {
        let mut next = Some(first);
        while let Some(job) = next.take() {
            match job {
                Job::Write(write) => {
                    let (writes, other) = gather(write, jobs, &self.options);
                    self.write(writes);
                    self.sink.maintain();
                    next = other;
                }
                Job::Compact { before, result } => {
                    // The caller may have stopped waiting; the compaction is done nevertheless.
                    let _ = result.send(self.compact(before));
                }
                Job::Stop => return false,
            }
        }
        true
    }

    fn write(&mut self, jobs: Vec<WriteJob>) {
        let mut results = Vec::with_capacity(jobs.len());
        let mut plan = Plan::new(self.newest());
        for job in jobs {
            let planned = if self.has_room_for(&job) {
                plan.add(&self.index.read(), &job.key, job.write)
            } else {
                Err(StoreError::NoSpace)
            };
            results.push((job.result, job.place, planned));
        }
        let outcome = match self.events(&plan.batch) {
            Ok(events) => self.commit(plan.batch).map(|()| events),
            Err(error) => Err(error.into()),
        };
        if let Ok(events) = &outcome {
            self.hub.publish(events, self.newest());
        }
        for (result, place, planned) in results {
            // A caller that has stopped waiting does not undo its write. A conflict may be with a write of
            // this batch, too, and is valid only if the batch is committed.
            let _ = result.send(match &outcome {
                Ok(_) => planned,
                Err(failure) => Err(failure.repeat()),
            });
            drop(place);
        }
    }

    /// The events for watchers. Created for every write, watched or not: a watcher that subscribes while the
    /// batch is being committed must not miss it. Counts what becomes history on the way.
    fn events(&mut self, batch: &Batch) -> Result<Vec<Event>, LogError> {
        let written: HashMap<Revision, usize> = batch
            .entries
            .iter()
            .filter_map(|(e, v)| Some((e.revision, v.as_ref()?.as_bytes().len())))
            .collect();
        let mut events = Vec::new();
        for (entry, value) in &batch.entries {
            if let Some(previous) = entry.previous {
                let bytes = match written.get(&previous) {
                    Some(bytes) => *bytes,
                    None => self.sink.value_len(previous)?,
                };
                self.history_bytes.add(entry.revision, bytes);
            }
            events.push(entry.event(value.clone()));
        }
        Ok(events)
    }

    /// Commits the batch together with some of the rows that nothing can see, and lets readers see it.
    fn commit(&mut self, mut batch: Batch) -> Result<(), Failure> {
        if let Some(reason) = &self.failed {
            return Err(Failure::Closed(reason.clone()));
        }
        batch.superseded = self.index.read().superseded(SWEEP_MAX);
        if batch.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.sink.commit(&batch) {
            return Err(self.fail(error));
        }
        self.disk_full = false;
        // A panic here ends the writer. Readers then see a beginning of the batch, which is on disk.
        let mut index = self.index.write();
        index.forget(batch.superseded.len());
        for (entry, _) in &batch.entries {
            index.apply(entry).expect("the plan follows the index");
        }
        if let Some(oldest) = batch.oldest {
            index.compact(oldest);
        }
        drop(index);
        self.measure();
        Ok(())
    }

    /// Whether the quota lets the write be made. One that is refused for another reason passes.
    fn has_room_for(&mut self, job: &WriteJob) -> bool {
        if !self.quota.is_full() || matches!(job.write, Write::Delete(_)) {
            return true;
        }
        let current = self.index.read().current(&job.key);
        // An earlier write of this batch to the same key is ignored: the two conflict anyway.
        let old = current.and_then(|revision| self.sink.value_len(revision).ok());
        self.quota.admits(job.write.len(), old)
    }

    /// Measures how much is used.
    fn measure(&mut self) {
        match self.sink.used_bytes() {
            Ok(used) => self.quota.measured(used),
            Err(error) => tracing::warn!(%error, "cannot determine the size of the store"),
        }
    }

    /// Up to where the history goes, because it is too large or what is there must make room.
    fn history_is_too_large(&self) -> Option<Revision> {
        if self.failed.is_some() || self.disk_full {
            return None;
        }
        let newest = self.newest();
        if self.quota.is_full() && self.oldest() < newest {
            return Some(newest);
        }
        self.history_bytes.due(self.options.history_bytes_max)
    }

    /// A full disk wrote nothing and may have room later. After anything else (a failed fsync above
    /// all) what the disk holds is unknown until the store is opened again.
    fn fail(&mut self, error: LogError) -> Failure {
        if error.is_disk_full() {
            self.disk_full = true;
            tracing::error!(%error, "the disk is full: writes fail until there is space");
        } else {
            tracing::error!(%error, "a write to disk failed: the store rejects all further writes");
            self.failed = Some(format!("an earlier write failed: {error}"));
        }
        Failure::Log(error)
    }

    fn compact(&mut self, before: Revision) -> Result<(), StoreError> {
        let newest = self.newest();
        if before > newest {
            return Err(StoreError::Future { requested: before, newest });
        }
        if before <= self.oldest() {
            return Ok(());
        }
        let batch = Batch { oldest: Some(before), ..Batch::default() };
        self.commit(batch).map_err(|failure| failure.repeat())?;
        self.history_bytes.compacted(before);
        Ok(())
    }

    fn newest(&self) -> Revision {
        self.index.read().newest()
    }

    fn oldest(&self) -> Revision {
        self.index.read().oldest()
    }

    fn has_superseded(&self) -> bool {
        self.failed.is_none() && !self.disk_full && !self.index.read().superseded(1).is_empty()
    }
}

impl<S> Drop for Writer<S> {
    /// Also when the thread panics: a watcher must not wait for a writer that has ended.
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        self.hub.close(if panicked { "the writer failed" } else { "the store is shut down" });
    }
}

/// A failed commit, which each of its writes returns.
#[derive(Debug)]
enum Failure {
    Log(LogError),
    Closed(String),
}

impl Failure {
    fn repeat(&self) -> StoreError {
        match self {
            Self::Log(error) => error.clone().into(),
            Self::Closed(reason) => StoreError::Closed(reason.clone()),
        }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// The writes that can share a commit with the first, and the job that ended the gathering.
fn gather(
    first: WriteJob,
    jobs: &Receiver<Job>,
    options: &Options,
) -> (Vec<WriteJob>, Option<Job>) {
    let mut bytes = first.write.len();
    let mut writes = vec![first];
    while writes.len() < options.batch_writes_max && bytes < options.batch_bytes_max {
        match jobs.try_recv() {
            Ok(Job::Write(job)) => {
                bytes += job.write.len();
                writes.push(job);
            }
            Ok(other) => return (writes, Some(other)),
            Err(_) => break,
        }
    }
    (writes, None)
}

impl Write {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Create(value) | Self::Update(value, _) => value.as_bytes().len(),
            Self::Delete(_) => 0,
        }
    }
}

/// Valid writes, in order, each checked against the ones before it.
struct Plan {
    batch: Batch,
    newest: Revision,
    /// What the batch leaves of the keys it touches.
    pending: HashMap<Arc<str>, Option<Revision>>,
}

impl Plan {
    fn new(newest: Revision) -> Self {
        Self { batch: Batch::default(), newest, pending: HashMap::new() }
    }

    /// Adds the write if the key is as it expects; returns the revision it will have.
    fn add(&mut self, index: &Index, key: &Arc<str>, write: Write) -> Result<Revision, StoreError> {
        let current = self.pending.get(key).copied().unwrap_or_else(|| index.current(key));
        let (op, value, expected) = match write {
            Write::Create(value) => (Op::Create, Some(value), None),
            Write::Update(value, expected) => (Op::Update, Some(value), Some(expected)),
            Write::Delete(expected) => (Op::Delete, None, Some(expected)),
        };
        check(key, current, expected)?;
        let revision = self.newest + 1;
        let entry = Entry { revision, op, previous: current, key: Arc::clone(key) };
        self.pending.insert(Arc::clone(key), value.is_some().then_some(revision));
        self.batch.entries.push((entry, value));
        self.newest = revision;
        Ok(revision)
    }
}

/// Whether a key is at the revision that the caller expects; no revision is an absent key.
fn check(key: &str, found: Option<Revision>, expected: Option<Revision>) -> Result<(), StoreError> {
    let key = || key.to_owned();
    match (found, expected) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(StoreError::Exists { key: key() }),
        (None, Some(_)) => Err(StoreError::NotFound { key: key() }),
        (Some(found), Some(expected)) if found == expected => Ok(()),
        (Some(found), Some(expected)) => Err(StoreError::Conflict { key: key(), expected, found }),
    }
}

/// When to compact: once each period, up to where the store was a period ago, as kube-apiserver
/// compacts etcd; and immediately when there is more history than the store keeps.
struct History {
    period: Duration,
    writes_max: u64,
    next: Instant,
    newest_then: Revision,
}

impl History {
    fn new(options: &Options, newest: Revision) -> Self {
        Self {
            period: options.history,
            writes_max: options.history_writes_max,
            next: Instant::now() + options.history,
            newest_then: newest,
        }
    }

    fn wait(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    fn due(&mut self, newest: Revision, oldest: Revision) -> Option<Revision> {
        if Instant::now() >= self.next {
            self.next = Instant::now() + self.period;
            return Some(std::mem::replace(&mut self.newest_then, newest));
        }
        // Half at a time, so that a busy store does not compact at every write.
        (newest - oldest > self.writes_max).then(|| newest - self.writes_max / 2)
    }
}
