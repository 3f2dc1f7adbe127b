//! The engines behind one small trait, with the settings that the product would use: every commit
//! is fsynced before it returns, caches of about 32 MiB.
//!
//! Each engine has two tables: values by revision, and a narrow one of keys without values. The
//! narrow one is tried in both orders: by key, so that the engine itself finds keys; and by
//! revision, so that both tables only grow at their end, and the program keeps the order of keys in
//! memory and reads it in when it opens.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use rusqlite::types::ValueRef;

pub const ENGINES: [&str; 10] = [
    "raw append",
    "raw preallocated",
    "fjall, keys on disk",
    "redb, keys on disk",
    "sqlite, keys on disk",
    "lmdb, keys on disk",
    "fjall, keys in memory",
    "redb, keys in memory",
    "sqlite, keys in memory",
    "lmdb, keys in memory",
];

pub struct Row {
    pub revision: u64,
    pub key: String,
    pub value: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    ByKey,
    ByRevision,
}

impl Order {
    fn narrow(self, key: &str, revision: u64) -> Vec<u8> {
        let revision = revision.to_be_bytes();
        match self {
            Self::ByKey => [key.as_bytes(), &[0], &revision].concat(),
            Self::ByRevision => [&revision, key.as_bytes()].concat(),
        }
    }
}

/// What an engine has to offer. The first column is a narrow key, the second a revision.
trait Tables: Send {
    fn commit(&mut self, rows: &[(Vec<u8>, &Row)]);
    fn newest(&self) -> u64;
    fn value_len(&self, revision: u64) -> Option<usize>;
    /// Every narrow key from `from` on, in order, until it is stopped.
    fn narrow(&self, from: &[u8], each: &mut dyn FnMut(&[u8]) -> bool);
    fn remove(&mut self, rows: &[(Vec<u8>, u64)]);
}

pub struct Engine {
    tables: Box<dyn Tables>,
    order: Order,
    /// In order of keys; only where the engine does not keep that order.
    keys: BTreeMap<(Box<str>, u64), ()>,
}

pub fn open(name: &str, dir: &Path) -> Engine {
    let (engine, keys) = name.split_once(", ").unwrap_or((name, "keys on disk"));
    let tables: Box<dyn Tables> = match engine {
        "raw append" => Box::new(Raw::open(dir, 0)),
        "raw preallocated" => Box::new(Raw::open(dir, 128 << 20)),
        "fjall" => Box::new(Fjall::open(dir)),
        "redb" => Box::new(Redb::open(dir)),
        "sqlite" => Box::new(Sqlite::open(dir)),
        "lmdb" => Box::new(Lmdb::open(dir)),
        other => panic!("no engine {other}"),
    };
    let order = if keys == "keys in memory" { Order::ByRevision } else { Order::ByKey };
    let mut keys = BTreeMap::new();
    if order == Order::ByRevision {
        tables.narrow(&[], &mut |narrow| {
            let (revision, key) = narrow.split_first_chunk().expect("eight bytes of revision");
            let key = std::str::from_utf8(key).expect("text").into();
            keys.insert((key, u64::from_be_bytes(*revision)), ());
            true
        });
    }
    Engine { tables, order, keys }
}

impl Engine {
    pub fn commit(&mut self, rows: &[Row]) {
        let rows: Vec<_> =
            rows.iter().map(|row| (self.order.narrow(&row.key, row.revision), row)).collect();
        self.tables.commit(&rows);
        if self.order == Order::ByRevision {
            self.keys
                .extend(rows.iter().map(|(_, row)| ((row.key.as_str().into(), row.revision), ())));
        }
    }

    pub fn newest(&self) -> u64 {
        self.tables.newest()
    }

    pub fn get(&self, revision: u64) -> bool {
        self.tables.value_len(revision).is_some()
    }

    /// Walks the keys in order and fetches each value: rows and bytes of values seen.
    pub fn scan(&self, prefix: &str) -> (usize, usize) {
        let (mut rows, mut bytes) = (0, 0);
        let mut fetch = |revision| {
            rows += 1;
            bytes += self.tables.value_len(revision).unwrap_or(0);
        };
        if self.order == Order::ByRevision {
            for (key, revision) in self.keys.range((prefix.into(), 0)..).map(|(k, ())| k) {
                if !key.starts_with(prefix) {
                    break;
                }
                fetch(*revision);
            }
        } else {
            self.tables.narrow(prefix.as_bytes(), &mut |narrow| {
                let revision = narrow.last_chunk().expect("eight bytes of revision");
                let inside = narrow.starts_with(prefix.as_bytes());
                if inside {
                    fetch(u64::from_be_bytes(*revision));
                }
                inside
            });
        }
        (rows, bytes)
    }

