//! Events that may come by the thousand, and one warning a minute with how many there were.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::peer::Peer;

/// How often the log says what happens again and again.
const EVERY: Duration = Duration::from_secs(60);

/// What happens to connections that get no place, or lose theirs.
#[derive(Debug, Default)]
struct Counts {
    displaced: u64,
    refused: u64,
    not_accepted: u64,
    /// Why the last of those was not accepted.
    error: String,
    /// Who came last.
    last: Option<Peer>,
    said: Option<Instant>,
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

    /// Counts; the first is told at once.
    pub(crate) fn count(&self, event: Event<'_>) {
        let Ok(mut counts) = self.counts.lock() else { return };
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
        self.say(&mut counts);
    }

    /// Says what has been counted since, if it is time.
    pub(crate) fn look(&self) {
        let Ok(mut counts) = self.counts.lock() else { return };
        if counts.displaced + counts.refused + counts.not_accepted > 0 {
            self.say(&mut counts);
        }
    }

    fn say(&self, counts: &mut Counts) {
        let now = Instant::now();
        if counts.said.is_some_and(|said| now - said < EVERY) {
            return;
        }
        let Counts { displaced, refused, not_accepted, error, last, .. } = std::mem::take(counts);
        counts.said = Some(now);
        let last = last.map(|peer| peer.to_string()).unwrap_or_default();
        tracing::warn!(
            displaced,
            refused,
            not_accepted,
            error,
            last,
            "{} has no places left for connections",
            self.server
        );
    }
}
