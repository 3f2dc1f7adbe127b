//! The size limit of the store, like etcd's `--quota-backend-bytes`.
//!
//! It applies to the database's pages in use, including history. Beyond the quota the writer first removes
//! history, and meanwhile rejects writes that grow: creates, and updates that make a value longer. Removals
//! are always accepted, and so are updates that lead to one (a deletion timestamp, an emptied status) as long as
//! the value hardly grows: otherwise nothing could be deleted gracefully and the store would stay full.

use super::options::Options;

/// By how much an update may lengthen a value although the store is full: a deletion timestamp.
const GROWTH_BYTES_MAX: usize = 1024;
/// Beyond the quota by this part of it, only removals are accepted: every write takes space until the history
/// behind it is removed.
const RESERVE_PART: u64 = 16;

/// The quota and what is used of it.
#[derive(Debug)]
pub(super) struct Quota {
    bytes: u64,
    used: u64,
}

impl Quota {
    pub(super) fn new(options: &Options) -> Self {
        Self { bytes: options.quota_bytes, used: 0 }
    }

    /// Records what is used now; logs when that changes which writes are accepted.
    pub(super) fn measured(&mut self, used: u64) {
        let was = std::mem::replace(&mut self.used, used) > self.bytes;
        let quota = self.bytes;
        match (was, self.is_full()) {
            (false, true) => tracing::error!(
                used,
                quota,
                "the store exceeds its quota: writes that grow it are rejected; \
                 delete objects or raise --quota-backend-bytes"
            ),
            (true, false) => {
                tracing::info!(used, quota, "the store is within its quota again");
            }
            _ => {}
        }
    }

    /// Whether writes that grow are rejected.
    pub(super) fn is_full(&self) -> bool {
        self.used > self.bytes
    }

    /// Whether a value of `new` bytes may be written that replaces one of `old` bytes, if there is one.
    pub(super) fn admits(&self, new: usize, old: Option<usize>) -> bool {
        let reserve = self.bytes.saturating_add(self.bytes / RESERVE_PART);
        !self.is_full()
            || old.is_some_and(|old| new <= old.saturating_add(GROWTH_BYTES_MAX))
                && self.used <= reserve
    }
}

/// The bytes of replaced and removed values since a revision, in steps coarse enough to be few.
#[derive(Debug, Default)]
pub(super) struct HistoryBytes {
    /// The last revision of each step and its bytes.
    steps: std::collections::VecDeque<(crate::Revision, usize)>,
    total: usize,
}

impl HistoryBytes {
    /// Bytes of one step: the history is removed by whole steps.
    const STEP_BYTES: usize = 1 << 20;

    pub(super) fn add(&mut self, revision: crate::Revision, bytes: usize) {
        self.total = self.total.saturating_add(bytes);
        match self.steps.back_mut() {
            Some((last, step)) if *step < Self::STEP_BYTES => {
                (*last, *step) = (revision, *step + bytes)
            }
            _ => self.steps.push_back((revision, bytes)),
        }
    }

    /// Subtracts what a compaction has removed.
    pub(super) fn compacted(&mut self, oldest: crate::Revision) {
        while let Some((last, bytes)) = self.steps.front().copied()
            && last <= oldest
        {
            self.steps.pop_front();
            self.total -= bytes;
        }
    }

    /// The revision to compact to if there is more than `max`: half of it stays.
    pub(super) fn due(&self, max: usize) -> Option<crate::Revision> {
        if self.total <= max {
            return None;
        }
        let mut left = self.total;
        let upto = self.steps.iter().find(|(_, bytes)| {
            left -= bytes;
            left <= max / 2
        });
        upto.map(|(last, _)| *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_accepts_writes_that_do_not_grow_until_its_reserve_is_used_up() {
        let options = Options { quota_bytes: 1 << 20, ..Options::default() };
        let mut quota = Quota::new(&options);
        for (used, create, grows, shrinks) in [
            (1 << 20, true, true, true),
            ((1 << 20) + 1, false, false, true),
            ((1 << 20) + (1 << 16) + 1, false, false, false),
            (0, true, true, true),
        ] {
            quota.measured(used);
            assert_eq!(quota.admits(1, None), create, "{used}");
            assert_eq!(quota.admits(5000, Some(10)), grows, "{used}");
            assert_eq!(quota.admits(5000, Some(4990)), shrinks, "{used}");
        }
    }

    #[test]
    fn half_of_a_history_that_is_too_large_is_removed() {
        let mut history = HistoryBytes::default();
        for revision in 1..=10 {
            history.add(revision, 1 << 20);
        }
        assert_eq!(history.due(10 << 20), None);
        assert_eq!(history.due(8 << 20), Some(6));
        history.compacted(6);
        assert_eq!((history.total, history.due(8 << 20)), (4 << 20, None));
    }
}
