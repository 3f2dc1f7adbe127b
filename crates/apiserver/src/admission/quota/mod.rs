//! ResourceQuota: a namespace gets no more than its quotas say.
//!
//! Upstream compares a new object with `status.used`, which it then raises. Here one server makes all
//! objects, so it keeps what there is ([`ledger`]), which is always true, also a moment after a deletion
//! or while no controller runs; `status.used` is for people. An object that has room gets it reserved
//! until it is written, or not ([`namespace`]); objects that do not compete for the last room do not wait
//! for each other.

mod ledger;
mod namespace;

use std::sync::Arc;

use coffer_api::kinds::Pod;
use coffer_api::quota::{PodUsage, QuotaExceeded};
use coffer_api::status::Failure;
use coffer_store::{Revision, StoreError};

use self::ledger::{Ledger, Shared};
use self::namespace::{Outcome, Request};
use super::named::shown_name;
use crate::authz::Permit;
use crate::cache::Cache;
use crate::failure::unavailable;
use crate::object::{Object, Resource, Resources};
use crate::tasks::Group;

/// The quotas of all namespaces.
pub(crate) struct Quotas {
    resources: Arc<Resources>,
    cache: Arc<Cache>,
    tasks: Group,
    ledger: Arc<Ledger>,
}

/// A reservation of quota for one new object, if quotas are about it; released when it is dropped before
/// the object is written. Only [`Quotas::admit`] makes one, so that nothing is written that was not
/// counted.
pub(crate) struct QuotaReservation {
    held: Option<Reserved>,
    tasks: Group,
}

struct Reserved {
    namespace: Arc<Shared>,
    id: u64,
    written: bool,
}

impl Reserved {
    fn written(mut self, revision: Revision) {
        self.written = true;
        self.namespace.state().written(self.id, revision);
        self.namespace.ended.notify_waiters();
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.written {
            self.namespace.state().release(self.id);
            self.namespace.ended.notify_waiters();
        }
    }
}

impl QuotaReservation {
    /// Runs the object's write, to its end also where its caller is dropped in between: the reservation is
    /// kept until the result is known. `None` where the server is shutting down.
    pub(crate) async fn hold_during(
        &mut self,
        write: impl Future<Output = Result<Revision, StoreError>> + Send + 'static,
    ) -> Option<Result<Revision, StoreError>> {
        let Some(held) = self.held.take() else { return Some(write.await) };
        let held_write = async move {
            match write.await {
                Ok(revision) => {
                    held.written(revision);
                    (Ok(revision), None)
                }
                Err(error) => (Err(error), Some(held)),
            }
        };
        let (done, held) = self.tasks.spawn_to_end(held_write).await.ok()??;
        self.held = held;
        Some(done)
    }
}

impl Quotas {
    /// Quotas as the cache has them.
    pub(super) fn new(resources: Arc<Resources>, cache: Arc<Cache>, tasks: Group) -> Self {
        let ledger = Ledger::observing(&resources);
        Self { resources, cache, tasks, ledger }
    }

    fn reservation(&self, held: Option<Reserved>) -> QuotaReservation {
        QuotaReservation { held, tasks: self.tasks.clone() }
    }

    /// Checks whether the quotas of its namespace have room for a new object, and reserves it. What the
    /// server itself makes is not counted: it could not start in a namespace that is full.
    ///
    /// # Errors
    /// 403 for a quota that is exceeded, or that wants a pod to say what it needs.
    pub(super) async fn admit(
        &self,
        permit: &Permit,
        resource: &Resource,
        object: &dyn Object,
    ) -> Result<QuotaReservation, Failure> {
        if permit.is_internal() {
            return Ok(self.reservation(None));
        }
        self.reserve(resource, object).await
    }

    async fn reserve(
        &self,
        resource: &Resource,
        object: &dyn Object,
    ) -> Result<QuotaReservation, Failure> {
        let name = object.meta().namespace.as_deref().unwrap_or_default();
        let qualified = resource.group_resource().qualified();
        let Some(kind) = self.ledger.kind(&qualified) else { return Ok(self.reservation(None)) };
        let Some(namespace) = self.ledger.with_quotas(name) else {
            return Ok(self.reservation(None));
        };
        let pod = object.pod();
        let pod = pod.map(|pod| (pod, Arc::new(PodUsage::of(pod))));
        let request = Request { kind, resource: &qualified, pod };
        loop {
            // What others have written or deleted before this request came is counted.
            self.cache.fresh().await.map_err(unavailable)?;
            // Registered before the check, so that no later notification is missed.
            let ended = namespace.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let applied = self.cache.revision();
            let outcome = namespace.state().reserve(&request, applied, jiff::Timestamp::now());
            match outcome {
                Outcome::Reserved(id) => {
                    return Ok(self.reservation(Some(Reserved {
                        namespace: namespace.clone(),
                        id,
                        written: false,
                    })));
                }
                Outcome::Refused(excess) => return Err(forbidden(resource, object, &excess)),
                Outcome::Later(Some(written)) => {
                    self.cache.reach(written).await.map_err(unavailable)?;
                }
                Outcome::Later(None) => ended.await,
                Outcome::PodsUnread => {
                    let pods = self.resources.of::<Pod>();
                    self.ledger.read_pods(&namespace, pods, name).await?;
                }
                Outcome::Unreadable(quota) => {
                    let why = format!("resource quota {quota} cannot be read");
                    return Err(Failure::internal(why));
                }
            }
        }
    }
}

fn forbidden(resource: &Resource, object: &dyn Object, excess: &QuotaExceeded) -> Failure {
    Failure::forbidden(resource.group_resource(), &shown_name(object), &excess.to_string())
}

#[cfg(test)]
mod tests;
