//! Resource quotas: keeps `status.used` true, for people to see; admission counts for itself.

pub mod plan;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use self::plan::plan;
use crate::error::{self, Error};
use crate::informer::Cache;
use crate::inventory::Inventory;
use crate::key::ObjectKey;
use crate::manager::Manager;
use crate::queue::Queue;

const NAME: &str = "resourcequota-controller";
const WORKERS: usize = 5;
/// Objects come and go in bursts; one count answers for a burst.
const SETTLE: Duration = Duration::from_millis(200);

/// Runs the quota controller alone until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let mut manager = Manager::new(client);
    register(&mut manager);
    manager.run(shutdown).await;
}

/// Adds the quota controller to a manager.
pub fn register(manager: &mut Manager) {
    let controller = Arc::new(Controller {
        client: manager.client(),
        quotas: manager.informer::<ResourceQuota>().cache(),
        pods: manager.informer::<Pod>().cache(),
        inventory: manager.inventory().inventory(),
        queue: Queue::default(),
    });
    let queue = controller.queue.clone();
    manager
        .informer::<ResourceQuota>()
        .on_change(move |change| queue.add(ObjectKey::of(&**change.latest())));
    let this = controller.clone();
    manager.informer::<Pod>().on_change(move |change| {
        let phase = |pod: &Option<Arc<Pod>>| pod.as_ref().map(|pod| pod.status.clone());
        if change.is_delete() || phase(&change.old) != phase(&change.new) {
            this.recount(change.latest().metadata.namespace.as_deref().unwrap_or_default());
        }
    });
    let this = controller.clone();
    manager.inventory().on_change(move |_, change| {
        let Some(namespace) = &change.latest().metadata.namespace else { return };
        if change.old.is_none() || change.is_delete() {
            this.recount(namespace);
        }
    });
    let (this, queue) = (controller.clone(), controller.queue.clone());
    let ready = async move {
        this.quotas.synced().await;
        this.pods.synced().await;
        this.inventory.synced().await;
    };
    manager.add_controller(NAME, WORKERS, queue, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

struct Controller {
    client: Client,
    quotas: Cache<ResourceQuota>,
    pods: Cache<Pod>,
    inventory: Inventory,
    queue: Queue<ObjectKey>,
}

impl Controller {
    fn recount(&self, namespace: &str) {
        for quota in self.quotas.in_namespace(namespace) {
            self.queue.add_after(ObjectKey::of(&*quota), SETTLE);
        }
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(quota) = self.quotas.get(key) else { return Ok(()) };
        let pods = self.pods.in_namespace(&key.namespace);
        let count = |resource: &str| self.inventory.count(resource, &key.namespace);
        let Some(status) = plan(&quota, &pods, count) else { return Ok(()) };
        let next = ResourceQuota { status: Some(status), ..ResourceQuota::clone(&quota) };
        let api = Api::<ResourceQuota>::namespaced(self.client.clone(), &key.namespace);
        match api.replace_status(&key.name, &PostParams::default(), &next).await {
            Err(error) if error::is_not_found(&error) => Ok(()),
            other => other.map(drop).map_err(Error::api("update the usage of a quota")),
        }
    }
}
