//! Resource quotas: keeps `status.used` up to date for users. Admission has its own counters.
//!
//! The usage of pods is updated with every change of a pod ([`tally`]), so that the cost of a reconcile
//! depends on the length of the quota and not on the number of objects.

pub(crate) mod plan;
mod tally;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::{Mutex, MutexGuard};

use self::plan::plan;
use self::tally::Tally;
use crate::controller::{Controller, Next, Setup, Watches};
use crate::error::{self, Error};
use crate::informer::{Cache, Change};
use crate::inventory::{Inventory, Kind, MetaChange};
use crate::key::ObjectKey;
use crate::pod::Pod;
use crate::queue::Queue;

/// Objects are created and deleted in bursts. A status is written this long after the first change.
const SETTLE: Duration = Duration::from_millis(200);

/// Writes the usage of each quota.
pub(crate) struct Quotas {
    client: Client,
    quotas: Cache<ResourceQuota>,
    pods: Cache<Pod>,
    inventory: Inventory,
    queue: Queue<ObjectKey>,
    /// The usage of pods, of each quota that has been reconciled.
    tallies: Mutex<HashMap<ObjectKey, Tally>>,
}

impl Controller for Quotas {
    const NAME: &'static str = "resourcequota-controller";
    /// Upstream's `--concurrent-resource-quota-syncs`.
    const WORKERS: usize = 5;
    type Queue = Queue<ObjectKey>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.own::<ResourceQuota>();
        watches.on::<Pod>(Self::pod_changed);
        watches.on_any(Self::object_changed);
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
        let Some(quota) = self.quotas.get(key) else {
            self.tallies().remove(key);
            return Ok(Next::Change);
        };
        let spec = quota.spec.clone().unwrap_or_default();
        let of_pods = {
            let mut tallies = self.tallies();
            let known = tallies.get(key).filter(|tally| *tally.spec() == spec);
            match known {
                Some(tally) => tally.total().clone(),
                None => {
                    // Under the lock, so that no change of a pod is missed.
                    let tally = Tally::of(spec.clone(), &self.pods.in_namespace(&key.namespace));
                    let total = tally.total().clone();
                    tallies.insert(key.clone(), tally);
                    total
                }
            }
        };
        let count = |resource: &str| self.inventory.count(resource, &key.namespace);
        let Some(status) = plan(&quota, &of_pods, count) else { return Ok(Next::Change) };
        let next = ResourceQuota { status: Some(status), ..ResourceQuota::clone(&quota) };
        let api = Api::<ResourceQuota>::namespaced(self.client.clone(), &key.namespace);
        let done = api.replace_status(&key.name, &PostParams::default(), &next).await;
        error::ignore_not_found(done).map_err(Error::api("update the usage of a quota"))?;
        Ok(Next::Change)
    }
}

impl Quotas {
    pub(crate) fn new(setup: &mut Setup<'_, Self>) -> Self {
        Self {
            client: setup.client(),
            quotas: setup.cache(),
            pods: setup.cache(),
            inventory: setup.inventory(),
            queue: setup.queue(),
            tallies: Mutex::default(),
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        if self.quotas.count_in(namespace) == 0 {
            return;
        }
        for quota in self.quotas.in_namespace(namespace) {
            let key = ObjectKey::of(&*quota);
            let mut tallies = self.tallies();
            // A quota without a tally is counted from the cache when it is reconciled.
            let changed = tallies.get_mut(&key).is_some_and(|tally| {
                tally.set(pod.metadata.name.as_deref().unwrap_or_default(), change.new.as_deref())
            });
            drop(tallies);
            if changed {
                self.queue.add_after(key, SETTLE);
            }
        }
    }

    fn object_changed(&self, _: &Arc<Kind>, change: &MetaChange<'_>) {
        let Some(namespace) = &change.latest().namespace else { return };
        let counts = change.old.is_none() || change.new.is_none();
        if !counts || self.quotas.count_in(namespace) == 0 {
            return;
        }
        for quota in self.quotas.in_namespace(namespace) {
            self.queue.add_after(ObjectKey::of(&*quota), SETTLE);
        }
    }

    fn tallies(&self) -> MutexGuard<'_, HashMap<ObjectKey, Tally>> {
        self.tallies.lock()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Api as Server;

    /// Ten thousand pods are counted once. After that a pod costs one addition.
    #[tokio::test]
    async fn a_reconcile_after_the_first_visits_no_pod() {
        let server = Server::responding(|_| Some(json!({ "metadata": {} })));
        let controller = Quotas {
            client: server.client(),
            quotas: Cache::default(),
            pods: Cache::default(),
            inventory: crate::inventory::Watcher::default().inventory(),
            queue: Queue::default(),
            tallies: Mutex::default(),
        };
        let pod = |name: &str| -> Pod {
            serde_json::from_value(json!({ "metadata": { "namespace": "ns", "name": name },
                                           "status": { "phase": "Running" } }))
            .expect("a pod")
        };
        for at in 0..10_000 {
            controller.pods.insert(pod(&format!("p{at}")));
        }
        let quota = json!({ "metadata": { "namespace": "ns", "name": "q" },
                            "spec": { "hard": { "pods": "20000" } } });
        controller.quotas.insert(serde_json::from_value(quota).expect("a quota"));
        let key = ObjectKey::new("ns", "q");
        controller.reconcile(&key).await.expect("reconciled");
        let counted = |controller: &Quotas| {
            controller.tallies()[&key].total().get("pods").map(|count| count.units())
        };
        assert_eq!(counted(&controller), Some(10_000));
        let before = controller.pods.visited();
        for change in controller.pods.insert(pod("new")) {
            controller.pod_changed(&change);
        }
        controller.reconcile(&key).await.expect("reconciled");
        assert_eq!(counted(&controller), Some(10_001));
        assert_eq!(controller.pods.visited() - before, 0);
    }
}