    /// Removes everything from `from` up to `before`; `key_of` spares the test a read.
    pub fn forget(&mut self, from: u64, before: u64, key_of: &dyn Fn(u64) -> String) {
        let rows: Vec<_> = (from..before)
            .map(|revision| (self.order.narrow(&key_of(revision), revision), revision))
            .collect();
        self.tables.remove(&rows);
        if self.order == Order::ByRevision {
            for revision in from..before {
                self.keys.remove(&(key_of(revision).into(), revision));
            }
        }
    }
}

/// The limit: one write and one fdatasync for each batch, nothing that could read it back.
struct Raw {
    file: File,
    buffer: Vec<u8>,
}

impl Raw {
    fn open(dir: &Path, preallocate: usize) -> Self {
        let mut file = File::create(dir.join("log")).expect("create");
        for _ in 0..preallocate >> 20 {
            file.write_all(&[0; 1 << 20]).expect("preallocate");
        }
        file.sync_all().expect("sync");
        std::io::Seek::rewind(&mut file).expect("rewind");
        Self { file, buffer: Vec::new() }
    }
}

impl Tables for Raw {
    fn commit(&mut self, rows: &[(Vec<u8>, &Row)]) {
        self.buffer.clear();
        for (narrow, row) in rows {
            self.buffer.extend_from_slice(narrow);
            self.buffer.extend_from_slice(&row.value);
        }
        self.file.write_all(&self.buffer).expect("append");
        self.file.sync_data().expect("fdatasync");
    }
    fn newest(&self) -> u64 {
        0
    }
    fn value_len(&self, _: u64) -> Option<usize> {
        None
    }
    fn narrow(&self, _: &[u8], _: &mut dyn FnMut(&[u8]) -> bool) {}
    fn remove(&mut self, _: &[(Vec<u8>, u64)]) {}
}

struct Fjall {
    db: fjall::Database,
    values: fjall::Keyspace,
    narrow: fjall::Keyspace,
}

impl Fjall {
    fn open(dir: &Path) -> Self {
        let db = fjall::Database::builder(dir)
            .cache_size(32 << 20)
            .max_journaling_size(64 << 20)
            .worker_threads(1)
            .open()
            .expect("fjall");
        let options = || fjall::KeyspaceCreateOptions::default().max_memtable_size(16 << 20);
        let values = db.keyspace("values", options).expect("values");
        let narrow = db.keyspace("narrow", options).expect("narrow");
        Self { db, values, narrow }
    }

    fn batch(&self) -> fjall::OwnedWriteBatch {
        self.db.batch().durability(Some(fjall::PersistMode::SyncData))
    }
}

impl Tables for Fjall {
    fn commit(&mut self, rows: &[(Vec<u8>, &Row)]) {
        let mut batch = self.batch();
        for (narrow, row) in rows {
            batch.insert(&self.values, row.revision.to_be_bytes(), row.value.as_slice());
            batch.insert(&self.narrow, narrow.as_slice(), []);
        }
        batch.commit().expect("fjall commit");
    }
    fn newest(&self) -> u64 {
        self.values.last_key_value().map_or(0, |last| {
            let key = last.key().expect("fjall last");
            u64::from_be_bytes(key.as_ref().try_into().expect("eight bytes"))
        })
    }
    fn value_len(&self, revision: u64) -> Option<usize> {
        self.values.get(revision.to_be_bytes()).expect("fjall get").map(|value| value.len())
    }
    fn narrow(&self, from: &[u8], each: &mut dyn FnMut(&[u8]) -> bool) {
        for row in self.narrow.range(from..) {
            if !each(&row.key().expect("fjall row")) {
                break;
            }
        }
    }
    fn remove(&mut self, rows: &[(Vec<u8>, u64)]) {
        let mut batch = self.batch();
        for (narrow, revision) in rows {
            batch.remove(&self.values, revision.to_be_bytes());
            batch.remove(&self.narrow, narrow.as_slice());
        }
        batch.commit().expect("fjall remove");
    }
}

