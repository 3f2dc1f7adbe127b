//! The writer under a disk that a test holds in its hands: it can be made to wait, and to fail.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;

use super::log::Batch;
use super::*;
use crate::Change;

/// How a commit goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Nothing is written, and later there may be room.
    Full,
    /// Nothing is written, as far as one can know.
    Before,
    /// Everything is written, and the result is lost.
    After,
    Panic,
}

/// A real log that fails at one commit and tells the size of each batch.
struct Faulty {
    log: LogWriter,
    commits: usize,
    fault: Option<(usize, Fault)>,
    sizes: mpsc::UnboundedSender<usize>,
    /// Each commit takes one; a test that gives none holds the writer up.
    turns: std::sync::mpsc::Receiver<()>,
}

impl Sink for Faulty {
    fn commit(&mut self, batch: &Batch) -> Result<(), LogError> {
        let _ = self.sizes.send(batch.entries.len());
        let _ = self.turns.recv();
        self.commits += 1;
        let error = |code| {
            LogError::from(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))
        };
        match self.fault.filter(|(at, _)| *at == self.commits) {
            Some((_, Fault::Full)) => Err(error(rusqlite::ffi::SQLITE_FULL)),
            Some((_, Fault::Before)) => Err(error(rusqlite::ffi::SQLITE_IOERR_WRITE)),
            Some((_, Fault::After)) => {
                self.log.commit(batch)?;
                Err(error(rusqlite::ffi::SQLITE_IOERR_FSYNC))
            }
            Some((_, Fault::Panic)) => panic!("as the test wants it"),
            None => self.log.commit(batch),
        }
    }

    fn value_len(&mut self, revision: Revision) -> Result<usize, LogError> {
        self.log.value_len(revision)
    }

    fn used_bytes(&mut self) -> Result<u64, LogError> {
        self.log.used_bytes()
    }

    fn maintain(&mut self) {
        self.log.maintain();
    }
}

struct Bench {
    store: Embedded,
    sizes: mpsc::UnboundedReceiver<usize>,
    turns: std::sync::mpsc::Sender<()>,
}

impl Bench {
    /// Waits until this many writes are in the queue and have not returned.
    async fn queued(&self, count: usize) {
        let free = Options::default().write_queue_max - count;
        while self.store.inner.places.available_permits() > free {
            tokio::task::yield_now().await;
        }
    }
}

fn bench(dir: &Path, fault: Option<(usize, Fault)>) -> Bench {
    let options = Options::default();
    let held = DataDir::hold(dir).expect("directory");
    let log = LogWriter::open(dir, &held.database(), &options).expect("log");
    let (sender, sizes) = mpsc::unbounded_channel();
    let (turns, wait) = std::sync::mpsc::channel();
    let sink = Faulty { log, commits: 0, fault, sizes: sender, turns: wait };
    Bench { store: Embedded::over(held, sink, options).expect("opens"), sizes, turns }
}

fn value(text: &str) -> Value {
    Value::new(text.as_bytes().to_vec())
}

/// Clients that all wait for the disk are served by one turn of it.
#[tokio::test]
async fn writes_that_arrive_during_a_commit_share_the_next_one() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut bench = bench(dir.path(), None);
    let create = |n: usize| {
        let store = bench.store.clone();
        tokio::spawn(async move { store.create(&format!("/k/{n}"), value("v")).await })
    };
    let first = create(0);
    assert_eq!(bench.sizes.recv().await, Some(1), "the first is being committed");
    let rest: Vec<_> = (1..=100).map(create).collect();
    bench.queued(101).await;
    bench.turns.send(()).expect("writer");
    assert_eq!(bench.sizes.recv().await, Some(100));
    assert_eq!(first.await.expect("task").expect("create"), 1);
    assert!(rest.iter().all(|write| !write.is_finished()), "no write returns before its commit");
    bench.turns.send(()).expect("writer");
    let mut revisions = Vec::new();
    for write in rest {
        revisions.push(write.await.expect("task").expect("create"));
    }
    assert_eq!(revisions, (2..=101).collect::<Vec<_>>(), "in the order of their arrival");
    bench.store.shutdown().await;
}

/// The batch was made up before the watcher came, and is published after.
#[tokio::test]
async fn a_watcher_that_subscribes_during_a_commit_gets_its_event() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut bench = bench(dir.path(), None);
    let store = bench.store.clone();
    let write = tokio::spawn(async move { store.create("/k", value("v")).await });
    assert_eq!(bench.sizes.recv().await, Some(1), "it is being committed");
    let mut watch = bench.store.watch("/", 0).await.expect("watch");
    bench.turns.send(()).expect("writer");
    assert_eq!(write.await.expect("task").expect("create"), 1);
    assert_eq!(watch.next().await.expect("stream").expect("event").revision, 1);
    bench.store.shutdown().await;
}

