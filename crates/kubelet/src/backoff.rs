//! How long a kubelet waits before it tries again, for each thing that it retries.

use std::time::Duration;

pub(crate) use coffer_wire::backoff::{Backoff, Limits, jitter};

/// How far the periods of all nodes are apart, as a part of them; upstream's.
pub(crate) const PERIOD_JITTER: f64 = 0.04;
/// Restarts of a container that exited: `CrashLoopBackOff`. Exact, as upstream documents them: a
/// restart is the concern of one node.
pub(crate) const CRASH: Limits = Limits::exact(Duration::from_secs(10), Duration::from_secs(300));
/// Pulls of an image that failed: `ImagePullBackOff`. Spread: all nodes pull from one registry.
pub(crate) const IMAGE_PULL: Limits = seconds(10, 300);
/// Volumes that could not be set up; upstream's `durationBeforeRetry` of the volume manager.
pub(crate) const VOLUME: Limits =
    Limits::spread(Duration::from_millis(500), Duration::from_secs(122));
/// Calls to the container runtime that failed (sandbox and container creation).
pub(crate) const RUNTIME: Limits = seconds(1, 30);
/// A container runtime that cannot be reached.
pub(crate) const OUTAGE: Limits = seconds(1, 30);
/// A step of a pod's work that failed for the pod's own reasons, such as a volume in use.
pub(crate) const SYNC: Limits = seconds(1, 30);
/// Requests to the API server that failed. Spread: all kubelets lose it at the same time.
pub(crate) const API: Limits = Limits::spread(Duration::from_millis(200), Duration::from_secs(10));
/// Renewals of the node's Lease that failed: upstream's.
pub(crate) const LEASE: Limits = Limits::spread(Duration::from_millis(200), Duration::from_secs(7));
/// The lock on the root directory, held by a kubelet that is going away.
pub(crate) const LOCK: Limits =
    Limits::exact(Duration::from_millis(50), Duration::from_millis(500));
/// A container whose configuration cannot be made yet (a missing key, say).
pub(crate) const CONTAINER_CONFIG: Limits = seconds(1, 30);

/// Work on a pod that ended by a panic.
pub(crate) const PANIC: Limits = seconds(10, 300);

const fn seconds(initial: u64, max: u64) -> Limits {
    Limits::spread(Duration::from_secs(initial), Duration::from_secs(max))
}
