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
use coffer_store::Revision;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ResourceQuotaSpec};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::shown_name;
use crate::authz::Permit;
use crate::cache::{Cache, CachedObject, Scope};
use crate::failure::unavailable;
use crate::object::{Object, Resource, Resources};
use crate::tasks::Group;

/// Namespaces with quotas whose pods are remembered; those in which nobody waits are forgotten beyond
/// this.
const NAMESPACES_REMEMBERED: usize = 256;
/// Bytes of pods that are read before others get their turn at the processor.
const PIECE_BYTES: usize = 256 * 1024;

/// The quotas of all namespaces, and whose turn it is to add to a namespace that has some.
pub(crate) struct Quotas {
    resources: Arc<Resources>,
    cache: Arc<Cache>,
    tasks: Group,
    turns: std::sync::Mutex<HashMap<String, Arc<Mutex<Counted>>>>,
}

/// The turn of one new object. While it is held no other object is counted and made in the namespace.
/// Only [`Quotas::admit`] makes one, so that nothing is written that was not counted.
pub(crate) struct QuotaTurn {
    held: Option<OwnedMutexGuard<Counted>>,
    tasks: Group,
}

impl QuotaTurn {
    /// Does a write, and to its end also where its caller goes away in between: the next in turn must
    /// count what comes of it. `None` where the server is shutting down.
    pub(crate) async fn hold_across<T: Send + 'static>(
        &mut self,
        write: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let Some(held) = self.held.take() else { return Some(write.await) };
        let write = self.tasks.spawn_to_end(async move { (write.await, held) });
        let (done, held) = write.await.ok()??;
        self.held = Some(held);
        Some(done)
    }
}

/// The pods of a namespace as quotas look at them, by key, each with its revision: a pod is read once
/// and not once for each one that is made beside it.
#[derive(Default)]
pub(crate) struct Counted(HashMap<Arc<str>, (Revision, Arc<Pod>)>);

impl Counted {
    /// The pods that there are now.
    async fn pods(&mut self, found: &[Arc<CachedObject>]) -> Result<Vec<Arc<Pod>>, Failure> {
        let mut before = std::mem::take(&mut self.0);
        let mut pods = Vec::with_capacity(found.len());
        let mut read = 0;
        for object in found {
            let known = before.remove(&object.key).filter(|(at, _)| *at == object.revision);
            let pod = match known {
                Some((_, pod)) => pod,
                None => {
                    read += object.bytes.len();
                    if read > PIECE_BYTES {
                        read = 0;
                        tokio::task::yield_now().await;
                    }
                    Arc::new(quota::read_pod(&object.bytes).map_err(Failure::internal)?)
                }
            };
            self.0.insert(object.key.clone(), (object.revision, pod.clone()));
            pods.push(pod);
        }
        Ok(pods)
    }
}

/// What quotas are not about, as upstream has it: recording events must not fail for want of room.
const UNCOUNTED: &[&str] = &["events"];

impl Quotas {
    /// Quotas as the cache has them.
    pub(super) fn new(resources: Arc<Resources>, cache: Arc<Cache>, tasks: Group) -> Self {
        Self { resources, cache, tasks, turns: Default::default() }
    }

    /// Waits for a new object's turn, and looks whether the quotas of its namespace have room for it.
    /// What the server itself makes is not counted: it could not start in a namespace that is full.
    ///
    /// # Errors
    /// 403 for a quota that is exceeded, or that wants a pod to say what it needs.
    pub(super) async fn admit(
        &self,
        permit: &Permit,
        resource: &Resource,
        object: &dyn Object,
    ) -> Result<QuotaTurn, Failure> {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        let uncounted = !resource.info.namespaced
            || UNCOUNTED.contains(&resource.info.plural)
            || permit.is_internal();
        let quotas = self.resources.core("resourcequotas");
        if uncounted || count(quotas, namespace) == 0 {
            return Ok(QuotaTurn { held: None, tasks: self.tasks.clone() });
        }
        let mut turn = self.turn(namespace).await;
        // What the one before made.
        self.cache.fresh().await.map_err(unavailable)?;
        let forbidden = |excess: Excess| {
            Failure::forbidden(resource.group_resource(), &shown_name(object), &excess.to_string())
        };
        let pod = object.as_any().downcast_ref::<Pod>();
        let quotas = quotas_of(quotas, namespace)?;
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
                pods = Some(turn.pods(&found(self.resources.core("pods"), namespace)).await?);
            }
            let pods: Vec<&Pod> = pods.iter().flatten().map(|pod| &**pod).collect();
            let used = quota::used(spec, added.keys(), &pods, |_| Some(count(resource, namespace)));
            quota::check(name, spec, &used, &added).map_err(forbidden)?;
        }
        Ok(QuotaTurn { held: Some(turn), tasks: self.tasks.clone() })
    }

    async fn turn(&self, namespace: &str) -> OwnedMutexGuard<Counted> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            if turns.len() >= NAMESPACES_REMEMBERED && !turns.contains_key(namespace) {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            turns.entry(namespace.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }
}

fn named_spec(quota: &ResourceQuota) -> Option<(&str, &ResourceQuotaSpec)> {
    Some((quota.metadata.name.as_deref()?, quota.spec.as_ref()?))
}

/// All objects of a kind in a namespace, as the cache has them.
fn found(resource: &Resource, namespace: &str) -> Vec<Arc<CachedObject>> {
    resource.shard().list(&resource.collection(namespace), &Scope::All).0
}

fn quotas_of(resource: &Resource, namespace: &str) -> Result<Vec<ResourceQuota>, Failure> {
    let found = found(resource, namespace);
    let parsed = found.iter().map(|quota| serde_json::from_slice(&quota.bytes));
    parsed.collect::<Result<_, _>>().map_err(Failure::internal)
}

fn count(resource: &Resource, namespace: &str) -> usize {
    resource.shard().count(&resource.collection(namespace))
}

/// `secrets.`, `deployments.apps`.
fn qualified(resource: &Resource) -> String {
    format!("{}.{}", resource.info.plural, resource.info.group)
}
