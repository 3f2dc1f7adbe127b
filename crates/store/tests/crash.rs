//! Killed processes and torn writes: acknowledged writes exist afterwards, and others are complete or absent.
//! For full disks see `full_disk.rs`.

#![allow(clippy::print_stdout, reason = "children talk to the test through it")]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;

use coffer_store::embedded::{Embedded, OpenError, Options};
use coffer_store::{Change, ListOptions, Revision, Store, StoreError, Value};
use parking_lot::Mutex;

use support::{child, child_dir, content, restless, take};

const WRITERS: u64 = 16;

/// An acknowledged write, as the child prints it: revision, key, and the number of the value or `-`.
type Acked = (Revision, String, Option<u64>);

/// The body of the child: each writer has its own keys, and prints what was acknowledged.
#[ignore = "body of a child process, started by nothing_acknowledged_is_lost_when_the_process_is_killed"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_it_is_killed() {
    let dir = child_dir("COFFER_TEST_KILL");
    let store = Embedded::open(&dir, restless()).expect("opens");
    let out = std::sync::Arc::new(Mutex::new(std::io::stdout()));
    let start = store.revision().await.expect("revision");
    let writers = (0..WRITERS).map(|writer| {
        let (store, out) = (store.clone(), out.clone());
        tokio::spawn(async move {
            for n in start.. {
                let key = format!("/k/{writer}/{}", n % 7);
                let current = store.get(&key).await.expect("get").map(|item| item.revision);
                let value = || Value::new(content(&key, n));
                let (revision, what) = match current {
                    None => (store.create(&key, value()).await, n.to_string()),
                    Some(at) if n % 5 == 0 => (store.delete(&key, at).await, "-".to_owned()),
                    Some(at) => (store.update(&key, value(), at).await, n.to_string()),
                };
                let line = format!("acked {} {key} {what}\n", revision.expect("write"));
                out.lock().write_all(line.as_bytes()).expect("parent reads");
            }
        })
    });
    futures::future::join_all(writers).await;
}

/// A complete line; it may begin with output of the test harness.
fn parse(line: &str) -> Option<Acked> {
    let (_, line) = line.strip_suffix('\n')?.split_once("acked ")?;
    let mut words = line.split(' ');
    let revision = words.next()?.parse().ok()?;
    let (key, what) = (words.next()?.to_owned(), words.next()?);
    Some((revision, key, what.parse().ok()))
}

