//! What the store's tests share.
#![allow(dead_code, reason = "each test program uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use coffer_store::embedded::{Embedded, Options};
use coffer_store::sealed::Sealed;
use coffer_store::{Event, Store, StoreError, Value};
use futures::StreamExt;
use futures::stream::BoxStream;

pub(crate) type Watch = BoxStream<'static, Result<Event, StoreError>>;

pub(crate) const SECRETS: &str = "/registry/secrets/";

pub(crate) fn value(text: &str) -> Value {
    Value::new(text.as_bytes().to_vec())
}

/// A store that can be closed and opened again.
pub(crate) trait Reopen: Store + Sized {
    fn reopen(dir: &Path, options: Options) -> impl Future<Output = Self> + Send;
    fn close(self) -> impl Future<Output = ()> + Send;
}

impl Reopen for Embedded {
    async fn reopen(dir: &Path, options: Options) -> Self {
        Self::open(dir, options).expect("opens")
    }
    async fn close(self) {
        self.shutdown().await;
    }
}

impl Reopen for Sealed<Embedded> {
    async fn reopen(dir: &Path, options: Options) -> Self {
        let store = Embedded::open(dir, options).expect("opens");
        Self::open(store, &dir.join("sealing.key"), &[SECRETS]).await.expect("key file")
    }
    async fn close(self) {
        self.inner().clone().shutdown().await;
    }
}

/// The next `count` events; a stream that stays silent fails the test.
pub(crate) async fn take(watch: &mut Watch, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(30), watch.next()).await;
        events.push(next.expect("in time").expect("stream goes on").expect("event"));
    }
    events
}

/// The test program itself, to run one of its ignored tests as the body of a child process.
pub(crate) fn child(test: &str, variable: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(variable, dir).stdin(Stdio::null());
    command
}

/// The directory for which this process was started as a child.
pub(crate) fn child_dir(variable: &str) -> PathBuf {
    let dir = std::env::var_os(variable);
    dir.map(PathBuf::from).expect("the body of a child process runs only in a child process")
}

/// Options with frequent checkpoints and compactions, so that failures happen during them, too.
pub(crate) fn restless() -> Options {
    Options {
        history: Duration::from_millis(40),
        history_writes_max: 500,
        checkpoint_bytes: 100_000,
        ..Options::default()
    }
}

/// The value of a write to a key: sizes from a few bytes to several pages.
pub(crate) fn content(key: &str, n: u64) -> Vec<u8> {
    let size = [10, 300, 1024, 9000][n as usize % 4];
    format!("{key} {n} ").into_bytes().into_iter().cycle().take(size).collect()
}
