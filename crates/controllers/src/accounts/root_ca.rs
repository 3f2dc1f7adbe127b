//! The ConfigMap `kube-root-ca.crt` of every namespace: the CA bundle with which clients in pods verify the
//! API server. Projected service account volumes mount it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::default_account::is_active;
use crate::controller::{Controller, Next, Setup, Watches, namespace_key};
use crate::error::{self, Error};
use crate::informer::{Cache, Change, Watched};
use crate::key::ObjectKey;
use crate::queue::Queue;

/// The ConfigMap's name.
const ROOT_CA: &str = coffer_api::well_known::ROOT_CA_CONFIG_MAP;
/// Its only key.
const CERTIFICATE: &str = "ca.crt";
const DESCRIPTION: &str = coffer_api::well_known::annotation::DESCRIPTION;
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// No other controller watches ConfigMaps by their type, so that only these are read.
impl Watched for ConfigMap {
    const FIELDS: Option<&'static str> = Some("metadata.name=kube-root-ca.crt");
}

/// Publishes the CA bundle.
pub(crate) struct RootCaPublisher {
    client: Client,
    pem: String,
    namespaces: Cache<Namespace>,
    maps: Cache<ConfigMap>,
    /// Names of namespaces.
    queue: Queue<ObjectKey>,
}

impl Controller for RootCaPublisher {
    const NAME: &'static str = "root-ca-certificate-publisher-controller";
    const WORKERS: usize = 2;
    type Queue = Queue<ObjectKey>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.own::<Namespace>();
        watches.on::<ConfigMap>(Self::map_changed);
    }

    async fn reconcile(&self, namespace: &ObjectKey) -> Result<Next, Error> {
        if !self.namespaces.get(namespace).is_some_and(|namespace| is_active(&namespace)) {
            return Ok(Next::Change);
        }
        let data = BTreeMap::from([(CERTIFICATE.to_owned(), self.pem.clone())]);
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &namespace.name);
        let done = match self.maps.get(&ObjectKey::new(&namespace.name, ROOT_CA)) {
            Some(map) if map.data.as_ref() == Some(&data) => return Ok(Next::Change),
            Some(map) => {
                let meta = json!({ "resourceVersion": map.metadata.resource_version });
                let patch = json!({ "metadata": meta, "data": data });
                api.patch(ROOT_CA, &PatchParams::default(), &Patch::Merge(patch)).await
            }
            None => api.create(&PostParams::default(), &config_map(data)).await,
        };
        error::ignore_uncreatable(done).map_err(Error::api("publish the CA bundle"))?;
        Ok(Next::Change)
    }
}

impl RootCaPublisher {
    pub(crate) fn new(setup: &mut Setup<'_, Self>, pem: &[u8]) -> Self {
        Self {
            client: setup.client(),
            pem: String::from_utf8_lossy(pem).into_owned(),
            namespaces: setup.cache(),
            maps: setup.cache(),
            queue: setup.queue(),
        }
    }

    fn map_changed(&self, change: &Change<ConfigMap>) {
        self.queue.add(namespace_key(&**change.latest()));
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
