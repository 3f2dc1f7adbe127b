//! The responses of a connection that are being sent, as the connection's timer sees them.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

/// A response in progress.
pub(crate) trait Outgoing: Send + Sync {
    /// For how long its client has read nothing of it; `None` if there is nothing to read.
    fn untaken_for(&self) -> Option<Duration>;

    /// Drops the rest of it.
    fn abandon(&self);

    fn is_abandoned(&self) -> bool;
}

/// The responses of a connection that are being sent.
#[derive(Default)]
pub(crate) struct Responses(Mutex<VecDeque<Weak<dyn Outgoing>>>);

impl Responses {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Weak<dyn Outgoing>>> {
        self.0.lock()
    }

    pub(crate) fn add(&self, response: Weak<dyn Outgoing>) {
        let mut responses = self.lock();
        if responses.len() == responses.capacity() {
            responses.retain(|response| response.strong_count() > 0);
        }
        responses.push_back(response);
    }

    /// Abandons those of which the client has read nothing for `max`, and returns how many abandoned ones
    /// still hold memory.
    pub(crate) fn abandon_stalled(&self, max: Duration) -> usize {
        let present: Vec<Arc<dyn Outgoing>> = {
            let mut responses = self.lock();
            responses.retain(|response| response.strong_count() > 0);
            responses.iter().filter_map(Weak::upgrade).collect()
        };
        for response in &present {
            if !response.is_abandoned() && response.untaken_for().is_some_and(|time| time >= max) {
                response.abandon();
            }
        }
        present.iter().filter(|response| response.is_abandoned()).count()
    }
}
