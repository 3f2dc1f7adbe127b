//! What a connection has done so far: how far its client has come, and what is under way on it.
//!
//! Read at every request and by a timer, so it is atomics; places are looked after in `table`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::gate::Place;

/// How far a client has come. The first to lose its place comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    /// It has said nothing.
    Silent,
    /// It has sent the whole of TLS's first message.
    Greeted,
    /// The handshake is done, and there is no request yet.
    Secured,
    /// None of its requests was authenticated.
    Anonymous,
    Authenticated,
}

const ALL: [Progress; 5] = [
    Progress::Silent,
    Progress::Greeted,
    Progress::Secured,
    Progress::Anonymous,
    Progress::Authenticated,
];

#[derive(Debug)]
pub(crate) struct Activity {
    accepted: Instant,
    progress: AtomicU8,
    under_way: AtomicUsize,
    is_tunnel: AtomicBool,
    /// Since when nothing is under way, in milliseconds after `accepted`.
    quiet_since_ms: AtomicU64,
    /// The table has given its place to another one.
    pub(crate) displaced: CancellationToken,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            accepted: Instant::now(),
            progress: AtomicU8::default(),
            under_way: AtomicUsize::default(),
            is_tunnel: AtomicBool::default(),
            quiet_since_ms: AtomicU64::default(),
            displaced: CancellationToken::new(),
        }
    }

    /// For how long it has been there.
    pub(crate) fn age(&self) -> Duration {
        self.accepted.elapsed()
    }

    pub(crate) fn progress(&self) -> Progress {
        ALL[usize::from(self.progress.load(Ordering::Acquire)).min(ALL.len() - 1)]
    }

    /// Whether that is further than it was.
    pub(crate) fn reach(&self, progress: Progress) -> bool {
        self.progress.fetch_max(progress as u8, Ordering::AcqRel) < progress as u8
    }

    /// It is no longer HTTP: something is under way until it is closed.
    pub(crate) fn become_tunnel(&self) {
        self.is_tunnel.store(true, Ordering::Release);
        self.begin();
    }

    pub(crate) fn is_tunnel(&self) -> bool {
        self.is_tunnel.load(Ordering::Acquire)
    }

    pub(crate) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn end(&self) {
        let since = u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.quiet_since_ms.store(since, Ordering::Release);
        self.under_way.fetch_sub(1, Ordering::AcqRel);
    }

    /// For how long nothing has been under way; `None` while something is.
    pub(crate) fn quiet_for(&self) -> Option<Duration> {
        if self.under_way.load(Ordering::Acquire) > 0 {
            return None;
        }
        let since = Duration::from_millis(self.quiet_since_ms.load(Ordering::Acquire));
        Some(self.accepted.elapsed().saturating_sub(since))
    }
}

/// The connection of a request, among the request's extensions.
#[derive(Clone)]
pub struct Connected(pub(crate) Arc<Place>);

impl Connected {
    /// Says that a request of it was authenticated: it keeps its place from here on. What a `user`
    /// has is counted together; without one nobody is counted.
    pub fn authenticated(&self, user: Option<&str>) {
        self.0.authenticated(user);
    }
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connected(..)")
    }
}

/// A request under way, until its answer has been sent.
pub(crate) struct Request(Arc<Place>);

impl Request {
    pub(crate) fn begin(place: &Arc<Place>) -> Self {
        place.activity.begin();
        Self(place.clone())
    }

    /// For a connection that is no longer HTTP.
    pub(crate) fn become_tunnel(self) {
        self.0.activity.become_tunnel();
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.activity.end();
    }
}
