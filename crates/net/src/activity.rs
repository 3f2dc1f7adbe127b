//! The activity of a connection: how far its client has come, and what is in progress.
//!
//! Read at every request and by a timer, so it uses atomics. `table` manages the places.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How far a client has come, in the order in which clients lose their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    /// It has sent nothing.
    Silent,
    /// It has sent the complete TLS ClientHello.
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
    /// Since when the socket takes nothing more, in milliseconds after `accepted`, plus one; 0 while
    /// it does.
    blocked_since_ms: AtomicU64,
    /// When it last took nothing more, likewise.
    last_blocked_ms: AtomicU64,
    /// Responses in progress that a client may leave unread.
    pub(crate) may_pause: AtomicUsize,
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
            blocked_since_ms: AtomicU64::default(),
            last_blocked_ms: AtomicU64::default(),
            may_pause: AtomicUsize::default(),
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

    /// Milliseconds since it was accepted.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn since_ms(&self, then_ms: u64) -> Duration {
        self.accepted.elapsed().saturating_sub(Duration::from_millis(then_ms))
    }

    /// Something was written on the socket, or nothing could be.
    pub(crate) fn wrote(&self, something: bool) {
        if something {
            // Mostly it is so already.
            if self.blocked_since_ms.load(Ordering::Acquire) > 0 {
                self.blocked_since_ms.store(0, Ordering::Release);
            }
            return;
        }
        let now = self.now_ms() + 1;
        self.last_blocked_ms.store(now, Ordering::Release);
        let _ = self.blocked_since_ms.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
    }

    /// For how long its client has taken nothing of what waits for it.
    pub(crate) fn blocked_for(&self) -> Option<Duration> {
        let since = self.blocked_since_ms.load(Ordering::Acquire).checked_sub(1)?;
        Some(self.since_ms(since))
    }

    /// Whether the socket was too slow for what is sent, within the last `time`.
    pub(crate) fn was_blocked_within(&self, time: Duration) -> bool {
        let last = self.last_blocked_ms.load(Ordering::Acquire).checked_sub(1);
        last.is_some_and(|last| self.since_ms(last) <= time)
    }

    pub(crate) fn may_pause(&self) -> bool {
        self.may_pause.load(Ordering::Acquire) > 0
    }

    pub(crate) fn end(&self) {
        self.quiet_since_ms.store(self.now_ms(), Ordering::Release);
        self.under_way.fetch_sub(1, Ordering::AcqRel);
    }

    /// For how long nothing has been under way; `None` while something is.
    pub(crate) fn quiet_for(&self) -> Option<Duration> {
        if self.under_way.load(Ordering::Acquire) > 0 {
            return None;
        }
        Some(self.since_ms(self.quiet_since_ms.load(Ordering::Acquire)))
    }
}