/// A refusal that rests on a write of the same batch is only true if that write is.
#[tokio::test]
async fn a_batch_that_fails_fails_whole() {
    for fault in [Fault::Full, Fault::Before, Fault::After] {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut bench = bench(dir.path(), Some((2, fault)));
        let store = bench.store.clone();
        let first = tokio::spawn(async move { store.create("/first", value("1")).await });
        assert_eq!(bench.sizes.recv().await, Some(1));
        let racing: Vec<_> = (0..3)
            .map(|_| {
                let store = bench.store.clone();
                tokio::spawn(async move { store.create("/same", value("2")).await })
            })
            .collect();
        bench.queued(4).await;
        let mut watch = bench.store.watch("/", 0).await.expect("watch");
        bench.turns.send(()).expect("writer");
        bench.turns.send(()).expect("writer");
        let mut results = Vec::new();
        for write in racing {
            results.push(write.await.expect("task"));
        }
        first.await.expect("task").expect("create");
        assert!(
            results.iter().all(|result| matches!(result, Err(StoreError::Io(_)))),
            "{results:?}"
        );
        assert!(bench.store.get("/same").await.expect("reads go on").is_none());
        assert_eq!(bench.store.revision().await.expect("revision"), 1);

        let seen = watch.next().await.expect("stream").expect("event");
        assert_eq!((seen.revision, seen.change), (1, Change::Created(value("1"))));
        bench.turns.send(()).expect("writer");
        let later = bench.store.create("/later", value("3")).await;
        match fault {
            Fault::Full => assert_eq!(later.expect("there is room again"), 2),
            _ => assert!(
                matches!(later, Err(StoreError::Closed(_))),
                "what the disk holds is unknown"
            ),
        }
        bench.store.shutdown().await;

        let store = Embedded::open(dir.path(), Options::default()).expect("opens");
        let held = store.get("/same").await.expect("get");
        assert_eq!(held.is_some(), fault == Fault::After, "all of the batch or nothing");
        let newest = store.revision().await.expect("revision");
        assert_eq!(store.create("/next", value("4")).await.expect("create"), newest + 1);
        store.shutdown().await;
    }
}

#[tokio::test]
async fn shutdown_completes_queued_writes_and_refuses_later_ones() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut bench = bench(dir.path(), None);
    let store = bench.store.clone();
    let queued = tokio::spawn(async move { store.create("/queued", value("v")).await });
    assert_eq!(bench.sizes.recv().await, Some(1));
    let other = bench.store.clone();
    let shutdown = tokio::spawn(bench.store.shutdown());
    while !other.inner.places.is_closed() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(other.create("/late", value("v")).await, Err(StoreError::Closed(_))));
    bench.turns.send(()).expect("writer");
    assert_eq!(queued.await.expect("task").expect("completed"), 1);
    shutdown.await.expect("shutdown");
    assert!(matches!(other.get("/queued").await, Err(StoreError::Closed(_))));
    assert!(matches!(other.compact(1).await, Err(StoreError::Closed(_))));
    let store = Embedded::open(dir.path(), Options::default()).expect("given back");
    assert!(store.get("/queued").await.expect("get").is_some());
    store.shutdown().await;
}

/// A broken invariant ends the writer; no caller may keep waiting for it.
#[tokio::test]
async fn a_writer_that_panics_ends_every_write_and_every_watch() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bench = bench(dir.path(), Some((1, Fault::Panic)));
    let mut watch = bench.store.watch("/", 0).await.expect("watch");
    bench.turns.send(()).expect("writer");
    let write = bench.store.create("/k", value("v")).await;
    assert!(matches!(write, Err(StoreError::Closed(_))), "{write:?}");
    assert!(matches!(watch.next().await, Some(Err(StoreError::Closed(_)))));
    let later = bench.store.create("/k", value("v")).await;
    assert!(matches!(later, Err(StoreError::Closed(_))), "{later:?}");
    bench.store.shutdown().await;
}

