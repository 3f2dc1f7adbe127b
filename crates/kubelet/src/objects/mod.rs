//! The Secrets and ConfigMaps that pods refer to, and the tokens of their service accounts:
//! fetched one by one by name, watched one by one while a pod waits for them, never listed.
//!
//! Bodies are read here and not through `kube::Api`, which logs a body that it cannot parse and
//! leaves it in freed memory. The buffers here are erased, and errors name the object and the
//! reason, never the content. A watch asks for metadata only: it tells *that* an object changed,
//! and the pod that needs it fetches it.

mod read;
mod token;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use coffer_api::redact;
use coffer_api::secret::Secret;
use coffer_api::well_known::api_group;
use coffer_client::path::segment;
use http::{Request, header};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::client::Body;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

pub(crate) use self::read::root_cause;
use self::read::{OBJECT_BYTES_MAX, STATUS_BYTES_MAX, read_body, refusal};
pub(crate) use self::token::ServiceAccountRef;
pub(crate) use self::watch::{ObjectState, Subscription};
use self::watch::{ObjectWatch, WATCH_S};

/// How long one fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// What kind of object a pod refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Secret,
    ConfigMap,
    /// Only to ask for its tokens.
    ServiceAccount,
    /// Of the cluster, in no namespace.
    RuntimeClass,
}

impl Kind {
    /// As upstream's kubelet names it in `secret "x" not found`.
    fn singular(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::ConfigMap => "configmap",
            Self::ServiceAccount => "serviceaccount",
            Self::RuntimeClass => "runtimeclass.node.k8s.io",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::ConfigMap => "configmaps",
            Self::ServiceAccount => "serviceaccounts",
            Self::RuntimeClass => "runtimeclasses",
        }
    }
}

/// One object that a pod refers to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectKey {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ObjectKey {
    pub(crate) fn secret(namespace: &str, name: &str) -> Self {
        Self { kind: Kind::Secret, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(crate) fn config_map(namespace: &str, name: &str) -> Self {
        Self { kind: Kind::ConfigMap, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn collection(&self) -> String {
        let plural = self.kind.plural();
        match self.kind {
            Kind::RuntimeClass => format!("/apis/{}/v1/{plural}", api_group::NODE),
            Kind::Secret | Kind::ConfigMap | Kind::ServiceAccount => {
                format!("/api/v1/namespaces/{}/{plural}", segment(&self.namespace))
            }
        }
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection(), segment(&self.name))
    }

    fn watch_path(&self) -> String {
        let selector = format!("metadata.name={}", self.name);
        format!(
            "{}?watch=true&timeoutSeconds={WATCH_S}&fieldSelector={}",
            self.collection(),
            segment(&selector),
        )
    }
}

/// `secret "name"`, as errors name it.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind.singular(), self.name)
    }
}

/// Which object exactly, and in which state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) uid: String,
    pub(crate) resource_version: String,
}

impl Version {
    pub(crate) fn of(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Self {
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.plural(), self.namespace, self.name)
    }
}

/// A type that can be fetched here.
pub(crate) trait Referent: DeserializeOwned {
    const KIND: Kind;
}

impl Referent for Secret {
    const KIND: Kind = Kind::Secret;
}

impl Referent for ConfigMap {
    const KIND: Kind = Kind::ConfigMap;
}

impl Referent for RuntimeClass {
    const KIND: Kind = Kind::RuntimeClass;
}

/// Why an object is not here. The text goes into events, so it must stay the same for the same
/// cause (or else repeats are not counted together).
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0} not found")]
    NotFound(ObjectKey),
    /// The API server's own words.
    #[error("{message}")]
    Refused { key: ObjectKey, message: String },
    #[error("failed to get {key}: {cause}")]
    Unreachable { key: ObjectKey, cause: String },
    #[error("failed to read {key}: {cause}")]
    Malformed { key: ObjectKey, cause: String },
}

impl FetchError {
    /// Which object to watch for the end of this error.
    pub(crate) fn key(&self) -> &ObjectKey {
        match self {
            Self::NotFound(key)
            | Self::Refused { key, .. }
            | Self::Unreachable { key, .. }
            | Self::Malformed { key, .. } => key,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }
}

/// Fetches and watches referenced objects for all pod workers.
pub(crate) struct Objects {
    client: kube::Client,
    watches: Mutex<HashMap<ObjectKey, Weak<ObjectWatch>>>,
}

impl Objects {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self { client, watches: Mutex::default() }
    }

    /// Fetches one object, as new as the API server has it.
    pub(crate) async fn get<T: Referent>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<T, FetchError> {
        let key =
            ObjectKey { kind: T::KIND, namespace: namespace.to_owned(), name: name.to_owned() };
        let request = Request::get(key.path())
            .header(header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| FetchError::Malformed {
                key: key.clone(),
                cause: error.to_string(),
            })?;
        self.fetch(key, request).await
    }

    async fn fetch<T: DeserializeOwned>(
        &self,
        key: ObjectKey,
        request: Request<Body>,
    ) -> Result<T, FetchError> {
        let unreachable = |cause: String| FetchError::Unreachable { key: key.clone(), cause };
        let attempt = async {
            let response =
                self.client.send(request).await.map_err(|error| unreachable(root_cause(&error)))?;
            let (parts, body) = response.into_parts();
            if parts.status.is_success() {
                let bytes = read_body(body, OBJECT_BYTES_MAX).await.map_err(unreachable)?;
                return serde_json::from_slice(&bytes).map_err(|error| FetchError::Malformed {
                    key: key.clone(),
                    cause: redact::json(&error),
                });
            }
            let bytes = read_body(body, STATUS_BYTES_MAX).await.unwrap_or_default();
            Err(refusal(&key, parts.status, &bytes))
        };
        match tokio::time::timeout(FETCH_TIMEOUT, attempt).await {
            Ok(result) => result,
            Err(_) => Err(unreachable("the API server did not answer in time".to_owned())),
        }
    }

    /// Watches one object for as long as the subscription lives. All who subscribe to the same
    /// object share one watch.
    pub(crate) fn watch(&self, key: &ObjectKey) -> Subscription {
        let mut watches = self.watches.lock();
        watches.retain(|_, watch| watch.strong_count() > 0);
        let known = watches.get(key).and_then(Weak::upgrade);
        let shared = known.unwrap_or_else(|| {
            let shared = Arc::new(ObjectWatch::start(self.client.clone(), key.clone()));
            watches.insert(key.clone(), Arc::downgrade(&shared));
            shared
        });
        Subscription::of(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        let key = ObjectKey::secret("a/b", "x?y");
        assert_eq!(key.path(), "/api/v1/namespaces/a%2Fb/secrets/x%3Fy");
    }
}
