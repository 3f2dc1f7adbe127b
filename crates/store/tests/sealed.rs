//! Sealing from outside: what lies on the disk, and what happens when it is changed there.

mod support;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_store::embedded::{Embedded, Options};
use coffer_store::sealed::{Keyring, OpenError, Sealed};
use coffer_store::{Change, ListOptions, Store, StoreError, Value};
use futures::StreamExt;

use support::{Reopen, SECRETS, take, value};

const KEY: &str = "/registry/secrets/myns/mysecret";

async fn open(dir: &Path) -> Sealed<Embedded> {
    Sealed::reopen(dir, Options::default()).await
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Every file of the directory in which one of the needles is found.
fn found(dir: &Path, needles: &[Vec<u8>]) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("readable") {
        let path = entry.expect("entry").path();
        let bytes = std::fs::read(&path).expect("file");
        if needles.iter().any(|needle| contains(&bytes, needle)) {
            files.push(path.display().to_string());
        }
    }
    files
}

/// The canary, and what of it survives in base64 at each of the three alignments.
fn needles(canary: &str) -> Vec<Vec<u8>> {
    let mut needles = vec![canary.as_bytes().to_vec()];
    for shift in 0..3 {
        let encoded = STANDARD.encode([&vec![b'x'; shift], canary.as_bytes()].concat());
        needles.push(encoded.as_bytes()[4..encoded.len() - 4].to_vec());
    }
    needles
}

#[tokio::test]
async fn neither_plaintext_nor_its_base64_is_found_in_the_data_directory() {
    let dir = tempfile::tempdir().expect("tempdir");
    let options = Options { checkpoint_bytes: 10_000, ..Options::default() };
    let store = Sealed::<Embedded>::reopen(dir.path(), options).await;
    let canary = "canary-0f7d1c-of-a-secret-nobody-may-find";
    let object = |n: usize| {
        let pad = "p".repeat(n % 3);
        value(&format!(
            r#"{{"data":{{"k":"{}"}},"s":"{pad}{canary}"}}"#,
            STANDARD.encode(format!("{pad}{canary}"))
        ))
    };
    for n in 0..60usize {
        let key = format!("{SECRETS}ns/{}", n % 10);
        let at = store.get(&key).await.expect("get").map(|item| item.revision);
        match at {
            None => store.create(&key, object(n)).await,
            Some(at) if n % 7 == 0 => store.delete(&key, at).await,
            Some(at) => store.update(&key, object(n), at).await,
        }
        .expect("write");
        assert_eq!(found(dir.path(), &needles(canary)), Vec::<String>::new(), "at write {n}");
    }
    store.list(SECRETS, ListOptions::default()).await.expect("list");
    store.close().await;
    assert_eq!(found(dir.path(), &needles(canary)), Vec::<String>::new());

    // The search itself finds what is not sealed.
    let store = open(dir.path()).await;
    store.create("/registry/configmaps/ns/c", object(0)).await.expect("create");
    assert!(!found(dir.path(), &needles(canary)).is_empty());
    assert!(!found(dir.path(), &needles(canary)[1..]).is_empty(), "also by its base64");
    store.close().await;
}

#[tokio::test]
async fn sealed_values_are_read_listed_and_watched_in_the_open() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path()).await;
    store.create(KEY, value("1")).await.expect("create");
    store.create("/registry/pods/p", value("pod")).await.expect("create");
    store.update(KEY, value("2"), 1).await.expect("update");
    store.delete(KEY, 3).await.expect("delete");
    store.close().await;

    let store = open(dir.path()).await;
    let mut watch = store.watch("/registry/", 0).await.expect("watch");
    let seen: Vec<_> = take(&mut watch, 4).await.into_iter().map(|event| event.change).collect();
    let (one, two) = (value("1"), value("2"));
    assert_eq!(
        seen,
        [
            Change::Created(one.clone()),
            Change::Created(value("pod")),
            Change::Updated(two),
            Change::Deleted,
        ]
    );
    let then = ListOptions { revision: Some(2), ..ListOptions::default() };
    let page = store.list("/registry/", then).await.expect("list");
    let values: Vec<_> = page.items.into_iter().map(|item| item.value).collect();
    assert_eq!(values, [value("pod"), one]);
    let beneath = store.inner().get("/registry/pods/p").await.expect("get").expect("there");
    assert_eq!(beneath.value, value("pod"), "other prefixes pass as they are");
    store.close().await;
}

/// Writes `bytes` where the sealed value of `KEY` was, and returns the result of each way to read it.
async fn after_change(change: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<StoreError> {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path()).await;
    store.create(KEY, value("payload")).await.expect("create");
    let sealed = store.inner().get(KEY).await.expect("get").expect("there").value;
    let changed = Value::new(change(sealed.as_bytes().to_vec()));
    store.inner().update(KEY, changed, 1).await.expect("update");
    let mut watch = store.watch(SECRETS, 1).await.expect("watch");
    let errors = vec![
        store.get(KEY).await.expect_err("get"),
        store.list(SECRETS, ListOptions::default()).await.expect_err("list"),
        watch.next().await.expect("an item").expect_err("watch"),
    ];
    assert!(watch.next().await.is_none(), "the stream ends after the error");
    store.close().await;
    errors
}