const REDB_VALUES: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("values");
const REDB_NARROW: redb::TableDefinition<&[u8], ()> = redb::TableDefinition::new("narrow");

struct Redb(redb::Database);

impl Redb {
    fn open(dir: &Path) -> Self {
        let db = redb::Database::builder()
            .set_cache_size(32 << 20)
            .create(dir.join("data.redb"))
            .expect("redb");
        let this = Self(db);
        this.write(|_, _| ());
        this
    }

    fn write(
        &self,
        work: impl FnOnce(
            &mut redb::Table<'_, u64, &'static [u8]>,
            &mut redb::Table<'_, &'static [u8], ()>,
        ),
    ) {
        let txn = self.0.begin_write().expect("redb begin");
        {
            let mut values = txn.open_table(REDB_VALUES).expect("values");
            let mut narrow = txn.open_table(REDB_NARROW).expect("narrow");
            work(&mut values, &mut narrow);
        }
        txn.commit().expect("redb commit");
    }

    fn read(&self) -> redb::ReadTransaction {
        use redb::ReadableDatabase;
        self.0.begin_read().expect("redb read")
    }
}

impl Tables for Redb {
    fn commit(&mut self, rows: &[(Vec<u8>, &Row)]) {
        self.write(|values, names| {
            for (narrow, row) in rows {
                values.insert(row.revision, row.value.as_slice()).expect("redb insert");
                names.insert(narrow.as_slice(), ()).expect("redb insert");
            }
        });
    }
    fn newest(&self) -> u64 {
        use redb::ReadableTable;
        let values = self.read().open_table(REDB_VALUES).expect("values");
        values.last().expect("redb last").map_or(0, |(revision, _)| revision.value())
    }
    fn value_len(&self, revision: u64) -> Option<usize> {
        let values = self.read().open_table(REDB_VALUES).expect("values");
        values.get(revision).expect("redb get").map(|value| value.value().len())
    }
    fn narrow(&self, from: &[u8], each: &mut dyn FnMut(&[u8]) -> bool) {
        let narrow = self.read().open_table(REDB_NARROW).expect("narrow");
        for row in narrow.range(from..).expect("redb range") {
            if !each(row.expect("redb row").0.value()) {
                break;
            }
        }
    }
    fn remove(&mut self, rows: &[(Vec<u8>, u64)]) {
        self.write(|values, names| {
            for (narrow, revision) in rows {
                values.remove(revision).expect("redb remove");
                names.remove(narrow.as_slice()).expect("redb remove");
            }
        });
    }
}

struct Sqlite(rusqlite::Connection);

impl Sqlite {
    fn open(dir: &Path) -> Self {
        let db = rusqlite::Connection::open(dir.join("data.sqlite")).expect("sqlite");
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -32768;
             CREATE TABLE IF NOT EXISTS vals (revision INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
             CREATE TABLE IF NOT EXISTS narrow (k BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;",
        )
        .expect("sqlite schema");
        Self(db)
    }
}

impl Tables for Sqlite {
    fn commit(&mut self, rows: &[(Vec<u8>, &Row)]) {
        let txn = self.0.transaction().expect("sqlite begin");
        {
            let mut values = txn.prepare_cached("INSERT INTO vals VALUES (?1, ?2)").expect("sql");
            let mut names = txn.prepare_cached("INSERT INTO narrow VALUES (?1)").expect("sql");
            for (narrow, row) in rows {
                values.execute((row.revision as i64, &row.value)).expect("sqlite insert");
                names.execute((narrow,)).expect("sqlite insert");
            }
        }
        txn.commit().expect("sqlite commit");
    }
    fn newest(&self) -> u64 {
        let newest = self.0.query_row("SELECT max(revision) FROM vals", (), |row| row.get(0));
        newest.map_or(0, |newest: Option<i64>| newest.unwrap_or(0) as u64)
    }
    fn value_len(&self, revision: u64) -> Option<usize> {
        let mut get =
            self.0.prepare_cached("SELECT bytes FROM vals WHERE revision = ?1").expect("sql");
        let len = |row: &rusqlite::Row<'_>| match row.get_ref(0)? {
            ValueRef::Blob(bytes) => Ok(bytes.len()),
            _ => Ok(0),
        };
        get.query_row((revision as i64,), len).ok()
    }
    fn narrow(&self, from: &[u8], each: &mut dyn FnMut(&[u8]) -> bool) {
        let mut scan = self.0.prepare_cached("SELECT k FROM narrow WHERE k >= ?1").expect("sql");
        let mut rows = scan.query((from,)).expect("sqlite scan");
        while let Some(row) = rows.next().expect("sqlite row") {
            if !each(row.get_ref(0).expect("k").as_bytes().expect("blob")) {
                break;
            }
        }
    }
    fn remove(&mut self, rows: &[(Vec<u8>, u64)]) {
        let txn = self.0.transaction().expect("sqlite begin");
        {
            let mut values =
                txn.prepare_cached("DELETE FROM vals WHERE revision = ?1").expect("sql");
            let mut names = txn.prepare_cached("DELETE FROM narrow WHERE k = ?1").expect("sql");
            for (narrow, revision) in rows {
                values.execute((*revision as i64,)).expect("sqlite delete");
                names.execute((narrow,)).expect("sqlite delete");
            }
        }
        txn.commit().expect("sqlite remove");
    }
}