/// Many concurrent writers and watchers; each watcher must see what
/// the store did, all of it, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_that_come_and_go_under_concurrent_writers_miss_nothing() {
    const WRITERS: usize = 16;
    const WRITES: usize = 120;
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Embedded::open(dir.path(), Options::default()).expect("opens");
    let done = (WRITERS * WRITES) as Revision;
    let watchers = (0..WRITERS).map(|w| {
        let store = store.clone();
        let prefix = if w % 2 == 0 { "/k/".to_owned() } else { format!("/k/{w}/") };
        tokio::spawn(async move {
            let (mut at, mut seen) = (0, Vec::new());
            // The last write of all ends it: everyone's prefix has one at the end.
            while !seen.last().is_some_and(|e: &Event| e.key.ends_with("/end")) || at < done {
                // Left after some events and taken up again where it was.
                let mut watch = store.watch(&prefix, at).await.expect("watch");
                for _ in 0..37 {
                    let event = watch.next().await.expect("stream").expect("event");
                    at = event.revision;
                    let last = event.key.ends_with("/end");
                    seen.push(event);
                    if last && at > done {
                        break;
                    }
                }
            }
            (prefix, seen)
        })
    });
    let watchers: Vec<_> = watchers.collect();
    let conflicts = Arc::new(AtomicUsize::new(0));
    let writers = (0..WRITERS).map(|w| {
        let (store, conflicts) = (store.clone(), Arc::clone(&conflicts));
        tokio::spawn(async move {
            let mut made = 0;
            while made < WRITES {
                // Every third write goes to a key that all writers want.
                let key = match made % 3 {
                    0 => "/k/shared".to_owned(),
                    _ => format!("/k/{w}/{}", made % 5),
                };
                let result = match store.get(&key).await.expect("get") {
                    None => store.create(&key, value("v")).await,
                    Some(item) if made % 7 == 0 => store.delete(&key, item.revision).await,
                    Some(item) => store.update(&key, value("w"), item.revision).await,
                };
                match result {
                    Ok(_) => made += 1,
                    Err(
                        StoreError::Conflict { .. }
                        | StoreError::Exists { .. }
                        | StoreError::NotFound { .. },
                    ) => {
                        conflicts.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("writer");
    }
    assert_eq!(store.revision().await.expect("revision"), done, "dense");
    for w in 0..WRITERS {
        store.create(&format!("/k/{w}/end"), value("end")).await.expect("create");
    }
    let newest = store.revision().await.expect("revision");
    let mut all = store.watch("", 0).await.expect("watch");
    let mut history = Vec::new();
    for revision in 1..=newest {
        let event = all.next().await.expect("stream").expect("event");
        assert_eq!(event.revision, revision);
        history.push(event);
    }
    for watcher in watchers {
        let (prefix, seen) = watcher.await.expect("watcher");
        let upto = seen.last().expect("events").revision;
        let expected: Vec<_> = history
            .iter()
            .filter(|event| event.key.starts_with(&prefix) && event.revision <= upto)
            .cloned()
            .collect();
        assert_eq!(seen, expected, "{prefix}");
    }
    store.shutdown().await;
}

#[tokio::test]
async fn a_watcher_that_does_not_read_gets_an_error_and_blocks_no_writer() {
    let dir = tempfile::tempdir().expect("tempdir");
    let options = Options { watch_queue_max: 3, ..Options::default() };
    let store = Embedded::open(dir.path(), options).expect("opens");
    let mut slow = store.watch("/", 0).await.expect("watch");
    let mut other = store.watch("/none", 0).await.expect("watch");
    for n in 0..10 {
        store.create(&format!("/k/{n}"), value("v")).await.expect("create");
    }
    for revision in 1..=3 {
        assert_eq!(slow.next().await.expect("stream").expect("queued").revision, revision);
    }
    let error = slow.next().await.expect("stream").expect_err("lagged");
    assert!(matches!(error, StoreError::Lagged { at: 3 }), "{error}");
    assert!(slow.next().await.is_none());
    let mut again = store.watch("/", 3).await.expect("watch");
    assert_eq!(again.next().await.expect("stream").expect("event").revision, 4);
    store.create("/none/at/all", value("v")).await.expect("create");
    assert_eq!(other.next().await.expect("stream").expect("event").revision, 11);
    store.shutdown().await;
}

#[tokio::test]
async fn a_dropped_watch_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Embedded::open(dir.path(), Options::default()).expect("opens");
    let one = store.watch("/k/", 0).await.expect("watch");
    let two = store.watch("/k/", 0).await.expect("watch");
    assert_eq!(store.inner.hub.watchers(), 2);
    drop(one);
    assert_eq!(store.inner.hub.watchers(), 1);
    drop(two);
    assert_eq!(store.inner.hub.watchers(), 0);
    store.shutdown().await;
}

/// History is compacted automatically, and its rows are removed, also those of deleted keys.
#[tokio::test]
async fn history_is_compacted_when_it_is_old_and_when_it_is_long() {
    let dir = tempfile::tempdir().expect("tempdir");
    let long = Options { history_writes_max: 100, ..Options::default() };
    let old = Options { history: Duration::from_millis(5), ..Options::default() };
    for options in [long, old] {
        let store = Embedded::open(dir.path(), options).expect("opens");
        let mut at = store.create("/k", value("v")).await.expect("create");
        let start = at;
        loop {
            at = store.update("/k", value("w"), at).await.expect("update");
            if store.inner.served().0 > start + 300 {
                break;
            }
        }
        store.delete("/k", at).await.expect("delete");
        let newest = store.revision().await.expect("revision");
        store.compact(newest).await.expect("compact");
        store.shutdown().await;
    }
    let store = Embedded::open(dir.path(), Options::default()).expect("opens");
    let newest = store.revision().await.expect("revision");
    assert_eq!(store.inner.served(), (newest, newest));
    // What a shutdown left of the sweep is done by the next writer.
    let rows = || async {
        store.inner.read(|_, view| Ok(view.entries(0, usize::MAX)?.len())).await.expect("rows")
    };
    while rows().await > 0 {
        tokio::task::yield_now().await;
    }
    store.shutdown().await;
}
