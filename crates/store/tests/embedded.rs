//! The embedded engine from outside: the promises of `Store`, one sentence a test.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use coffer_store::embedded::{Embedded, OpenError, Options};
use coffer_store::{Change, ListOptions, Store, StoreError};
use futures::StreamExt;

use support::{take, value};

fn open(dir: &Path) -> Embedded {
    Embedded::open(dir, Options::default()).expect("opens")
}

async fn keys(store: &impl Store, prefix: &str, revision: Option<u64>) -> Vec<String> {
    let options = ListOptions { revision, ..ListOptions::default() };
    let page = store.list(prefix, options).await.expect("lists");
    page.items.into_iter().map(|item| item.key).collect()
}

#[tokio::test]
async fn what_is_written_is_read_back_also_by_the_next_process() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    assert_eq!(store.create("/a/1", value("one")).await.expect("create"), 1);
    assert_eq!(store.create("/a/2", value("two")).await.expect("create"), 2);
    assert_eq!(store.update("/a/1", value("uno"), 1).await.expect("update"), 3);
    assert_eq!(store.delete("/a/2", 2).await.expect("delete"), 4);
    store.shutdown().await;

    let store = open(dir.path());
    assert_eq!(store.revision().await.expect("revision"), 4);
    let one = store.get("/a/1").await.expect("get").expect("exists");
    assert_eq!((one.revision, one.value.as_bytes()), (3, b"uno".as_slice()));
    assert!(store.get("/a/2").await.expect("get").is_none());
    assert_eq!(keys(&store, "/a/", Some(2)).await, ["/a/1", "/a/2"]);
    assert_eq!(store.create("/a/3", value("three")).await.expect("create"), 5);
    store.shutdown().await;
}

#[tokio::test]
async fn a_write_that_expects_another_state_says_what_it_found() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    store.create("/k", value("1")).await.expect("create");
    let exists = store.create("/k", value("2")).await;
    assert!(matches!(exists, Err(StoreError::Exists { key }) if key == "/k"));
    let conflict = store.update("/k", value("2"), 7).await;
    assert!(matches!(conflict, Err(StoreError::Conflict { expected: 7, found: 1, .. })));
    let absent = store.delete("/none", 1).await;
    assert!(matches!(absent, Err(StoreError::NotFound { .. })));
    assert_eq!(store.revision().await.expect("revision"), 1, "refused writes take no revision");
    store.shutdown().await;
}

#[tokio::test]
async fn pages_of_one_revision_add_up_while_writes_go_on() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    for n in 0..10 {
        store.create(&format!("/p/{n}"), value("v")).await.expect("create");
    }
    let first = store.list("/p/", ListOptions { limit: Some(4), ..Default::default() }).await;
    let first = first.expect("page");
    assert_eq!((first.items.len(), first.remaining, first.revision), (4, 6, 10));
    store.delete("/p/5", 6).await.expect("delete");
    store.create("/p/55", value("v")).await.expect("create");
    let rest = ListOptions {
        after: first.items.last().map(|i| i.key.clone()),
        revision: Some(first.revision),
        ..Default::default()
    };
    let rest = store.list("/p/", rest).await.expect("page");
    let found: Vec<_> = rest.items.iter().map(|i| i.key.as_str()).collect();
    assert_eq!(found, ["/p/4", "/p/5", "/p/6", "/p/7", "/p/8", "/p/9"]);
    assert_eq!(rest.remaining, 0);
    store.shutdown().await;
}

#[tokio::test]
async fn a_watch_gets_the_history_and_then_what_happens() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    store.create("/w/a", value("1")).await.expect("create");
    store.create("/other", value("x")).await.expect("create");
    store.update("/w/a", value("2"), 1).await.expect("update");
    let mut watch = store.watch("/w/", 0).await.expect("watch");
    store.delete("/w/a", 3).await.expect("delete");
    let events = take(&mut watch, 3).await;
    let seen: Vec<_> = events.iter().map(|e| (e.revision, e.change.clone())).collect();
    let (one, two) = (value("1"), value("2"));
    assert_eq!(seen, [(1, Change::Created(one)), (3, Change::Updated(two)), (4, Change::Deleted),]);
    store.shutdown().await;
    assert!(matches!(watch.next().await, Some(Err(StoreError::Closed(_)))));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn compaction_forgets_what_is_older_and_only_that() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    store.create("/a", value("1")).await.expect("create");
    store.update("/a", value("2"), 1).await.expect("update");
    store.create("/b", value("1")).await.expect("create");
    store.delete("/b", 3).await.expect("delete");
    assert!(matches!(store.compact(9).await, Err(StoreError::Future { newest: 4, .. })));
    store.compact(4).await.expect("compact");
    let old = store.list("/", ListOptions { revision: Some(3), ..Default::default() }).await;
    assert!(matches!(old, Err(StoreError::Compacted { requested: 3, oldest: 4 })));
    let watch = store.watch("/", 3).await;
    assert!(matches!(watch.err(), Some(StoreError::Compacted { requested: 3, oldest: 4 })));
    assert_eq!(keys(&store, "/", Some(4)).await, ["/a"]);
    store.shutdown().await;

    // The newest revision was a removal, whose row is removed: its number must not be used again.
    let store = open(dir.path());
    assert_eq!(store.revision().await.expect("revision"), 4);
    assert_eq!(store.create("/c", value("1")).await.expect("create"), 5);
    assert!(matches!(store.watch("/", 3).await.err(), Some(StoreError::Compacted { .. })));
    store.shutdown().await;
}

