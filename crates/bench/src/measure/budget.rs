//! How much of something may be done: a number of operations, a time, or both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bounds that all clients of a phase share.
#[derive(Debug)]
pub(crate) struct Budget {
    operations: Option<u64>,
    taken: AtomicU64,
    start: Instant,
    time: Option<Duration>,
}

impl Budget {
    /// A budget that begins now.
    pub(crate) fn new(operations: Option<u64>, time: Option<Duration>) -> Self {
        Self { operations, taken: AtomicU64::new(0), start: Instant::now(), time }
    }

    /// The number of the next operation, `None` when there is to be none.
    pub(crate) fn take(&self) -> Option<u64> {
        if self.time.is_some_and(|time| self.start.elapsed() >= time) {
            return None;
        }
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        self.operations.is_none_or(|operations| number < operations).then_some(number)
    }

    /// How much is spent, from 0 to 1: of whichever bound is nearer.
    pub(crate) fn spent(&self) -> f64 {
        let taken = self.taken.load(Ordering::Relaxed) as f64;
        let of_operations = self.operations.map_or(0.0, |operations| taken / operations as f64);
        let of_time =
            self.time.map_or(0.0, |time| self.start.elapsed().as_secs_f64() / time.as_secs_f64());
        of_operations.max(of_time).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_numbered_and_end_at_their_number() {
        let budget = Budget::new(Some(2), None);
        assert_eq!((budget.take(), budget.take(), budget.take()), (Some(0), Some(1), None));
        assert!((budget.spent() - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn time_ends_it_whatever_is_left_to_do() {
        let budget = Budget::new(Some(1_000), Some(Duration::ZERO));
        assert_eq!(budget.take(), None);
    }
}
