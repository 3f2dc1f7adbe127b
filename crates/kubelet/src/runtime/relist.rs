//! Notices that a container ended: looks at all of them every second and tells whose changed.
//!
//! CRI's event stream would say it sooner, but the runtimes that are out there mostly do not
//! have it. A relist also is the heartbeat of the runtime: its outcome is the node's health.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::{Runtime, RuntimeError, labels};

const RELIST_PERIOD: Duration = Duration::from_secs(1);

/// How the runtime answered last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RuntimeHealth {
    /// Not asked yet.
    Unknown,
    Answering,
    Down(RuntimeError),
}

/// What was seen of each pod, as a sum over its sandboxes and containers.
type Seen = HashMap<String, u64>;

/// The loop that looks.
pub(crate) struct Relist {
    runtime: Runtime,
    health: watch::Sender<RuntimeHealth>,
    seen: Seen,
}

impl Relist {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self { runtime, health: watch::channel(RuntimeHealth::Unknown).0, seen: Seen::new() }
    }

    pub(crate) fn health(&self) -> watch::Receiver<RuntimeHealth> {
        self.health.subscribe()
    }

    /// Calls `changed` with the uid of each pod that changed, until dropped.
    pub(crate) async fn run(mut self, changed: impl Fn(&str)) {
        let mut ticks = tokio::time::interval(RELIST_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let health = match self.look().await {
                Ok(now) => {
                    differences(&self.seen, &now).for_each(&changed);
                    self.seen = now;
                    RuntimeHealth::Answering
                }
                Err(error) => RuntimeHealth::Down(error),
            };
            self.health.send_if_modified(|known| {
                let differs = *known != health;
                *known = health;
                differs
            });
        }
    }

    async fn look(&self) -> Result<Seen, RuntimeError> {
        let mut seen = Seen::new();
        for sandbox in self.runtime.list_sandboxes(self.runtime.own()).await? {
            add(&mut seen, &sandbox.labels, &sandbox.id, sandbox.state);
        }
        for container in self.runtime.list_containers(self.runtime.own()).await? {
            add(&mut seen, &container.labels, &container.id, container.state);
        }
        Ok(seen)
    }
}

fn add(seen: &mut Seen, labels: &HashMap<String, String>, id: &str, state: i32) {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let Some(uid) = labels.get(labels::POD_UID) else { return };
    let mut hasher = DefaultHasher::new();
    (id, state).hash(&mut hasher);
    // Added up, so that the order of the listing does not matter.
    let sum = seen.entry(uid.clone()).or_default();
    *sum = sum.wrapping_add(hasher.finish());
}

fn differences<'a>(before: &'a Seen, now: &'a Seen) -> impl Iterator<Item = &'a str> {
    let changed = now.iter().filter(|(uid, sum)| before.get(*uid) != Some(sum));
    let gone = before.iter().filter(|(uid, _)| !now.contains_key(*uid));
    changed.chain(gone).map(|(uid, _)| uid.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_named_when_a_state_changes_or_something_comes_or_goes() {
        let labels = |uid: &str| HashMap::from([(labels::POD_UID.to_owned(), uid.to_owned())]);
        let (mut before, mut now) = (Seen::new(), Seen::new());
        for (uid, id, state) in
            [("same", "1", 0), ("same", "2", 1), ("ends", "3", 1), ("goes", "4", 1)]
        {
            add(&mut before, &labels(uid), id, state);
        }
        for (uid, id, state) in
            [("same", "2", 1), ("same", "1", 0), ("ends", "3", 2), ("comes", "5", 1)]
        {
            add(&mut now, &labels(uid), id, state);
        }
        let mut changed: Vec<_> = differences(&before, &now).collect();
        changed.sort_unstable();
        assert_eq!(changed, ["comes", "ends", "goes"]);
    }
}
