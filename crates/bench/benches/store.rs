//! The store through its public endpoint: durable commits alone and together, and watch dispatch.

use std::sync::Arc;

use coffer_store::embedded::{Embedded, Options};
use coffer_store::sealed::{Keyring, Sealed};
use coffer_store::{Store, Value};
use divan::Bencher;
use divan::counter::ItemsCount;
use futures::StreamExt as _;
use futures::future::join_all;
use tempfile::TempDir;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

const VALUE: usize = 1024;
const PREFIX: &str = "/registry/secrets/";
const EVENTS: u64 = 100;

/// A store on the disk that holds the build, which is a real one; /tmp may be memory.
struct Rig {
    runtime: Runtime,
    store: Arc<Sealed<Embedded>>,
    next: std::cell::Cell<u64>,
    _dir: TempDir,
}

impl Rig {
    fn new(sealed: bool) -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let runtime = Runtime::new().expect("a runtime");
        let options = Options { watch_queue_max: 1 << 16, ..Options::default() };
        let store = Embedded::open(&dir.path().join("store"), options).expect("opens");
        let prefixes: &[&str] = if sealed { &[PREFIX] } else { &[] };
        let store = Sealed::new(store, Keyring::generate().expect("random"), prefixes);
        Self { runtime, store: Arc::new(store), next: std::cell::Cell::new(0), _dir: dir }
    }

    /// Creates so many keys at the same time.
    fn create(&self, writers: u64) {
        let first = self.next.get();
        self.next.set(first + writers);
        self.runtime.block_on(async {
            let create = |n: u64| {
                let store = self.store.clone();
                tokio::spawn(async move {
                    let key = format!("{PREFIX}ns/secret-{n:09}");
                    store.create(&key, Value::new(vec![0x5a; VALUE])).await.expect("creates")
                })
            };
            join_all((first..first + writers).map(create)).await;
        });
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let store = self.store.inner().clone();
        self.runtime.block_on(store.shutdown());
    }
}

#[divan::bench(args = [1, 16, 64], sample_count = 50)]
fn commit(bencher: Bencher<'_, '_>, writers: u64) {
    let rig = Rig::new(false);
    bencher.counter(ItemsCount::new(writers)).bench_local(|| rig.create(writers));
}

#[divan::bench(args = [1, 64], sample_count = 50)]
fn commit_sealed(bencher: Bencher<'_, '_>, writers: u64) {
    let rig = Rig::new(true);
    bencher.counter(ItemsCount::new(writers)).bench_local(|| rig.create(writers));
}

/// A hundred writes, of which every watcher sees each: items are events delivered.
#[divan::bench(args = [1, 100, 1000], sample_count = 5)]
fn dispatch(bencher: Bencher<'_, '_>, watchers: u64) {
    let rig = Rig::new(false);
    bencher.counter(ItemsCount::new(watchers * EVENTS)).bench_local(|| {
        let after = rig.runtime.block_on(rig.store.revision()).expect("revision");
        let streams = rig.runtime.block_on(async {
            join_all((0..watchers).map(|_| rig.store.watch(PREFIX, after))).await
        });
        rig.create(EVENTS);
        rig.runtime.block_on(async {
            for stream in streams {
                let mut stream = stream.expect("watches").take(EVENTS as usize);
                while let Some(event) = stream.next().await {
                    event.expect("an event");
                }
            }
        });
    });
}