/// Starts the child, kills it after some acknowledged writes, and returns all that it printed.
fn run_and_kill(dir: &Path, after: usize) -> Vec<Acked> {
    let mut child = child("child_that_writes_until_it_is_killed", "COFFER_TEST_KILL", dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("child starts");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut acked = Vec::new();
    while acked.len() < after {
        let mut line = String::new();
        assert_ne!(out.read_line(&mut line).expect("text"), 0, "the child ended early");
        acked.extend(parse(&line));
    }
    child.kill().expect("kill");
    // The pipe holds what was said before the kill; its last line may be cut short.
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("text");
    acked.extend(rest.split_inclusive('\n').filter_map(parse));
    child.wait().expect("wait");
    acked
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut acked: Vec<Acked> = Vec::new();
    let mut unsaid = 0;
    for round in 0..12usize {
        // From the first batches to several checkpoints and compactions, at no round number.
        let round_acked = run_and_kill(dir.path(), 20 + round * round * 29);
        assert!(!round_acked.is_empty(), "the child wrote");
        let before = acked.iter().map(|(revision, ..)| *revision).max().unwrap_or(0);
        assert!(round_acked.iter().all(|(revision, ..)| *revision > before), "no revision twice");
        acked.extend(round_acked);
        let store = Embedded::open(dir.path(), Options::default()).expect("opens after a kill");
        unsaid = check(&store, &acked, unsaid).await;
        store.shutdown().await;
    }
}

/// Compares the store with everything that was acknowledged. Returns how many writes it has that were not:
/// each kill may leave one for each writer.
async fn check(store: &Embedded, acked: &[Acked], unsaid_before: u64) -> u64 {
    let newest = store.revision().await.expect("revision");
    let by_revision: HashMap<Revision, &Acked> = acked.iter().map(|a| (a.0, a)).collect();
    assert_eq!(by_revision.len(), acked.len(), "no revision is given twice");
    assert!(by_revision.keys().all(|revision| *revision <= newest), "acknowledged and lost");
    let unsaid = newest - acked.len() as u64;
    assert!(unsaid - unsaid_before <= WRITERS, "revisions are dense: {unsaid} of {newest} unsaid");

    // The last acknowledged write of each key is its state, or one that was not acknowledged is.
    let mut last: BTreeMap<&str, &Acked> = BTreeMap::new();
    for one in acked {
        let newer = last.entry(&one.1).or_insert(one);
        if one.0 > newer.0 {
            *newer = one;
        }
    }
    let page = store.list("/k/", ListOptions::default()).await.expect("list");
    let mut held: BTreeMap<&str, _> =
        page.items.iter().map(|item| (item.key.as_str(), item)).collect();
    for (key, (revision, _, n)) in &last {
        match (held.remove(key), n) {
            (Some(item), Some(n)) if item.revision == *revision => {
                assert_eq!(item.value.as_bytes(), content(key, *n));
            }
            (Some(item), _) => {
                assert!(item.revision > *revision && !by_revision.contains_key(&item.revision));
            }
            // Removed, although its last acknowledged write was not a removal: an unacknowledged write
            // removed it. The history shows that below, if it is not compacted.
            (None, _) => {}
        }
    }
    assert!(held.values().all(|item| !by_revision.contains_key(&item.revision)));
    check_history(store, &by_revision, newest).await;
    unsaid
}

/// The history that is left has every revision once, with what was acknowledged.
async fn check_history(store: &Embedded, acked: &HashMap<Revision, &Acked>, newest: Revision) {
    let oldest = match store.watch("/", 0).await {
        Ok(_) => 0,
        Err(StoreError::Compacted { oldest, .. }) => oldest,
        Err(other) => panic!("{other}"),
    };
    let mut watch = store.watch("/", oldest).await.expect("watch");
    let events = take(&mut watch, (newest - oldest) as usize).await;
    for (event, revision) in events.iter().zip(oldest + 1..) {
        assert_eq!(event.revision, revision);
        let Some((_, key, n)) = acked.get(&revision) else { continue };
        assert_eq!(event.key, *key);
        match (&event.change, n) {
            (Change::Created(value) | Change::Updated(value), Some(n)) => {
                assert_eq!(value.as_bytes(), content(key, *n));
            }
            (Change::Deleted, None) => {}
            (change, n) => panic!("revision {revision} was {n:?} and is {change:?}"),
        }
    }
}

/// A power loss can leave any beginning of what was not yet fsynced, with anything after it. Every
/// such beginning of SQLite's log opens as one of the states that the store went through, and as no
/// older one than was acknowledged by then.
#[tokio::test]
async fn a_torn_log_opens_as_a_state_that_was() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Embedded::open(dir.path(), Options::default()).expect("opens");
    let wal = dir.path().join("store.db-wal");
    let mut acked = Vec::new();
    let mut contents = Vec::new();
    for n in 0..12u64 {
        let key = format!("/k/{}", n % 5);
        let at = store.get(&key).await.expect("get").map(|item| item.revision);
        let value = Value::new(content(&key, n));
        match at {
            None => store.create(&key, value).await.expect("create"),
            Some(at) => store.update(&key, value, at).await.expect("update"),
        };
        contents.push((key, n));
        acked.push(std::fs::metadata(&wal).expect("log").len());
    }
    let database = std::fs::read(dir.path().join("store.db")).expect("database");
    let log = std::fs::read(&wal).expect("log");
    store.shutdown().await;

    for cut in (0..=log.len()).step_by(509) {
        let mut garbled = log[..cut].to_vec();
        garbled.extend(log[cut..].iter().map(|byte| byte ^ 0x5a));
        let mut zeroed = log[..cut].to_vec();
        zeroed.resize(log.len(), 0);
        for torn in [&log[..cut], &garbled, &zeroed] {
            let dir = tempfile::tempdir().expect("tempdir");
            std::fs::write(dir.path().join("store.db"), &database).expect("copy");
            std::fs::write(dir.path().join("store.db-wal"), torn).expect("copy");
            let store = Embedded::open(dir.path(), Options::default()).expect("opens");
            let newest = store.revision().await.expect("revision") as usize;
            let promised = acked.iter().filter(|len| **len <= cut as u64).count();
            assert!(newest >= promised, "cut at {cut}: {newest} of {promised}");
            let mut watch = store.watch("", 0).await.expect("watch");
            for (event, (key, n)) in take(&mut watch, newest).await.iter().zip(&contents) {
                assert_eq!(event.key, *key);
                let (Change::Created(value) | Change::Updated(value)) = &event.change else {
                    panic!("nothing was deleted");
                };
                assert_eq!(value.as_bytes(), content(key, *n));
            }
            store.shutdown().await;
        }
    }
}

