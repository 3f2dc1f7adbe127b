//! Notices that a container ended: lists all of them every second and names the pods that are not as
//! their workers have last seen them.
//!
//! It compares with what the workers saw, and not with the listing before: what comes and goes between
//! two listings, as when a runtime loses what it had, would be in neither of them. CRI's event stream
//! would say it sooner, but most runtimes do not have it. A relist also is the heartbeat of the
//! runtime: its outcome is the node's health.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_cri::v1 as cri;
use parking_lot::{Mutex, MutexGuard};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::{Runtime, RuntimeError, labels};

const RELIST_PERIOD: Duration = Duration::from_secs(1);

/// How the runtime responded last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RuntimeHealth {
    /// Not asked yet.
    Unknown,
    Answering,
    Failing(RuntimeError),
}

/// A sum over a pod's sandboxes and containers and their states. Nothing adds up to the same as no pod.
type Sum = u64;

/// What the workers saw last of their pods, by uid. Clones share it.
#[derive(Clone, Default)]
pub(super) struct PodFingerprints(Arc<Mutex<HashMap<String, Sum>>>);

impl PodFingerprints {
    fn sums(&self) -> MutexGuard<'_, HashMap<String, Sum>> {
        self.0.lock()
    }

    /// A worker has seen these of its pod.
    pub(super) fn note(
        &self,
        uid: &str,
        sandboxes: &[cri::PodSandbox],
        containers: &[cri::Container],
    ) {
        let sandboxes = sandboxes.iter().map(|found| one(&found.id, found.state));
        let containers = containers.iter().map(|found| one(&found.id, found.state));
        let sum = sandboxes.chain(containers).fold(0, Sum::wrapping_add);
        self.sums().insert(uid.to_owned(), sum);
    }

    /// The pod has no worker any more.
    pub(super) fn forget(&self, uid: &str) {
        self.sums().remove(uid);
    }

    /// The pods that are not as their workers saw them.
    fn changed(&self, now: &HashMap<String, Sum>) -> Vec<String> {
        let seen = self.sums();
        let sum = |of: &HashMap<String, Sum>, uid: &str| of.get(uid).copied().unwrap_or_default();
        let differs = |uid: &&String| sum(&seen, uid) != sum(now, uid);
        let gone = seen.keys().filter(|uid| !now.contains_key(*uid));
        now.keys().chain(gone).filter(differs).cloned().collect()
    }
}

/// The loop that looks.
pub(crate) struct Relist {
    runtime: Runtime,
    health: watch::Sender<RuntimeHealth>,
}

impl Relist {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self { runtime, health: watch::channel(RuntimeHealth::Unknown).0 }
    }

    pub(crate) fn health(&self) -> watch::Receiver<RuntimeHealth> {
        self.health.subscribe()
    }

    /// Calls `changed` with the uid of each pod that changed, until dropped.
    pub(crate) async fn run(self, changed: impl Fn(&str)) {
        let mut ticks = tokio::time::interval(RELIST_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let health = match self.list().await {
                Ok(now) => {
                    self.runtime.seen.changed(&now).iter().for_each(|uid| changed(uid));
                    RuntimeHealth::Answering
                }
                Err(error) => RuntimeHealth::Failing(error),
            };
            self.health.send_if_modified(|known| {
                let differs = *known != health;
                *known = health;
                differs
            });
        }
    }

    async fn list(&self) -> Result<HashMap<String, Sum>, RuntimeError> {
        let mut now = HashMap::new();
        for sandbox in self.runtime.list_sandboxes(self.runtime.own()).await? {
            add(&mut now, &sandbox.labels, one(&sandbox.id, sandbox.state));
        }
        for container in self.runtime.list_containers(self.runtime.own()).await? {
            add(&mut now, &container.labels, one(&container.id, container.state));
        }
        Ok(now)
    }
}

fn one(id: &str, state: i32) -> Sum {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (id, state).hash(&mut hasher);
    hasher.finish()
}

/// Added up, so that the order of the listing does not matter.
fn add(sums: &mut HashMap<String, Sum>, labels: &HashMap<String, String>, one: Sum) {
    let Some(uid) = labels.get(labels::POD_UID) else { return };
    let sum = sums.entry(uid.clone()).or_default();
    *sum = sum.wrapping_add(one);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_named_while_it_is_not_as_its_worker_saw_it() {
        let sandbox =
            |id: &str, state| cri::PodSandbox { id: id.to_owned(), state, ..Default::default() };
        let seen = PodFingerprints::default();
        seen.note("same", &[sandbox("1", 0), sandbox("2", 1)], &[]);
        seen.note("ends", &[sandbox("3", 1)], &[]);
        seen.note("goes", &[sandbox("4", 1)], &[]);
        seen.note("waits", &[], &[]);
        seen.note("left", &[sandbox("6", 1)], &[]);
        seen.forget("left");
        let mut now = HashMap::new();
        let labels = |uid: &str| HashMap::from([(labels::POD_UID.to_owned(), uid.to_owned())]);
        for (uid, id, state) in
            [("same", "2", 1), ("same", "1", 0), ("ends", "3", 2), ("comes", "5", 1)]
        {
            add(&mut now, &labels(uid), one(id, state));
        }
        for _ in 0..2 {
            let mut changed = seen.changed(&now);
            changed.sort_unstable();
            assert_eq!(changed, ["comes", "ends", "goes"]);
        }
        seen.note("ends", &[sandbox("3", 2)], &[]);
        seen.note("goes", &[], &[]);
        assert_eq!(seen.changed(&now), ["comes"]);
    }
}
