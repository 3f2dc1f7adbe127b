//! Counts events that may be very frequent, and logs one warning a minute with their numbers.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::peer::Peer;

/// How often the counts are logged.
const EVERY: Duration = Duration::from_secs(60);

/// Numbers of connections that got no place, or lost theirs.
#[derive(Debug, Default)]
struct Counts {
    displaced: u64,
    refused: u64,
    not_accepted: u64,
    /// The last error of accept.
    error: String,
    /// The peer of the last event.
    last: Option<Peer>,
    logged: Option<Instant>,
}

/// Counts for a server's log.
#[derive(Debug)]
pub(crate) struct Tally {
    server: &'static str,
    counts: Mutex<Counts>,
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    Displaced(Peer),
    Refused(Peer),
    NotAccepted(&'a std::io::Error),
}

impl Tally {
    pub(crate) fn new(server: &'static str) -> Self {
        Self { server, counts: Mutex::default() }
    }

    /// Counts; the first event is logged immediately.
    pub(crate) fn count(&self, event: Event<'_>) {
        let mut counts = self.counts.lock();
        match event {
            Event::Displaced(peer) => {
                counts.displaced += 1;
                counts.last = Some(peer);
            }
            Event::Refused(peer) => {
                counts.refused += 1;
                counts.last = Some(peer);
            }
            Event::NotAccepted(error) => {
                counts.not_accepted += 1;
                counts.error = error.to_string();
            }
        }
        self.log(&mut counts);
    }

    /// Logs the counts, if it is time.
    pub(crate) fn flush(&self) {
        let mut counts = self.counts.lock();
        if counts.displaced + counts.refused + counts.not_accepted > 0 {
            self.log(&mut counts);
        }
    }

    fn log(&self, counts: &mut Counts) {
        let now = Instant::now();
        if counts.logged.is_some_and(|logged| now - logged < EVERY) {
            return;
        }
        let Counts { displaced, refused, not_accepted, error, last, .. } = std::mem::take(counts);
        counts.logged = Some(now);
        let last = last.map(|peer| peer.to_string()).unwrap_or_default();
        tracing::warn!(
            displaced,
            refused,
            not_accepted,
            error,
            last,
            "{} has reached its limit of connections",
            self.server
        );
    }
}
