//! How much the store may hold: etcd's `--quota-backend-bytes`.
//!
//! What counts is the database's pages in use, the history among them. Beyond the quota the writer
//! first forgets history, and refuses what would grow meanwhile: creates, and updates that make a
//! value longer. Removals always pass, and so does what leads to one, a deletion's mark or an emptied
//! status, as long as its value hardly grows: without these, nothing could be deleted gracefully and
//! the store would stay full.

use super::Options;

/// By how much an update may lengthen a value though the store is full: a deletion's mark.
const GROWTH_BYTES_MAX: usize = 1024;
/// Over the quota by this part of it, nothing but removals is written: every write takes room until
/// the history behind it is swept.
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

    /// Takes note of what is used now; says so in the log when that changes what is written.
    pub(super) fn measured(&mut self, used: u64) {
        let was = std::mem::replace(&mut self.used, used) > self.bytes;
        let quota = self.bytes;
        match (was, self.is_full()) {
            (false, true) => tracing::error!(
                used,
                quota,
                "the store is over its quota: writes that grow it are refused; \
                 delete objects or raise --quota-backend-bytes"
            ),
            (true, false) => {
                tracing::info!(
                    used,
                    quota,
                    "the store is within its quota again: writes are taken"
                );
            }
            _ => {}
        }
    }

    /// Whether writes that grow are refused.
    pub(super) fn is_full(&self) -> bool {
        self.used > self.bytes
    }

    /// Whether a value may be written that is `new` bytes long and replaces one of `old` bytes,
    /// `None`: none.
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
    /// Bytes of one step: the history is forgotten by whole steps.
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

    /// Forgets what a compaction has taken.
    pub(super) fn compacted(&mut self, oldest: crate::Revision) {
        while let Some((last, bytes)) = self.steps.front().copied()
            && last <= oldest
        {
            self.steps.pop_front();
            self.total -= bytes;
        }
    }

    /// The revision to compact to, where there is more than `max`: half of it stays.
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
    fn a_full_store_takes_what_does_not_grow_until_its_reserve_is_used_up() {
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
    fn half_of_a_history_that_is_too_long_is_forgotten() {
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
