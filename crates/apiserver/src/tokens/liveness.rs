//! Whether what a token is bound to is still there, and still the same.

use coffer_api::kinds::Secret;
use coffer_api::kinds::secret::{SERVICE_ACCOUNT_NAME, SERVICE_ACCOUNT_TOKEN};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::TokenError;
use super::claims::{Bound, Claims, Legacy};
use crate::object::Resources;

/// How long a token outlives the deletion time of what it is bound to, in seconds: a pod that is
/// terminating may still make requests. Upstream's leeway.
const LEEWAY_S: i64 = 60;
/// The key of a token Secret's token.
pub(crate) const TOKEN_KEY: &str = "token";
/// The uid of a token Secret's account.
pub(crate) const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// An object's metadata; the rest is skipped, not read.
pub(super) fn metadata(
    resources: &Resources,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Option<ObjectMeta> {
    #[derive(Deserialize)]
    struct Head {
        metadata: ObjectMeta,
    }
    let resource = resources.find("", "v1", plural)?;
    let found = resource.shard().get(&resource.key(namespace, name))?;
    serde_json::from_slice::<Head>(&found.bytes).ok().map(|head| head.metadata)
}

fn lives(meta: &ObjectMeta, now: jiff::Timestamp) -> bool {
    meta.deletion_timestamp.as_ref().is_none_or(|at| now.as_second() - at.0.as_second() < LEEWAY_S)
}

fn check(
    resources: &Resources,
    (what, plural): (&'static str, &str),
    namespace: &str,
    bound: &Bound,
    now: jiff::Timestamp,
) -> Result<(), TokenError> {
    let meta = metadata(resources, plural, namespace, &bound.name);
    let same = |meta: &ObjectMeta| meta.uid.as_deref() == Some(&bound.uid) && lives(meta, now);
    if meta.as_ref().is_some_and(same) {
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
    let account = ("service account", "serviceaccounts");
    check(resources, account, namespace, &bound.serviceaccount, now)?;
    if let Some(pod) = &bound.pod {
        check(resources, ("pod", "pods"), namespace, pod, now)?;
    }
    if let Some(secret) = &bound.secret {
        check(resources, ("secret", "secrets"), namespace, secret, now)?;
    }
    // With a pod the node is information only: the pod decides.
    match &bound.node {
        Some(node) if bound.pod.is_none() => check(resources, ("node", "nodes"), "", node, now),
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
    check(resources, ("service account", "serviceaccounts"), namespace, &account, now)?;
    let deleted =
        || TokenError::Deleted { what: "secret", name: format!("{namespace}/{}", legacy.secret) };
    let secrets = resources.core("secrets");
    let found = secrets.shard().get(&secrets.key(namespace, &legacy.secret)).ok_or_else(deleted)?;
    let secret: Secret = serde_json::from_slice(&found.bytes).map_err(|_| deleted())?;
    let held = legacy_token(&secret).ok_or_else(deleted)?;
    let same: bool = held.ct_eq(token.as_bytes()).into();
    if same && lives(&secret.metadata, now) { Ok(()) } else { Err(deleted()) }
}

/// The token in a service account's token Secret.
fn legacy_token(secret: &Secret) -> Option<&[u8]> {
    let annotations = secret.metadata.annotations.as_ref()?;
    let named = annotations.get(SERVICE_ACCOUNT_NAME).is_some_and(|name| !name.is_empty());
    let is_token = secret.type_.as_deref() == Some(SERVICE_ACCOUNT_TOKEN) && named;
    let token = secret.data.get(TOKEN_KEY).filter(|token| !token.is_empty())?;
    is_token.then(|| token.expose())
}
