//! A full disk refuses writes and loses none.
//!
//! The test needs a small file system, which it mounts in a mount namespace of its own. Where this user cannot
//! create one, the test reports itself as ignored. The standard harness cannot do that at run time, so this
//! program has its own `main`, which prints what the standard harness prints.

#![allow(clippy::print_stdout, reason = "it is the test's report")]

mod support;

use std::process::{Command, ExitCode};

use coffer_store::embedded::{Embedded, Options};
use coffer_store::{ListOptions, Store, StoreError, Value};

use support::{child_dir, content, restless};

const NAME: &str = "a_full_disk_refuses_writes_and_loses_none";
/// The directory that the child fills, if this process is the child.
const VARIABLE: &str = "COFFER_TEST_FULL";
/// The last line of a child that has succeeded.
const DONE: &str = "the disk was full";
/// Sizes of the file system.
const SIZES: [&str; 3] = ["300k", "700k", "1100k"];

fn main() -> ExitCode {
    if std::env::var_os(VARIABLE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
        runtime.expect("runtime").block_on(fill());
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let mut filters = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    let is_selected = filters.peek().is_none() || filters.any(|filter| NAME.contains(filter));
    if has("--list") {
        println!("{NAME}: test");
        return ExitCode::SUCCESS;
    }
    if !is_selected || has("--ignored") {
        println!("\nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored");
        return ExitCode::SUCCESS;
    }
    println!("\nrunning 1 test");
    let Some(namespace) = namespace() else {
        println!("test {NAME} ... ignored, this user cannot create a mount namespace");
        println!("\ntest result: ok. 0 passed; 0 failed; 1 ignored");
        return ExitCode::SUCCESS;
    };
    for size in SIZES {
        if let Err(output) = run(namespace, size) {
            println!("test {NAME} ... FAILED\n\non a disk of {size}:\n{output}");
            println!("\ntest result: FAILED. 0 passed; 1 failed; 0 ignored");
            return ExitCode::FAILURE;
        }
    }
    println!("test {NAME} ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored");
    ExitCode::SUCCESS
}

/// The arguments of unshare(1) with which this user can create a mount namespace.
fn namespace() -> Option<&'static [&'static str]> {
    let all: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    all.into_iter().find(|arguments| {
        let mut command = Command::new("unshare");
        command.args(*arguments).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
        command.output().expect("unshare is part of util-linux").status.success()
    })
}

/// Runs the child on a file system of this size. Returns its output if it fails.
fn run(namespace: &[&str], size: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("tempdir");
    let script = r#"mount -t tmpfs -o size="$0" tmpfs "$COFFER_TEST_FULL" && exec "$1""#;
    let mut command = Command::new("unshare");
    // The mount disappears with the process.
    command.args(namespace).args(["sh", "-c", script, size]);
    command.arg(std::env::current_exe().expect("own path")).env(VARIABLE, dir.path());
    let output = command.output().expect("unshare is part of util-linux");
    let text = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    if output.status.success() && text[0].contains(DONE) { Ok(()) } else { Err(text.concat()) }
}

/// The body of the child.
async fn fill() {
    let dir = child_dir(VARIABLE);
    let data = dir.join("data");
    let store = Embedded::open(&data, restless()).expect("opens");
    let mut acked = 0;
    let refused = loop {
        let key = format!("/k/{acked}");
        match store.create(&key, Value::new(content(&key, acked))).await {
            Ok(revision) => {
                acked += 1;
                assert_eq!(revision, acked);
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Io(_)), "{refused}");
    assert!(acked > 10, "there was space at first");
    // What exists can be read, and no write is reported that did not happen.
    let page = store.list("/k/", ListOptions::default()).await.expect("reads continue");
    assert_eq!((page.items.len() as u64, page.revision), (acked, acked));
    assert!(store.create("/again", Value::new(vec![7; 9000])).await.is_err());
    assert_eq!(store.revision().await.expect("revision"), acked);

    let grown = Command::new("mount").args(["-o", "remount,size=32m"]).arg(&dir).status();
    assert!(grown.expect("mount").success());
    assert_eq!(store.create("/again", Value::new(vec![7; 9000])).await.expect("space"), acked + 1);
    store.shutdown().await;
    let store = Embedded::open(&data, Options::default()).expect("opens");
    let page = store.list("/k/", ListOptions::default()).await.expect("list");
    for item in &page.items {
        assert_eq!(item.value.as_bytes(), content(&item.key, item.revision - 1));
    }
    assert_eq!((page.items.len() as u64, page.revision), (acked, acked + 1));
    store.shutdown().await;
    println!("{DONE}");
}
