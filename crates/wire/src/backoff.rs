//! Waits between attempts: doubling up to a limit, forgotten after a quiet time, and spread, so that
//! clients that failed together do not come back together. [`jitter`] does the same for a period.
//!
//! Time comes in as an argument or from tokio, so tests can pause it. Who retries what, and what
//! is said about it meanwhile, is the caller's.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

/// How long the first wait is, how long the longest, and how far waits are spread.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The wait after the first failure.
    pub initial: Duration,
    /// No wait is longer, before it is spread.
    pub max: Duration,
    /// Up to this part of a wait is added to it at random: 0.5 makes 10 s up to 15 s.
    pub jitter: f64,
}

impl Limits {
    /// Waits that are as long as they are said to be: for what no other machine waits for.
    pub const fn exact(initial: Duration, max: Duration) -> Self {
        Self { initial, max, jitter: 0.0 }
    }

    /// Waits of many clients for one server.
    pub const fn spread(initial: Duration, max: Duration) -> Self {
        Self { initial, max, jitter: 0.5 }
    }

    /// The wait after so many failures before this one in a row, not spread.
    pub fn after(&self, failures: u32) -> Duration {
        self.initial.saturating_mul(1 << failures.min(31)).min(self.max)
    }

    /// A wait, spread.
    pub fn spread_out(&self, wait: Duration) -> Duration {
        jitter(wait, self.jitter)
    }
}

/// A wait, with up to the part `factor_max` of it added at random: 0.5 makes 10 s up to 15 s.
pub fn jitter(wait: Duration, factor_max: f64) -> Duration {
    if factor_max <= 0.0 {
        return wait;
    }
    wait.saturating_add(wait.mul_f64(factor_max * rand::rng().random::<f64>()))
}

/// One thing that is being retried.
#[derive(Clone, Debug)]
pub struct Backoff {
    limits: Limits,
    wait: Duration,
    last: Option<Instant>,
}

impl Backoff {
    /// Nothing has failed yet.
    pub const fn new(limits: Limits) -> Self {
        Self { limits, wait: Duration::ZERO, last: None }
    }

    /// Records one more failure at `now` and returns how long to wait after it.
    ///
    /// A failure that comes more than twice the maximum after the one before starts again.
    pub fn failed(&mut self, now: Instant) -> Duration {
        let quiet = self.last.is_none_or(|last| now.duration_since(last) > self.limits.max * 2);
        self.wait = if quiet {
            self.limits.initial
        } else {
            (self.wait * 2).clamp(self.limits.initial, self.limits.max)
        };
        self.last = Some(now);
        self.limits.spread_out(self.wait)
    }

    /// The wait that the last failure asked for, before it was spread; zero before the first.
    pub const fn delay(&self) -> Duration {
        self.wait
    }

    /// Forgets all failures.
    pub fn reset(&mut self) {
        *self = Self::new(self.limits);
    }

    /// Records a failure and waits after it.
    pub async fn wait(&mut self) {
        let wait = self.failed(Instant::now());
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: Limits = Limits::exact(Duration::from_secs(10), Duration::from_secs(300));

    #[test]
    fn waits_double_up_to_the_limit_and_start_again_after_a_quiet_time() {
        let mut backoff = Backoff::new(EXACT);
        let mut now = Instant::now();
        let waits: Vec<u64> = (0..7)
            .map(|_| {
                let wait = backoff.failed(now);
                now += wait;
                wait.as_secs()
            })
            .collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.failed(now + EXACT.max * 3), EXACT.initial);
        backoff.reset();
        assert_eq!(backoff.delay(), Duration::ZERO);
        let counted: Vec<u64> = (0..7).map(|failures| EXACT.after(failures).as_secs()).collect();
        assert_eq!(counted, waits);
        assert_eq!(EXACT.after(u32::MAX), EXACT.max);
    }

    #[test]
    fn spread_waits_differ_and_are_within_their_part() {
        let limits = Limits::spread(Duration::from_secs(10), Duration::from_secs(10));
        let waits: Vec<_> = (0..64).map(|_| Backoff::new(limits).failed(Instant::now())).collect();
        assert!(waits.iter().all(|wait| (10.0..=15.0).contains(&wait.as_secs_f64())), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]), "all clients come back together");
        let mut backoff = Backoff::new(limits);
        backoff.failed(Instant::now());
        assert_eq!(backoff.delay(), limits.initial, "what is said of a wait is not spread");
    }
}