/// The body of the second process.
#[ignore = "body of a child process, started by a_directory_in_use_by_another_process_is_refused_by_name"]
#[test]
fn child_that_opens_what_another_process_holds() {
    let dir = child_dir("COFFER_TEST_LOCK");
    match Embedded::open(&dir, Options::default()) {
        Ok(_) => println!("opened"),
        Err(error) => println!("refused: {error}"),
    }
}

#[tokio::test]
async fn a_directory_in_use_by_another_process_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("tempdir");
    let second = || {
        let mut child =
            child("child_that_opens_what_another_process_holds", "COFFER_TEST_LOCK", dir.path());
        String::from_utf8(child.output().expect("child").stdout).expect("text")
    };
    let store = Embedded::open(dir.path(), Options::default()).expect("opens");
    store.create("/k", Value::new(vec![1])).await.expect("create");
    let refusal =
        format!("refused: data directory {} is in use by another process\n", dir.path().display());
    assert!(second().contains(&refusal), "{}", second());
    store.create("/l", Value::new(vec![1])).await.expect("undisturbed");
    store.shutdown().await;
    assert!(second().contains("opened\n"));
}

#[tokio::test]
async fn a_directory_that_is_not_a_whole_store_says_what_is_wrong() {
    let opened = |dir: &Path| Embedded::open(dir, Options::default()).map(|_| ());
    let with = |change: &dyn Fn(&rusqlite::Connection)| {
        let dir = tempfile::tempdir().expect("tempdir");
        let database = rusqlite::Connection::open(dir.path().join("store.db")).expect("sqlite");
        change(&database);
        dir
    };

    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::write(dir.path().join("store.db"), "no database at all".repeat(300)).expect("write");
    assert!(matches!(opened(dir.path()), Err(OpenError::Corrupt { .. })));

    let foreign = with(&|db| db.execute_batch("CREATE TABLE t (a)").expect("sql"));
    assert!(matches!(opened(foreign.path()), Err(OpenError::Corrupt { .. })));

    let dir = tempfile::tempdir().expect("tempdir");
    let store = Embedded::open(dir.path(), Options::default()).expect("opens");
    for n in 0..5 {
        store.create(&format!("/k/{n}"), Value::new(vec![1])).await.expect("create");
    }
    store.shutdown().await;
    let database = rusqlite::Connection::open(dir.path().join("store.db")).expect("sqlite");
    database.execute("DELETE FROM log WHERE revision = 3", []).expect("sql");
    let error = opened(dir.path()).expect_err("a revision is missing");
    assert!(matches!(&error, OpenError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    database.pragma_update(None, "user_version", 2).expect("sql");
    let error = opened(dir.path()).expect_err("a newer format");
    assert!(matches!(error, OpenError::Format { found: 2, known: 1, .. }), "{error}");

    let file = tempfile::NamedTempFile::new().expect("tempfile");
    let error = opened(file.path()).expect_err("a file is not a directory");
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
}
