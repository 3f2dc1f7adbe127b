//! The ConfigMap `kube-root-ca.crt`, in every namespace: what clients inside pods check the API
//! server with. Projected service account volumes mount it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::json;

use super::default_account::is_active;
use crate::error::{self, Error};
use crate::informer::{Cache, Informer};
use crate::key::ObjectKey;
use crate::manager::Manager;
use crate::queue::Queue;

const NAME: &str = "root-ca-certificate-publisher-controller";
/// The ConfigMap's name.
const ROOT_CA: &str = "kube-root-ca.crt";
/// Its only key.
const CERTIFICATE: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";
const WORKERS: usize = 2;

/// Adds the controller to a manager.
pub fn register(manager: &mut Manager, pem: &[u8]) {
    let mut informer = Informer::<ConfigMap>::default();
    let controller = Arc::new(Controller {
        client: manager.client(),
        pem: String::from_utf8_lossy(pem).into_owned(),
        namespaces: manager.informer::<Namespace>().cache(),
        maps: informer.cache(),
        queue: Queue::default(),
    });
    let queue = controller.queue.clone();
    manager
        .informer::<Namespace>()
        .on_change(move |change| queue.add(ObjectKey::of(&**change.latest())));
    let queue = controller.queue.clone();
    informer.on_change(move |change| {
        let namespace = change.latest().metadata.namespace.clone();
        queue.add(ObjectKey::new("", namespace.unwrap_or_default()));
    });
    let api = Api::all(manager.client());
    let only = watcher::Config::default().fields(&format!("metadata.name={ROOT_CA}"));
    manager.add_worker(|shutdown| informer.run(api, only, shutdown));
    let (this, queue) = (controller.clone(), controller.queue.clone());
    let ready = async move {
        this.namespaces.synced().await;
        this.maps.synced().await;
    };
    manager.add_controller(NAME, WORKERS, queue, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

struct Controller {
    client: Client,
    pem: String,
    namespaces: Cache<Namespace>,
    maps: Cache<ConfigMap>,
    /// Names of namespaces.
    queue: Queue<ObjectKey>,
}

impl Controller {
    async fn reconcile(&self, namespace: &ObjectKey) -> Result<(), Error> {
        if !self.namespaces.get(namespace).is_some_and(|namespace| is_active(&namespace)) {
            return Ok(());
        }
        let data = BTreeMap::from([(CERTIFICATE.to_owned(), self.pem.clone())]);
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &namespace.name);
        let done = match self.maps.get(&ObjectKey::new(&namespace.name, ROOT_CA)) {
            Some(map) if map.data.as_ref() == Some(&data) => return Ok(()),
            Some(map) => {
                let meta = json!({ "resourceVersion": map.metadata.resource_version });
                let patch = json!({ "metadata": meta, "data": data });
                api.patch(ROOT_CA, &PatchParams::default(), &Patch::Merge(patch)).await
            }
            None => api.create(&PostParams::default(), &config_map(data)).await,
        };
        match done {
            Err(error)
                if error::is_already_exists(&error)
                    || error::is_namespace_terminating(&error)
                    || error::is_not_found(&error) =>
            {
                Ok(())
            }
            other => other.map(drop).map_err(Error::api("publish the CA certificate")),
        }
    }
}

fn config_map(data: BTreeMap<String, String>) -> ConfigMap {
    let description = (DESCRIPTION.to_owned(), DESCRIPTION_TEXT.to_owned());
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(ROOT_CA.to_owned()),
            annotations: Some([description].into()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..ConfigMap::default()
    }
}