#[tokio::test]
async fn a_changed_or_cut_value_is_an_error_to_every_reader() {
    let changes: [fn(Vec<u8>) -> Vec<u8>; 6] = [
        |mut bytes| {
            *bytes.last_mut().expect("not empty") ^= 1;
            bytes
        },
        |mut bytes| {
            bytes[90] ^= 0x80;
            bytes
        },
        |bytes| bytes[..bytes.len() - 1].to_vec(),
        |bytes| bytes[..20].to_vec(),
        |_| Vec::new(),
        |_| b"{\"kind\":\"Secret\"}".to_vec(),
    ];
    for change in changes {
        for error in after_change(change).await {
            let StoreError::Sealed { key, .. } = &error else { panic!("{error}") };
            assert_eq!(key, KEY);
            assert!(!format!("{error} {error:?}").contains("payload"));
        }
    }
}

#[tokio::test]
async fn a_value_moved_to_another_key_does_not_open() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path()).await;
    store.create(KEY, value("payload")).await.expect("create");
    let sealed = store.inner().get(KEY).await.expect("get").expect("there").value;
    let elsewhere = "/registry/secrets/theirs/mysecret";
    store.inner().create(elsewhere, sealed).await.expect("create");
    let error = store.get(elsewhere).await.expect_err("moved");
    assert!(matches!(error, StoreError::Sealed { .. }), "{error}");
    assert_eq!(store.get(KEY).await.expect("get").expect("there").value, value("payload"));
    store.close().await;
}

#[tokio::test]
async fn the_wrong_key_file_opens_nothing_and_a_missing_one_is_not_replaced() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path()).await;
    store.create(KEY, value("payload")).await.expect("create");
    store.close().await;

    let key_file = dir.path().join("sealing.key");
    let right = dir.path().join("kept");
    std::fs::rename(&key_file, &right).expect("rename");
    let beneath = Embedded::open(dir.path(), Options::default()).expect("opens");
    let error = Sealed::open(beneath.clone(), &key_file, &[SECRETS]).await.expect_err("missing");
    assert!(matches!(&error, OpenError::KeyFileMissing { path } if *path == key_file), "{error}");
    assert!(!key_file.exists());

    Keyring::generate().expect("random").store_new(&key_file).expect("stores");
    let wrong = Sealed::open(beneath.clone(), &key_file, &[SECRETS]).await.expect("opens");
    let error = wrong.get(KEY).await.expect_err("another key");
    assert!(matches!(error, StoreError::Sealed { .. }), "{error}");
    beneath.shutdown().await;
}

#[tokio::test]
async fn a_new_first_key_seals_and_the_old_one_still_opens() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path()).await;
    store.create(KEY, value("old")).await.expect("create");
    store.close().await;

    let key_file = dir.path().join("sealing.key");
    let old = std::fs::read_to_string(&key_file).expect("key file");
    let scratch = dir.path().join("new");
    Keyring::generate().expect("random").store_new(&scratch).expect("stores");
    let new = std::fs::read_to_string(&scratch).expect("key file");
    std::fs::write(&key_file, format!("{new}{old}")).expect("rotate");

    let store = open(dir.path()).await;
    assert_eq!(store.get(KEY).await.expect("get").expect("there").value, value("old"));
    store.update(KEY, value("new"), 1).await.expect("update");
    store.close().await;
    std::fs::write(&key_file, new).expect("retire");
    let store = open(dir.path()).await;
    assert_eq!(store.get(KEY).await.expect("get").expect("there").value, value("new"));
    let then = ListOptions { revision: Some(1), ..ListOptions::default() };
    let error = store.list(SECRETS, then).await.expect_err("the history has the old key");
    assert!(matches!(error, StoreError::Sealed { .. }), "{error}");
    store.close().await;
}

/// A writer's note comes with its own value to who watches in the same process, sealed or not; it is not
/// stored, and what is read again has none.
#[tokio::test]
async fn a_note_reaches_a_watcher_with_the_write_and_is_not_kept() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path()).await;
    let mut watch = store.watch("/registry/", 0).await.expect("watch");
    for key in [KEY, "/registry/pods/p"] {
        let noted = Value::noted(b"value".to_vec(), std::sync::Arc::new(7_u32));
        store.create(key, noted).await.expect("create");
    }
    let note = |event: &coffer_store::Event| match &event.change {
        Change::Created(value) => value.note().and_then(|note| note.downcast_ref().copied()),
        _ => None,
    };
    let notes = take(&mut watch, 2).await;
    assert_eq!(notes.iter().map(note).collect::<Vec<_>>(), [Some(7_u32), Some(7)]);
    let mut again = store.watch("/registry/", 0).await.expect("watch");
    let notes = take(&mut again, 2).await;
    assert_eq!(notes.iter().map(note).collect::<Vec<_>>(), [None, None]);
    assert!(store.get(KEY).await.expect("get").expect("there").value.note().is_none());
}
