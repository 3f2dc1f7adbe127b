//! Measures storage engines at the work that the store does all day; the figures and what follows
//! from them are in `docs/decisions/0001-storage-engine.md`.
//!
//! `cargo run --release -- [writes|scan|growth|kill|all] [DIR]` prints one markdown table for each
//! question, with scratch files under DIR. The last rows are the product itself, through its API.

mod engines;
mod product;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use engines::{ENGINES, Engine, Row, open};

const VALUE_BYTES: usize = 1024;
const BATCH_MAX: usize = 256;
/// Short, so that of several runs some are not disturbed by whatever else the machine does.
const WRITE_TIME: Duration = Duration::from_secs(1);
const WRITE_ROUNDS: usize = 8;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let what = args.get(1).map_or("all", String::as_str);
    if what == "child" {
        return child(&args[2], Path::new(&args[3]));
    }
    if what == "memory" {
        return println!("{}", mib(product::memory(Path::new(&args[3]))));
    }
    let base = args.get(2).map_or_else(std::env::temp_dir, Into::into);
    let scratch = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("engines-").tempdir_in(&base).expect("scratch directory")
    };
    let asked = |name| matches!(what, "all") || what == name;
    let readable = || ENGINES.into_iter().filter(|name| !name.starts_with("raw"));
    if asked("writes") {
        println!("\nDurable creates of 1 KiB, ops/s (p50, p99 in ms), the best of eight runs:\n");
        println!("| engine | 1 writer | 16 writers | 64 writers |\n|---|---|---|---|");
        for (name, cells) in writes(&scratch) {
            println!("| {name} | {} |", cells.map(summary).join(" | "));
        }
    }
    if asked("scan") {
        println!("\n100,000 keys of 1 KiB:\n");
        println!(
            "| engine | open | list all | 20,000 random gets | on disk |\n|---|---|---|---|---|"
        );
        for name in readable() {
            scan(name, scratch().path());
        }
        product::scan(scratch().path(), true);
        product::scan(scratch().path(), false);
    }
    if asked("growth") {
        println!("\n1,000 keys of 1 KiB updated 100 times each, the last 5,000 writes kept:\n");
        println!("| engine | largest on disk | at the end | time |\n|---|---|---|---|");
        for name in readable() {
            growth(name, scratch().path());
        }
        product::growth(scratch().path());
    }
    if asked("kill") {
        println!("\n16 writers killed with SIGKILL, five times on the same files:\n");
        println!("| engine | acknowledged | lost | slowest open |\n|---|---|---|---|");
        for name in readable().chain([product::name(false)]) {
            kill(name, scratch().path());
        }
    }
}

/// Values as sealed ones look: not compressible.
fn value(seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(VALUE_BYTES);
    while out.len() < VALUE_BYTES {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out
}

/// Names arrive in no order, as people's do.
fn key(n: u64) -> String {
    format!("/registry/secrets/ns-{}/{:016x}", n % 50, n.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

type Job = (Row, mpsc::SyncSender<()>);

/// Writers that each wait for their commit, and one thread that commits what has arrived together.
fn drive(mut engine: Engine, writers: u64, time: Duration, acked: fn(u64)) -> Vec<Duration> {
    let (tx, rx) = mpsc::sync_channel::<Job>(1024);
    let committer = std::thread::spawn(move || {
        let mut revision = engine.newest();
        while let Ok(first) = rx.recv() {
            let mut jobs = vec![first];
            jobs.extend(rx.try_iter().take(BATCH_MAX - 1));
            let (mut rows, results): (Vec<Row>, Vec<_>) = jobs.into_iter().unzip();
            for row in &mut rows {
                revision += 1;
                row.revision = revision;
            }
            engine.commit(&rows);
            for result in results {
                result.send(()).expect("the client waits");
            }
        }
    });
    let end = Instant::now() + time;
    let times = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (tx, times) = (tx.clone(), &times);
            scope.spawn(move || {
                let (done, wait) = mpsc::sync_channel(1);
                let mut own = Vec::new();
                let mut n = writer * 10_000_000;
                while Instant::now() < end {
                    let start = Instant::now();
                    let row = Row { revision: 0, key: key(n), value: value(n) };
                    tx.send((row, done.clone())).expect("writer lives");
                    wait.recv().expect("the writer commits");
                    own.push(start.elapsed());
                    acked(n);
                    n += 1;
                }
                times.lock().expect("times").extend(own);
            });
        }
        drop(tx);
    });
    committer.join().expect("writer");
    times.into_inner().expect("times")
}