type Bytes = heed::types::Bytes;

struct Lmdb {
    env: heed::Env<heed::WithoutTls>,
    values: heed::Database<Bytes, Bytes>,
    narrow: heed::Database<Bytes, Bytes>,
}

impl Lmdb {
    fn open(dir: &Path) -> Self {
        let mut options = heed::EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(8 << 30).max_dbs(2);
        // SAFETY: the scratch directory is ours alone; no other process maps or truncates the file.
        let env = unsafe { options.open(dir) }.expect("lmdb");
        let mut txn = env.write_txn().expect("lmdb begin");
        let values = env.create_database(&mut txn, Some("values")).expect("values");
        let narrow = env.create_database(&mut txn, Some("narrow")).expect("narrow");
        txn.commit().expect("lmdb create");
        Self { env, values, narrow }
    }
}

impl Drop for Lmdb {
    fn drop(&mut self) {
        self.env.clone().prepare_for_closing();
    }
}

impl Tables for Lmdb {
    fn commit(&mut self, rows: &[(Vec<u8>, &Row)]) {
        let mut txn = self.env.write_txn().expect("lmdb begin");
        for (narrow, row) in rows {
            self.values.put(&mut txn, &row.revision.to_be_bytes(), &row.value).expect("lmdb put");
            self.narrow.put(&mut txn, narrow, &[]).expect("lmdb put");
        }
        txn.commit().expect("lmdb commit");
    }
    fn newest(&self) -> u64 {
        let txn = self.env.read_txn().expect("lmdb read");
        let last = self.values.last(&txn).expect("lmdb last");
        last.map_or(0, |(key, _)| u64::from_be_bytes(key.try_into().expect("eight bytes")))
    }
    fn value_len(&self, revision: u64) -> Option<usize> {
        let txn = self.env.read_txn().expect("lmdb read");
        self.values.get(&txn, &revision.to_be_bytes()).expect("lmdb get").map(<[u8]>::len)
    }
    fn narrow(&self, from: &[u8], each: &mut dyn FnMut(&[u8]) -> bool) {
        let txn = self.env.read_txn().expect("lmdb read");
        let rows = match from {
            [] => self.narrow.iter(&txn).expect("lmdb iter"),
            from => {
                let prefix = self.narrow.prefix_iter(&txn, from).expect("lmdb prefix");
                for row in prefix {
                    if !each(row.expect("lmdb row").0) {
                        break;
                    }
                }
                return;
            }
        };
        for row in rows {
            if !each(row.expect("lmdb row").0) {
                break;
            }
        }
    }
    fn remove(&mut self, rows: &[(Vec<u8>, u64)]) {
        let mut txn = self.env.write_txn().expect("lmdb begin");
        for (narrow, revision) in rows {
            self.values.delete(&mut txn, &revision.to_be_bytes()).expect("lmdb delete");
            self.narrow.delete(&mut txn, narrow).expect("lmdb delete");
        }
        txn.commit().expect("lmdb remove");
    }
}
