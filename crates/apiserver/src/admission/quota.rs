//! ResourceQuota: a namespace gets no more than its quotas say.
//!
//! Upstream compares a new object with `status.used`, which it then raises. Here one server makes all
//! objects, so it counts what there is, which is always true, also a moment after a deletion or while
//! no controller runs; `status.used` is for people. While one object is counted and made in a
//! namespace with quotas, no other is.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use coffer_api::quota::{self, Excess};
use coffer_api::status::Failure;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ResourceQuotaSpec};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::shown_name;
use crate::cache::Scope;
use crate::object::{Object, Resource};
use crate::registry::Registry;

/// Whose turn it is to add to a namespace with quotas. A namespace in which nobody waits has no entry.
#[derive(Default)]
pub(crate) struct Turns(std::sync::Mutex<HashMap<String, Arc<Mutex<()>>>>);

impl Turns {
    /// Held across the write that it is for: that is what it is for.
    async fn take(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(namespace.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }
}

/// What quotas are not about, as upstream has it: telling what happens must not fail for want of room.
const UNCOUNTED: &[&str] = &["events"];

/// Waits for a new object's turn, and looks whether the quotas of its namespace have room for it. The
/// turn, if the namespace has quotas, is to be kept until the object is made, also where nobody waits
/// for that any more.
///
/// # Errors
/// 403 for a quota that is exceeded, or that wants a pod to say what it needs.
pub(crate) async fn take_turn(
    turns: &Turns,
    registry: &Registry,
    resource: &Resource,
    object: &dyn Object,
) -> Result<Option<OwnedMutexGuard<()>>, Failure> {
    let resources = &registry.resources;
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    if !resource.info.namespaced || UNCOUNTED.contains(&resource.info.plural) {
        return Ok(None);
    }
    let quotas = resources.core("resourcequotas");
    if count(quotas, namespace) == 0 {
        return Ok(None);
    }
    let turn = turns.take(namespace).await;
    // What the one before made.
    registry.settle().await?;
    let forbidden = |excess: Excess| {
        Failure::forbidden(resource.group_resource(), &shown_name(object), &excess.to_string())
    };
    let pod = object.as_any().downcast_ref::<Pod>();
    let quotas = all::<ResourceQuota>(quotas, namespace)?;
    for (name, spec) in quotas.iter().filter_map(named_spec) {
        if let Some(pod) = pod {
            quota::check_specified(name, spec, pod).map_err(forbidden)?;
        }
    }
    let mut pods = None;
    for (name, spec) in quotas.iter().filter_map(named_spec) {
        let added = quota::added(spec, &qualified(resource), pod);
        if added.is_empty() {
            continue;
        }
        if pod.is_some() && pods.is_none() {
            pods = Some(all::<Pod>(resources.core("pods"), namespace)?);
        }
        let pods: Vec<&Pod> = pods.iter().flatten().collect();
        let used = quota::used(spec, added.keys(), &pods, |_| Some(count(resource, namespace)));
        quota::check(name, spec, &used, &added).map_err(forbidden)?;
    }
    Ok(Some(turn))
}

fn named_spec(quota: &ResourceQuota) -> Option<(&str, &ResourceQuotaSpec)> {
    Some((quota.metadata.name.as_deref()?, quota.spec.as_ref()?))
}

/// All objects of a kind in a namespace, as the cache has them.
fn all<K: Clone + 'static>(resource: &Resource, namespace: &str) -> Result<Vec<K>, Failure> {
    let (found, _) = resource.shard().list(&resource.collection(namespace), &Scope::All);
    let parsed = found.iter().map(|found| {
        let object = resource.parse(&found.bytes)?;
        let object = object.as_any().downcast_ref::<K>().cloned();
        object.ok_or_else(|| Failure::internal("stored object: of another kind".to_owned()))
    });
    parsed.collect()
}

fn count(resource: &Resource, namespace: &str) -> usize {
    resource.shard().list(&resource.collection(namespace), &Scope::All).0.len()
}

/// `secrets.`, `deployments.apps`.
fn qualified(resource: &Resource) -> String {
    format!("{}.{}", resource.info.plural, resource.info.group)
}
