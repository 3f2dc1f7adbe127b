//! Token Secrets: API credentials of a service account, as an object that pods can mount.
//!
//! The controller creates the Secret and writes the namespace and the CA bundle into it. The API server,
//! which holds the signing key, adds a token to each such write that has none. Secrets of this type that
//! users create are completed the same way. The controller watches only the metadata of these Secrets and
//! never reads a token.

pub(crate) mod plan;

use std::collections::{BTreeMap, HashMap};

use coffer_api::secret::SecretBytes;
use coffer_client::path::segment;
use k8s_openapi::api::core::v1::{ObjectReference, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PartialObjectMeta, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::plan::{ACCOUNT_NAME, ACCOUNT_UID, Action, plan};
use crate::controller::{Controller, Next, Setup, Watches};
use crate::error::{self, Error};
use crate::informer::{Cache, Change, Index, IndexBy, Watched};
use crate::key::ObjectKey;
use crate::queue::Queue;

/// The type of the Secrets.
const TOKEN_TYPE: &str = coffer_api::well_known::secret_type::SERVICE_ACCOUNT_TOKEN;
/// Their keys.
const TOKEN: &str = "token";
const NAMESPACE: &str = "namespace";
const CERTIFICATE: &str = "ca.crt";

type SecretMeta = PartialObjectMeta<Secret>;

impl Watched for SecretMeta {
    const FIELDS: Option<&'static str> = Some("type=kubernetes.io/service-account-token");

    fn trimmer() -> Box<dyn FnMut(&mut Self) + Send> {
        Box::new(without_payload)
    }
}

/// Annotations count as payload. This controller reads two of them.
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

/// Token Secrets by the account that they name.
struct ByAccount;

impl IndexBy<SecretMeta> for ByAccount {
    type Key = ObjectKey;

    fn keys(secret: &SecretMeta, each: &mut dyn FnMut(ObjectKey)) {
        each(account_of(&secret.metadata));
    }
}

/// Keeps a token Secret for every account.
pub(crate) struct Tokens {
    client: Client,
    certificate: Option<Vec<u8>>,
    accounts: Cache<ServiceAccount>,
    secrets: Index<SecretMeta, ByAccount>,
    /// Names of accounts.
    queue: Queue<ObjectKey>,
    /// Secrets that were found complete, by uid, and the version at which they were.
    complete: Mutex<HashMap<String, Option<String>>>,
}

impl Controller for Tokens {
    const NAME: &'static str = "serviceaccount-token-controller";
    /// Upstream's `--concurrent-serviceaccount-token-syncs`.
    const WORKERS: usize = 5;
    type Queue = Queue<ObjectKey>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.own::<ServiceAccount>();
        watches.on::<SecretMeta>(Self::secret_changed);
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
        let found = self.secrets.get(key);
        let secrets: Vec<&ObjectMeta> = found.iter().map(|secret| &secret.metadata).collect();
        let account = self.accounts.get(key);
        let is_complete = |secret: &ObjectMeta| self.is_known_complete(secret);
        for action in plan(account.as_deref(), &key.name, &secrets, is_complete) {
            match (action, &account) {
                (Action::Delete(name, uid), _) => self.delete(key, &name, uid).await?,
                (Action::Complete(name), Some(account)) => {
                    self.complete(account, key, &name).await?
                }
                (Action::Create(name), Some(account)) => self.create(account, key, &name).await?,
                (Action::Reference(secrets), Some(account)) => {
                    self.reference(account, key, &secrets).await?;
                }
                // Only deletions are planned for an account that does not exist.
                (Action::Complete(_) | Action::Create(_) | Action::Reference(_), None) => {}
            }
        }
        Ok(Next::Change)
    }
}

impl Tokens {
    pub(crate) fn new(setup: &mut Setup<'_, Self>, certificate: Option<Vec<u8>>) -> Self {
        Self {
            client: setup.client(),
            certificate,
            accounts: setup.cache(),
            secrets: setup.index(),
            queue: setup.queue(),
            complete: Mutex::default(),
        }
    }

    fn secret_changed(&self, change: &Change<SecretMeta>) {
        let meta = &change.latest().metadata;
        if change.is_delete() {
            self.forget(meta);
        }
        let (now, before) = (account_of(meta), change.old.as_ref());
        if let Some(before) = before.map(|old| account_of(&old.metadata)).filter(|it| *it != now) {
            self.queue.add(before);
        }
        self.queue.add(now);
    }

    async fn delete(&self, key: &ObjectKey, name: &str, uid: String) -> Result<(), Error> {
        let same = Preconditions { uid: Some(uid), resource_version: None };
        let params = DeleteParams::background().preconditions(same);
        let done = self.secrets_of(key).delete(name, &params).await;
        error::ignore_recreated(done).map_err(Error::api("delete a token secret"))
    }

    /// Creates the Secret without data. It is completed when the watch shows it.
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
        let path = format!("/api/v1/namespaces/{}/secrets", segment(&key.namespace));
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

    async fn complete(
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
                // The API server adds it.
                TOKEN => continue,
                NAMESPACE => SecretBytes::new(key.namespace.clone().into_bytes()),
                _ => SecretBytes::new(self.certificate.clone().unwrap_or_default()),
            };
            data.insert(wanted, bytes);
        }
        let patch = Completion {
            metadata: CompletionMeta {
                uid: &uid,
                resource_version: present.metadata.resource_version.as_deref(),
                annotations: [(ACCOUNT_UID, account.metadata.uid.as_deref())].into(),
            },
            data,
        };
        let params = PatchParams::default();
        match self.secrets_of(key).patch(name, &params, &Patch::Merge(patch)).await {
            Ok(filled) => {
                self.remember(&filled.metadata);
                Ok(())
            }
            Err(error) if error::is_not_found(&error) => Ok(()),
            Err(error) => Err(Error::api("complete a token secret")(error)),
        }
    }

    /// The keys of a Secret. Their values are skipped, not kept.
    async fn present(&self, key: &ObjectKey, name: &str) -> Result<Option<Present>, Error> {
        let (namespace, name) = (segment(&key.namespace), segment(name));
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
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
        let done = api.patch(&key.name, &PatchParams::default(), &patch).await;
        error::ignore_not_found(done).map_err(Error::api("reference a token secret in its account"))
    }

    fn is_known_complete(&self, secret: &ObjectMeta) -> bool {
        let complete = self.complete.lock();
        let uid = secret.uid.as_deref().unwrap_or_default();
        complete.get(uid).is_some_and(|version| *version == secret.resource_version)
    }

    fn remember(&self, secret: &ObjectMeta) {
        let mut complete = self.complete.lock();
        complete.insert(secret.uid.clone().unwrap_or_default(), secret.resource_version.clone());
    }

    fn forget(&self, secret: &ObjectMeta) {
        let mut complete = self.complete.lock();
        complete.remove(secret.uid.as_deref().unwrap_or_default());
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

/// The patch that completes a Secret. Its `Debug` prints lengths.
#[derive(Debug, Serialize)]
struct Completion<'a> {
    metadata: CompletionMeta<'a>,
    data: BTreeMap<&'a str, SecretBytes>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CompletionMeta<'a> {
    uid: &'a str,
    resource_version: Option<&'a str>,
    annotations: BTreeMap<&'a str, Option<&'a str>>,
}
