//! Delays between attempts: doubling up to a limit, forgotten after a quiet time.
//!
//! Time comes in as an argument or from tokio, so tests can pause it. Who retries what, and what
//! is said about it meanwhile, is the caller's.

use std::time::Duration;

use tokio::time::Instant;

/// A pair of limits with a name: how long the first wait is, and how long the longest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) initial: Duration,
    pub(crate) max: Duration,
}

/// Restarts of a container that exited: `CrashLoopBackOff`.
pub(crate) const CRASH: Limits = seconds(10, 300);
/// Pulls of an image that failed: `ImagePullBackOff`.
pub(crate) const IMAGE_PULL: Limits = seconds(10, 300);
/// Volumes that could not be set up; upstream's `durationBeforeRetry` of the volume manager.
pub(crate) const VOLUME: Limits =
    Limits { initial: Duration::from_millis(500), max: Duration::from_secs(122) };
/// Calls to the container runtime that failed (sandbox and container creation).
pub(crate) const RUNTIME: Limits = seconds(1, 30);
/// A container runtime that cannot be reached.
pub(crate) const OUTAGE: Limits = seconds(1, 30);
/// A step of a pod's work that failed for the pod's own reasons, such as a volume in use.
pub(crate) const SYNC: Limits = seconds(1, 30);
/// Requests to the API server that failed.
pub(crate) const API: Limits =
    Limits { initial: Duration::from_millis(200), max: Duration::from_secs(10) };
/// The lock on the root directory, held by a kubelet that is going away.
pub(crate) const LOCK: Limits =
    Limits { initial: Duration::from_millis(50), max: Duration::from_millis(500) };
/// A container whose configuration cannot be made yet (a missing key, say).
pub(crate) const CONTAINER_CONFIG: Limits = seconds(1, 30);

/// Work on a pod that ended by a panic.
pub(crate) const PANIC: Limits = seconds(10, 300);

const fn seconds(initial: u64, max: u64) -> Limits {
    Limits { initial: Duration::from_secs(initial), max: Duration::from_secs(max) }
}

/// One thing that is being retried.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    limits: Limits,
    delay: Duration,
    last: Option<Instant>,
}

impl Backoff {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, delay: Duration::ZERO, last: None }
    }

    /// Records one more failure at `now` and says how long to wait after it.
    ///
    /// A failure that comes more than twice the maximum after the one before starts anew.
    pub(crate) fn failed(&mut self, now: Instant) -> Duration {
        let quiet = self.last.is_none_or(|last| now.duration_since(last) > self.limits.max * 2);
        self.delay = if quiet {
            self.limits.initial
        } else {
            (self.delay * 2).clamp(self.limits.initial, self.limits.max)
        };
        self.last = Some(now);
        self.delay
    }

    /// The wait that the last failure asked for; zero before the first.
    pub(crate) fn delay(&self) -> Duration {
        self.delay
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.limits);
    }

    /// Waits as [`Self::failed`] says.
    pub(crate) async fn wait(&mut self) {
        let delay = self.failed(Instant::now());
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_and_start_anew_after_a_quiet_time() {
        let start = Instant::now();
        let mut backoff = Backoff::new(CRASH);
        let mut now = start;
        let delays: Vec<u64> = (0..7)
            .map(|_| {
                let delay = backoff.failed(now);
                now += delay;
                delay.as_secs()
            })
            .collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.failed(now + CRASH.max * 3), CRASH.initial);
    }
}