/// For each engine and number of writers the run with the most writes. The rounds go over all
/// engines, so that a disturbance of some seconds hits one run of each, not all runs of one.
fn writes(scratch: &dyn Fn() -> tempfile::TempDir) -> Vec<(&'static str, [Vec<Duration>; 3])> {
    let products = [product::name(false), product::name(true)];
    let names = ENGINES.into_iter().chain(products);
    let mut best: Vec<_> = names.map(|name| (name, [const { Vec::new() }; 3])).collect();
    for _ in 0..WRITE_ROUNDS {
        for (name, cells) in &mut best {
            for (cell, writers) in cells.iter_mut().zip([1, 16, 64]) {
                let scratch = scratch();
                let times = if products.contains(name) {
                    let sealed = *name == products[1];
                    product::drive(scratch.path(), writers, WRITE_TIME, sealed, |_| ())
                } else {
                    drive(open(name, scratch.path()), writers, WRITE_TIME, |_| ())
                };
                if times.len() > cell.len() {
                    *cell = times;
                }
            }
        }
    }
    best
}

fn summary(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    let rate = times.len() as f64 / WRITE_TIME.as_secs_f64();
    format!("{rate:.0} ({:.2}, {:.2})", at(0.5), at(0.99))
}

const SCAN_KEYS: u64 = 100_000;

fn scan(name: &str, dir: &Path) {
    let mut engine = open(name, dir);
    let all: Vec<u64> = (1..=SCAN_KEYS).collect();
    for some in all.chunks(BATCH_MAX) {
        let row = |&n: &u64| Row { revision: n, key: key(n), value: value(n) };
        engine.commit(&some.iter().map(row).collect::<Vec<_>>());
    }
    drop(engine);
    let start = Instant::now();
    let engine = open(name, dir);
    let opened = start.elapsed();
    assert_eq!(engine.newest(), SCAN_KEYS);
    let start = Instant::now();
    let seen = engine.scan("/registry/secrets/");
    let scanned = start.elapsed();
    assert_eq!(seen, (SCAN_KEYS as usize, SCAN_KEYS as usize * VALUE_BYTES));
    let start = Instant::now();
    for i in 0..20_000u64 {
        assert!(engine.get(i.wrapping_mul(48_271) % SCAN_KEYS + 1));
    }
    let got = start.elapsed();
    println!("| {name} | {opened:.1?} | {scanned:.1?} | {got:.1?} | {} |", mib(disk(dir)));
}

const GROWTH_KEYS: u64 = 1_000;
const GROWTH_HISTORY: u64 = 5_000;

fn growth(name: &str, dir: &Path) {
    let start = Instant::now();
    let mut engine = open(name, dir);
    let (mut largest, mut forgotten) = (0, 1);
    for round in 0..100 {
        let revisions: Vec<u64> = (round * GROWTH_KEYS + 1..=(round + 1) * GROWTH_KEYS).collect();
        for some in revisions.chunks(64) {
            let row = |&r: &u64| Row { revision: r, key: key(r % GROWTH_KEYS), value: value(r) };
            engine.commit(&some.iter().map(row).collect::<Vec<_>>());
        }
        let before = ((round + 1) * GROWTH_KEYS).saturating_sub(GROWTH_HISTORY);
        if round % 5 == 4 && before > forgotten {
            engine.forget(forgotten, before, &|revision| key(revision % GROWTH_KEYS));
            forgotten = before;
        }
        largest = largest.max(disk(dir));
    }
    let took = start.elapsed();
    drop(engine);
    println!("| {name} | {} | {} | {took:.1?} |", mib(largest), mib(disk(dir)));
}

/// Writes as fast as it can until killed, saying what it was promised.
fn child(name: &str, dir: &Path) {
    if name == product::name(false) {
        product::drive(dir, 16, Duration::from_secs(60), false, say);
    } else {
        drive(open(name, dir), 16, Duration::from_secs(60), say);
    }
}

fn say(n: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{n}").and_then(|()| out.flush()).expect("parent reads");
}

/// The newest revision, and how long it took to open.
fn newest(name: &str, dir: &Path) -> (u64, Duration) {
    if name == product::name(false) {
        return product::newest(dir);
    }
    let start = Instant::now();
    let engine = open(name, dir);
    (engine.newest(), start.elapsed())
}

fn kill(name: &str, dir: &Path) {
    let (mut acked, mut lost, mut slowest) = (0, 0, Duration::ZERO);
    for round in 0..5 {
        let (before, _) = newest(name, dir);
        let mut child = Command::new(std::env::current_exe().expect("own path"))
            .args(["child", name])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("child starts");
        let reader = BufReader::new(child.stdout.take().expect("piped"));
        let lines = std::thread::spawn(move || reader.lines().map_while(Result::ok).count());
        std::thread::sleep(Duration::from_millis(700 + 90 * round));
        child.kill().expect("kill");
        child.wait().expect("wait");
        let promised = lines.join().expect("reader") as u64;
        let (after, took) = newest(name, dir);
        slowest = slowest.max(took);
        acked += promised;
        lost += promised.saturating_sub(after - before);
    }
    println!("| {name} | {acked} | {lost} | {slowest:.1?} |");
}

fn disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).expect("directory").flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / 1_048_576.0)
}
