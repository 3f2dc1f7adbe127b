//! The limits of an embedded store.

use std::time::Duration;

/// The default quota: etcd's.
pub const QUOTA_BYTES: u64 = 2 << 30;

/// The limits of an embedded store.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a replaced state can still be listed and watched from; kept between once and twice
    /// this long.
    pub history: Duration,
    /// Compacts earlier when there are more writes than this in the history.
    pub history_writes_max: u64,
    /// Compacts earlier when replaced and removed values of the history take more bytes than this.
    pub history_bytes_max: usize,
    /// Bytes of the database in use, history included, beyond which writes that grow are
    /// [`StoreError::NoSpace`](crate::StoreError::NoSpace) until there is room again.
    pub quota_bytes: u64,
    /// Writes that wait for the writer; more wait outside, in order.
    pub write_queue_max: usize,
    /// Writes that share one fsync.
    pub batch_writes_max: usize,
    /// Bytes of values after which a batch takes no further write.
    pub batch_bytes_max: usize,
    /// Events that wait for one watcher; one more and it is
    /// [`StoreError::Lagged`](crate::StoreError::Lagged).
    pub watch_queue_max: usize,
    /// Reads that touch the disk at the same time; more wait.
    pub readers_max: usize,
    /// Memory for pages of the database, for each reader and for the writer.
    pub cache_kib: u32,
    /// Bytes in SQLite's write-ahead log before they are copied into the database.
    pub checkpoint_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history: Duration::from_secs(5 * 60),
            history_writes_max: 1_000_000,
            history_bytes_max: 128 << 20,
            quota_bytes: QUOTA_BYTES,
            write_queue_max: 1024,
            batch_writes_max: 256,
            batch_bytes_max: 4 << 20,
            watch_queue_max: 4096,
            readers_max: 4,
            cache_kib: 2048,
            checkpoint_bytes: 8 << 20,
        }
    }
}