#[tokio::test]
async fn the_data_directory_is_for_its_owner_only() {
    let dir = tempfile::tempdir().expect("tempdir");
    let data = dir.path().join("made/by/open");
    let store = open(&data);
    store.create("/a", value("1")).await.expect("create");
    let mode =
        |path: &Path| std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let mut files = 0;
    for file in std::fs::read_dir(&data).expect("readable") {
        let path = file.expect("entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files += 1;
    }
    assert!(files >= 4, "database, its two helpers, lock");
    store.shutdown().await;
}

#[tokio::test]
async fn a_directory_that_is_open_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let error = Embedded::open(dir.path(), Options::default()).expect_err("refused");
    assert!(matches!(&error, OpenError::InUse { dir: named } if named == dir.path()));
    store.shutdown().await;
    open(dir.path()).shutdown().await;
}

fn large(bytes: usize, fill: u8) -> coffer_store::Value {
    coffer_store::Value::new(vec![fill; bytes])
}

/// A store without a bound fills the disk, and with one that never lets go nothing could be deleted.
#[tokio::test]
async fn creates_beyond_the_quota_fail_until_deletes_free_space() {
    let dir = tempfile::tempdir().expect("tempdir");
    let options = Options { quota_bytes: 2 << 20, ..Options::default() };
    let store = Embedded::open(dir.path(), options).expect("opens");
    let mut made = Vec::new();
    let full = loop {
        assert!(made.len() < 100, "a quota of 2 MiB takes no 100 times 100 KiB");
        match store.create(&format!("/k/{}", made.len()), large(100 << 10, b'a')).await {
            Ok(revision) => made.push(revision),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::NoSpace), "{full}");
    assert!(made.len() >= 15, "{}", made.len());
    let grown = store.update("/k/0", large(200 << 10, b'b'), made[0]).await;
    assert!(matches!(grown, Err(StoreError::NoSpace)));
    let marked = store.update("/k/0", large((100 << 10) + 100, b'b'), made[0]).await;
    made[0] = marked.expect("a deletion's mark passes");
    for (at, revision) in made.iter().enumerate().take(8) {
        store.delete(&format!("/k/{at}"), *revision).await.expect("removals always pass");
    }
    // Deleted objects free space once the history is removed, which happens automatically.
    let freed = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        while store.create("/again", large(100 << 10, b'c')).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    freed.await.expect("there is room again");
    store.shutdown().await;
}

/// Twenty seconds of large updates kept every version for five minutes.
#[tokio::test]
async fn a_storm_of_large_updates_does_not_keep_every_version() {
    let dir = tempfile::tempdir().expect("tempdir");
    let options = Options { history_bytes_max: 4 << 20, ..Options::default() };
    let store = Embedded::open(dir.path(), options).expect("opens");
    let mut at = store.create("/k", large(512 << 10, 0)).await.expect("create");
    for fill in 1..=100 {
        at = store.update("/k", large(512 << 10, fill), at).await.expect("update");
    }
    let database = std::fs::read_dir(dir.path()).expect("the directory").flatten();
    let bytes: u64 = database
        .filter(|file| !file.file_name().to_string_lossy().contains("-wal"))
        .map(|file| file.metadata().expect("metadata").len())
        .sum();
    assert!(bytes < 16 << 20, "{bytes} bytes for 50 MiB of updates");
    let options = ListOptions { revision: Some(1), ..ListOptions::default() };
    assert!(matches!(store.list("/", options).await, Err(StoreError::Compacted { .. })));
    store.shutdown().await;
}
