//! The account `default`, in every namespace: what pods are that name no account.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::error::{self, Error};
use crate::informer::Cache;
use crate::key::ObjectKey;
use crate::manager::Manager;
use crate::queue::Queue;

const NAME: &str = "service-account-controller";
/// The account's name.
const DEFAULT: &str = "default";
const WORKERS: usize = 2;

/// Adds the controller to a manager.
pub fn register(manager: &mut Manager) {
    let controller = Arc::new(Controller {
        client: manager.client(),
        namespaces: manager.informer::<Namespace>().cache(),
        accounts: manager.informer::<ServiceAccount>().cache(),
        queue: Queue::default(),
    });
    let queue = controller.queue.clone();
    manager
        .informer::<Namespace>()
        .on_change(move |change| queue.add(ObjectKey::of(&**change.latest())));
    let queue = controller.queue.clone();
    manager.informer::<ServiceAccount>().on_change(move |change| {
        let meta = &change.latest().metadata;
        if change.is_delete() && meta.name.as_deref() == Some(DEFAULT) {
            queue.add(ObjectKey::new("", meta.namespace.clone().unwrap_or_default()));
        }
    });
    let (this, queue) = (controller.clone(), controller.queue.clone());
    let ready = async move {
        this.namespaces.synced().await;
        this.accounts.synced().await;
    };
    manager.add_controller(NAME, WORKERS, queue, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

struct Controller {
    client: Client,
    namespaces: Cache<Namespace>,
    accounts: Cache<ServiceAccount>,
    /// Names of namespaces.
    queue: Queue<ObjectKey>,
}

impl Controller {
    async fn reconcile(&self, namespace: &ObjectKey) -> Result<(), Error> {
        let found = self.namespaces.get(namespace);
        let exists = self.accounts.get(&ObjectKey::new(&namespace.name, DEFAULT)).is_some();
        if exists || !found.is_some_and(|namespace| is_active(&namespace)) {
            return Ok(());
        }
        let account = ServiceAccount {
            metadata: ObjectMeta { name: Some(DEFAULT.to_owned()), ..ObjectMeta::default() },
            ..ServiceAccount::default()
        };
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), &namespace.name);
        match api.create(&PostParams::default(), &account).await {
            Err(error)
                if error::is_already_exists(&error)
                    || error::is_namespace_terminating(&error)
                    || error::is_not_found(&error) =>
            {
                Ok(())
            }
            other => other.map(drop).map_err(Error::api("create the default account")),
        }
    }
}

/// Whether objects can be made in the namespace.
pub(super) fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
}
