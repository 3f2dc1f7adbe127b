//! Token Secrets: API credentials of an account, as an object that pods can mount.
//!
//! The controller makes the Secret, and writes to one that is not filled in what it knows; the API
//! server, which holds the signing key, adds a token to every such write that has none. Secrets of this
//! type that people make are filled the same way. It watches only metadata of Secrets of this type, and
//! no token passes through it.

pub mod plan;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use coffer_api::secret::SecretBytes;
use k8s_openapi::api::core::v1::{ObjectReference, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PartialObjectMeta, Patch, PatchParams, Preconditions};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::plan::{ACCOUNT_NAME, ACCOUNT_UID, Action, plan};
use super::Options;
use crate::error::{self, Error};
use crate::informer::{Cache, Informer};
use crate::key::ObjectKey;
use crate::manager::Manager;
use crate::queue::Queue;

const NAME: &str = "serviceaccount-token-controller";
const WORKERS: usize = 5;
/// The type of the Secrets.
const TOKEN_TYPE: &str = "kubernetes.io/service-account-token";
/// Their keys.
const TOKEN: &str = "token";
const NAMESPACE: &str = "namespace";
const CERTIFICATE: &str = "ca.crt";

type SecretMeta = PartialObjectMeta<Secret>;

/// Adds the controller to a manager.
pub(super) fn register(manager: &mut Manager, options: &Options) {
    let mut informer = Informer::<SecretMeta>::trimming(without_payload);
    let controller = Arc::new(Controller {
        client: manager.client(),
        certificate: options.root_ca_pem.clone(),
        accounts: manager.informer::<ServiceAccount>().cache(),
        secrets: informer.cache(),
        queue: Queue::default(),
        full: Mutex::default(),
    });
    let queue = controller.queue.clone();
    manager
        .informer::<ServiceAccount>()
        .on_change(move |change| queue.add(ObjectKey::of(&**change.latest())));
    let this = controller.clone();
    informer.on_change(move |change| {
        let meta = &change.latest().metadata;
        if change.is_delete() {
            this.forget(meta);
        }
        this.queue.add(account_of(meta));
    });
    let api = Api::all(manager.client());
    let only = watcher::Config::default().fields(&format!("type={TOKEN_TYPE}"));
    manager.add_worker(|shutdown| informer.run(api, only, shutdown));
    let (this, queue) = (controller.clone(), controller.queue.clone());
    let ready = async move {
        this.accounts.synced().await;
        this.secrets.synced().await;
    };
    manager.add_controller(NAME, WORKERS, queue, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// Annotations count as payload; two of them are this controller's own.
fn without_payload(secret: &mut SecretMeta) {
    let meta = &mut secret.metadata;
    (meta.managed_fields, meta.labels) = (None, None);
    if let Some(annotations) = &mut meta.annotations {
        annotations.retain(|key, _| key == ACCOUNT_NAME || key == ACCOUNT_UID);
    }
}

fn account_of(secret: &ObjectMeta) -> ObjectKey {
    let account = secret.annotations.as_ref().and_then(|all| all.get(ACCOUNT_NAME));
    ObjectKey::new(
        secret.namespace.clone().unwrap_or_default(),
        account.cloned().unwrap_or_default(),
    )
}

struct Controller {
    client: Client,
    certificate: Option<Vec<u8>>,
    accounts: Cache<ServiceAccount>,
    secrets: Cache<SecretMeta>,
    /// Names of accounts.
    queue: Queue<ObjectKey>,
    /// Secrets that were seen to have all they should, by uid, at a version.
    full: Mutex<HashMap<String, Option<String>>>,
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<(), Error> {
        let all = self.secrets.in_namespace(&key.namespace);
        let secrets: Vec<&ObjectMeta> = all
            .iter()
            .map(|secret| &secret.metadata)
            .filter(|secret| account_of(secret) == *key)
            .collect();
        let account = self.accounts.get(key);
        let is_full = |secret: &ObjectMeta| self.is_known_full(secret);
        for action in plan(account.as_deref(), &key.name, &secrets, is_full) {
            match (action, &account) {
                (Action::Delete(name, uid), _) => self.delete(key, &name, uid).await?,
                (Action::Fill(name), Some(account)) => self.fill(account, key, &name).await?,
                (Action::Create(name), Some(account)) => self.create(account, key, &name).await?,
                (Action::Reference(secrets), Some(account)) => {
                    self.reference(account, key, &secrets).await?;
                }
                // Only deletions are planned for an account that is not there.
                (Action::Fill(_) | Action::Create(_) | Action::Reference(_), None) => {}
            }
        }
        Ok(())
    }

    async fn delete(&self, key: &ObjectKey, name: &str, uid: String) -> Result<(), Error> {
        let same = Preconditions { uid: Some(uid), resource_version: None };
        let params = DeleteParams::background().preconditions(same);
        match self.secrets_of(key).delete(name, &params).await {
            Err(error) if error::is_not_found(&error) || error::is_conflict(&error) => Ok(()),
            other => other.map(drop).map_err(Error::api("delete a token secret")),
        }
    }

    /// Makes the Secret empty; it is filled when the watch shows it.
    async fn create(
        &self,
        account: &ServiceAccount,
        key: &ObjectKey,
        name: &str,
    ) -> Result<(), Error> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": TOKEN_TYPE,
            "metadata": { "name": name, "annotations": {
                ACCOUNT_NAME: key.name, ACCOUNT_UID: account.metadata.uid } },
        });
        let path = format!("/api/v1/namespaces/{}/secrets", key.namespace);
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(secret.to_string().into_bytes());
        let request = request.expect("names of objects make a valid path");
        match self.client.request::<SecretMeta>(request).await {
            Err(error)
                if error::is_already_exists(&error) || error::is_namespace_terminating(&error) =>
            {
                Ok(())
            }
            other => other.map(drop).map_err(Error::api("create a token secret")),
        }
    }

    async fn fill(
        &self,
        account: &ServiceAccount,
        key: &ObjectKey,
        name: &str,
    ) -> Result<(), Error> {
        let Some(present) = self.present(key, name).await? else { return Ok(()) };
        let wanted = [Some(TOKEN), Some(NAMESPACE), self.certificate.as_ref().map(|_| CERTIFICATE)];
        let missing = |wanted: &&str| !present.data.contains_key(*wanted);
        let missing: Vec<&str> = wanted.into_iter().flatten().filter(missing).collect();
        let uid = present.metadata.uid.clone().unwrap_or_default();
        if missing.is_empty() && !account_uid(&present.metadata).is_empty() {
            self.remember(&present.metadata);
            return Ok(());
        }
        let mut data = BTreeMap::new();
        for wanted in missing {
            let bytes = match wanted {
                // The API server's to add.
                TOKEN => continue,
                NAMESPACE => SecretBytes::new(key.namespace.clone().into_bytes()),
                _ => SecretBytes::new(self.certificate.clone().unwrap_or_default()),
            };
            data.insert(wanted, bytes);
        }
        let fill = Fill {
            metadata: FillMeta {
                uid: &uid,
                resource_version: present.metadata.resource_version.as_deref(),
                annotations: [(ACCOUNT_UID, account.metadata.uid.as_deref())].into(),
            },
            data,
        };
        let params = PatchParams::default();
        match self.secrets_of(key).patch(name, &params, &Patch::Merge(fill)).await {
            Ok(filled) => {
                self.remember(&filled.metadata);
                Ok(())
            }
            Err(error) if error::is_not_found(&error) => Ok(()),
            Err(error) => Err(Error::api("fill a token secret")(error)),
        }
    }

    /// Which keys a Secret has; their values are skipped, not kept.
    async fn present(&self, key: &ObjectKey, name: &str) -> Result<Option<Present>, Error> {
        let path = format!("/api/v1/namespaces/{}/secrets/{name}", key.namespace);
        let request = http::Request::get(path).body(Vec::new());
        let request = request.expect("names of objects make a valid path");
        match self.client.request::<Present>(request).await {
            Ok(present) => Ok(Some(present)),
            Err(error) if error::is_not_found(&error) => Ok(None),
            Err(error) => Err(Error::api("get a token secret")(error)),
        }
    }

    async fn reference(
        &self,
        account: &ServiceAccount,
        key: &ObjectKey,
        secrets: &[ObjectReference],
    ) -> Result<(), Error> {
        let meta = json!({ "uid": account.metadata.uid,
                           "resourceVersion": account.metadata.resource_version });
        let patch = Patch::Merge(json!({ "metadata": meta, "secrets": secrets }));
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), &key.namespace);
        match api.patch(&key.name, &PatchParams::default(), &patch).await {
            Err(error) if error::is_not_found(&error) => Ok(()),
            other => other.map(drop).map_err(Error::api("list a secret in its account")),
        }
    }

    fn is_known_full(&self, secret: &ObjectMeta) -> bool {
        let full = self.full.lock().expect("no code panics while it holds the map");
        let uid = secret.uid.as_deref().unwrap_or_default();
        full.get(uid).is_some_and(|version| *version == secret.resource_version)
    }

    fn remember(&self, secret: &ObjectMeta) {
        let mut full = self.full.lock().expect("no code panics while it holds the map");
        full.insert(secret.uid.clone().unwrap_or_default(), secret.resource_version.clone());
    }

    fn forget(&self, secret: &ObjectMeta) {
        let mut full = self.full.lock().expect("no code panics while it holds the map");
        full.remove(secret.uid.as_deref().unwrap_or_default());
    }

    fn secrets_of(&self, key: &ObjectKey) -> Api<SecretMeta> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }
}

fn account_uid(secret: &ObjectMeta) -> &str {
    let annotations = secret.annotations.as_ref();
    annotations.and_then(|all| all.get(ACCOUNT_UID)).map_or("", String::as_str)
}

/// A Secret without the values of its keys.
#[derive(Deserialize)]
struct Present {
    metadata: ObjectMeta,
    #[serde(default)]
    data: BTreeMap<String, serde::de::IgnoredAny>,
}

/// What is added to a Secret. Its `Debug` prints lengths.
#[derive(Debug, Serialize)]
struct Fill<'a> {
    metadata: FillMeta<'a>,
    data: BTreeMap<&'a str, SecretBytes>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FillMeta<'a> {
    uid: &'a str,
    resource_version: Option<&'a str>,
    annotations: BTreeMap<&'a str, Option<&'a str>>,
}
