//! The same questions, asked of `coffer_store` through the API that the API server uses.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coffer_store::embedded::{Embedded, Options};
use coffer_store::sealed::{Keyring, Sealed};
use coffer_store::{ListOptions, Store, Value};
use futures::future::join_all;

use crate::{GROWTH_HISTORY, GROWTH_KEYS, SCAN_KEYS, VALUE_BYTES, disk, key, mib, value};

pub fn name(sealed: bool) -> &'static str {
    if sealed { "**coffer-store, sealed**" } else { "**coffer-store**" }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("runtime")
}

/// Opens the store, and the layer that seals over it; without prefixes that layer does nothing.
fn open(dir: &Path, sealed: bool) -> Sealed<Embedded> {
    let store = Embedded::open(dir, Options::default()).expect("opens");
    let path = dir.join("sealing.key");
    let keyring = Keyring::load(&path).expect("key file").unwrap_or_else(|| {
        let new = Keyring::generate().expect("random");
        new.store_new(&path).expect("key file");
        new
    });
    Sealed::new(store, keyring, if sealed { &["/registry/secrets/"] } else { &[] })
}

/// Writers on the runtime's threads, as requests are.
pub fn drive(
    dir: &Path,
    writers: u64,
    time: Duration,
    sealed: bool,
    acked: fn(u64),
) -> Vec<Duration> {
    runtime().block_on(async {
        let store = Arc::new(open(dir, sealed));
        let end = Instant::now() + time;
        let start = store.revision().await.expect("revision");
        let writers = (0..writers).map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut times = Vec::new();
                let mut n = (start + writer) * 10_000_000;
                while Instant::now() < end {
                    let start = Instant::now();
                    store.create(&key(n), Value::new(value(n))).await.expect("create");
                    times.push(start.elapsed());
                    acked(n);
                    n += 1;
                }
                times
            })
        });
        let times = join_all(writers.collect::<Vec<_>>()).await;
        store.inner().clone().shutdown().await;
        times.into_iter().flat_map(|times| times.expect("writer")).collect()
    })
}

pub fn newest(dir: &Path) -> (u64, Duration) {
    runtime().block_on(async {
        let start = Instant::now();
        let store = open(dir, false);
        let took = start.elapsed();
        let newest = store.revision().await.expect("revision");
        store.inner().clone().shutdown().await;
        (newest, took)
    })
}

pub fn scan(dir: &Path, sealed: bool) {
    runtime().block_on(async {
        let store = open(dir, sealed);
        let all: Vec<u64> = (1..=SCAN_KEYS).collect();
        for some in all.chunks(256) {
            let store = &store;
            let create = |&n: &u64| async move {
                store.create(&key(n), Value::new(value(n))).await.expect("create")
            };
            join_all(some.iter().map(create)).await;
        }
        store.inner().clone().shutdown().await;
        let start = Instant::now();
        let store = open(dir, sealed);
        let opened = start.elapsed();
        let start = Instant::now();
        let page = store.list("/registry/secrets/", ListOptions::default()).await.expect("list");
        let listed = start.elapsed();
        assert_eq!(page.items.len() as u64, SCAN_KEYS);
        assert!(page.items.iter().all(|item| item.value.as_bytes().len() == VALUE_BYTES));
        drop(page);
        let start = Instant::now();
        for i in 0..20_000u64 {
            let n = i.wrapping_mul(48_271) % SCAN_KEYS + 1;
            assert!(store.get(&key(n)).await.expect("get").is_some());
        }
        let got = start.elapsed();
        let name = name(sealed);
        println!("| {name} | {opened:.1?} | {listed:.1?} | {got:.1?} | {} |", mib(disk(dir)));
        store.inner().clone().shutdown().await;
    });
    let child = Command::new(std::env::current_exe().expect("own path"))
        .args(["memory", name(sealed)])
        .arg(dir)
        .output()
        .expect("child runs");
    println!("\nmemory of the open store: {}", String::from_utf8_lossy(&child.stdout).trim());
}

/// What the keys cost in memory: a child opens the store and says what it grew by.
pub fn memory(dir: &Path) -> u64 {
    let before = resident();
    let store = Embedded::open(dir, Options::default()).expect("opens");
    let grown = resident() - before;
    runtime().block_on(store.shutdown());
    grown
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

pub fn growth(dir: &Path) {
    runtime().block_on(async {
        let start = Instant::now();
        let store = Arc::new(open(dir, false));
        let (mut largest, mut revisions) = (0, vec![0; GROWTH_KEYS as usize]);
        for round in 0..100 {
            for some in (0..GROWTH_KEYS).collect::<Vec<_>>().chunks(64) {
                let update = |&n: &u64| {
                    let (store, at) = (Arc::clone(&store), revisions[n as usize]);
                    async move {
                        let value = Value::new(value(n + round * GROWTH_KEYS));
                        let made = match at {
                            0 => store.create(&key(n), value).await,
                            at => store.update(&key(n), value, at).await,
                        };
                        (n, made.expect("write"))
                    }
                };
                for (n, revision) in join_all(some.iter().map(update)).await {
                    revisions[n as usize] = revision;
                }
            }
            if round % 5 == 4 {
                let newest = store.revision().await.expect("revision");
                store.compact(newest.saturating_sub(GROWTH_HISTORY)).await.expect("compact");
            }
            largest = largest.max(disk(dir));
        }
        let took = start.elapsed();
        store.inner().clone().shutdown().await;
        println!("| {} | {} | {} | {took:.1?} |", name(false), mib(largest), mib(disk(dir)));
    });
}
