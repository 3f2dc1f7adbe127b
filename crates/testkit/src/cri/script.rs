//! What goes otherwise than a working runtime would do it: calls that fail, calls that hang.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tonic::Status;

use super::call::Call;

/// A rule for the next calls of one method.
#[derive(Clone)]
enum Rule {
    Fail { times: u32, about: Option<String>, status: Status },
    Delay { times: u32, delay: Duration },
    Hold { arrived: watch::Sender<usize>, released: watch::Receiver<bool> },
}

/// The rules, by method, in the order in which they were made.
#[derive(Clone, Default)]
pub(super) struct Script(Arc<Mutex<HashMap<Call, VecDeque<Rule>>>>);

impl Script {
    fn rules(&self) -> MutexGuard<'_, HashMap<Call, VecDeque<Rule>>> {
        self.0.lock()
    }

    pub(super) fn fail(&self, call: Call, about: Option<&str>, times: u32, status: Status) {
        let about = about.map(str::to_owned);
        self.rules().entry(call).or_default().push_back(Rule::Fail { times, about, status });
    }

    pub(super) fn delay(&self, call: Call, times: u32, delay: Duration) {
        self.rules().entry(call).or_default().push_back(Rule::Delay { times, delay });
    }

    pub(super) fn hold(&self, call: Call) -> Hold {
        let (arrived, arrivals) = watch::channel(0);
        let (release, released) = watch::channel(false);
        self.rules().entry(call).or_default().push_back(Rule::Hold { arrived, released });
        Hold { arrivals, release }
    }

    pub(super) fn clear(&self) {
        self.rules().clear();
    }

    /// Lets a call through, late or immediately, or says how it fails.
    pub(super) async fn judge(&self, call: Call, about: &str) -> Result<(), Status> {
        enum Fate {
            Fail(Status),
            Delay(Duration),
            Hold(watch::Receiver<bool>),
        }
        let fate = {
            let mut rules = self.rules();
            let Some(rules) = rules.get_mut(&call) else { return Ok(()) };
            rules.retain(|rule| match rule {
                Rule::Fail { times, .. } | Rule::Delay { times, .. } => *times > 0,
                Rule::Hold { released, .. } => !*released.borrow(),
            });
            let concerns = |rule: &&mut Rule| match rule {
                Rule::Fail { about: only, .. } => only.as_deref().is_none_or(|only| only == about),
                Rule::Delay { .. } | Rule::Hold { .. } => true,
            };
            let Some(rule) = rules.iter_mut().find(concerns) else { return Ok(()) };
            match rule {
                Rule::Fail { times, status, .. } => {
                    *times = times.saturating_sub(1);
                    Fate::Fail(status.clone())
                }
                Rule::Delay { times, delay } => {
                    *times = times.saturating_sub(1);
                    Fate::Delay(*delay)
                }
                Rule::Hold { arrived, released } => {
                    arrived.send_modify(|arrived| *arrived += 1);
                    Fate::Hold(released.clone())
                }
            }
        };
        match fate {
            Fate::Fail(status) => Err(status),
            Fate::Delay(delay) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
            Fate::Hold(mut released) => {
                // A handle that is dropped lets them go, too.
                let _ = released.wait_for(|released| *released).await;
                Ok(())
            }
        }
    }
}

/// Calls of one method that hang until this is released or dropped.
#[must_use = "dropping it lets the calls go"]
pub struct Hold {
    arrivals: watch::Receiver<usize>,
    release: watch::Sender<bool>,
}

impl Hold {
    /// Waits until so many calls hang.
    pub async fn arrived(&mut self, count: usize) {
        let waited = self.arrivals.wait_for(|arrived| *arrived >= count).await;
        waited.expect("the rule lives as long as the runtime");
    }

    /// Lets them go on.
    pub fn release(self) {
        self.release.send_replace(true);
    }
}
