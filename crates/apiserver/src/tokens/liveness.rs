//! Whether what a token is bound to is still there, and still the same.

use std::collections::BTreeMap;

use coffer_api::kinds::{Node, Pod, Secret, ServiceAccount};
use coffer_api::secret::SecretBytes;
use coffer_api::well_known::annotation::{self, SERVICE_ACCOUNT_NAME};
use coffer_api::well_known::secret_type::SERVICE_ACCOUNT_TOKEN;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::TokenError;
use super::claims::{Bound, Claims, Legacy};
use crate::object::{Resource, Resources, metadata};

/// How long a token outlives the deletion time of what it is bound to, in seconds: a pod that is
/// terminating may still make requests. Upstream's leeway.
const LEEWAY_S: i64 = 60;
/// The key of a token Secret's token.
pub(crate) const TOKEN_KEY: &str = "token";
/// The uid of a token Secret's account.
pub(crate) const ACCOUNT_UID: &str = annotation::SERVICE_ACCOUNT_UID;

/// What decides whether an object lives. No more of it is read: every request with a token asks for it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Life {
    pub(super) uid: Option<String>,
    deletion_timestamp: Option<Time>,
}

/// The life of an object.
pub(super) fn life(resource: &Resource, namespace: &str, name: &str) -> Option<Life> {
    let found = resource.shard().get(&resource.key(namespace, name))?;
    metadata(&found.bytes)
}

fn lives(deleted: Option<&Time>, now: jiff::Timestamp) -> bool {
    deleted.is_none_or(|at| now.as_second() - at.0.as_second() < LEEWAY_S)
}

fn check(
    resource: &Resource,
    what: &'static str,
    namespace: &str,
    bound: &Bound,
    now: jiff::Timestamp,
) -> Result<(), TokenError> {
    let same = |life: Life| {
        life.uid.as_deref() == Some(&bound.uid) && lives(life.deletion_timestamp.as_ref(), now)
    };
    if life(resource, namespace, &bound.name).is_some_and(same) {
        return Ok(());
    }
    Err(TokenError::Deleted { what, name: format!("{namespace}/{}", bound.name) })
}

/// A bound token's account and what it is bound to.
pub(super) fn check_bound(
    resources: &Resources,
    claims: &Claims,
    now: jiff::Timestamp,
) -> Result<(), TokenError> {
    let bound = &claims.kubernetes;
    let namespace = &bound.namespace;
    let accounts = resources.of::<ServiceAccount>();
    check(accounts, "service account", namespace, &bound.serviceaccount, now)?;
    if let Some(pod) = &bound.pod {
        check(resources.of::<Pod>(), "pod", namespace, pod, now)?;
    }
    if let Some(secret) = &bound.secret {
        check(resources.of::<Secret>(), "secret", namespace, secret, now)?;
    }
    // With a pod the node is information only: the pod decides.
    match &bound.node {
        Some(node) if bound.pod.is_none() => check(resources.of::<Node>(), "node", "", node, now),
        _ => Ok(()),
    }
}

/// A legacy token's account, and its Secret, which must hold this very token.
pub(super) fn check_legacy(
    resources: &Resources,
    legacy: &Legacy,
    token: &str,
    now: jiff::Timestamp,
) -> Result<(), TokenError> {
    let (namespace, uid) = (&legacy.namespace, legacy.uid.clone());
    let account = Bound { name: legacy.account.clone(), uid };
    let accounts = resources.of::<ServiceAccount>();
    check(accounts, "service account", namespace, &account, now)?;
    let deleted =
        || TokenError::Deleted { what: "secret", name: format!("{namespace}/{}", legacy.secret) };
    let secrets = resources.of::<Secret>();
    let found = secrets.shard().get(&secrets.key(namespace, &legacy.secret)).ok_or_else(deleted)?;
    let secret: Held = serde_json::from_slice(&found.bytes).map_err(|_| deleted())?;
    let held = secret.token().ok_or_else(deleted)?;
    let same: bool = held.ct_eq(token.as_bytes()).into();
    let lives = lives(secret.metadata.deletion_timestamp.as_ref(), now);
    if same && lives { Ok(()) } else { Err(deleted()) }
}

/// A service account's token Secret as far as its token is judged by it: other data, which may be a megabyte, is
/// read over at each request.
#[derive(Deserialize)]
struct Held {
    metadata: HeldMeta,
    #[serde(rename = "type")]
    type_: Option<String>,
    data: Option<HeldData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeldMeta {
    annotations: Option<BTreeMap<String, String>>,
    deletion_timestamp: Option<Time>,
}

#[derive(Deserialize)]
struct HeldData {
    /// Of [`TOKEN_KEY`].
    token: Option<SecretBytes>,
}

impl Held {
    fn token(&self) -> Option<&[u8]> {
        let annotations = self.metadata.annotations.as_ref()?;
        let named = annotations.get(SERVICE_ACCOUNT_NAME).is_some_and(|name| !name.is_empty());
        let is_token = self.type_.as_deref() == Some(SERVICE_ACCOUNT_TOKEN) && named;
        let token = self.data.as_ref()?.token.as_ref().filter(|token| !token.is_empty())?;
        is_token.then(|| token.expose())
    }
}
