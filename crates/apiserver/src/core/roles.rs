//! Creates and reconciles the default roles and bindings at every start.
//!
//! `authz::rbac::reconcile` decides what an existing one lacks.

use coffer_api::Document;
use coffer_api::reason::Reason;
use coffer_api::status::Failure;

use super::{Core, aggregate};
use crate::authz::rbac::policy;
use crate::authz::rbac::reconcile::{Reconcile, may_reconcile};
use crate::object::Resource;

/// Creates and reconciles everything, then fills in aggregated roles.
///
/// # Errors
/// What the registry returns.
pub(crate) async fn reconcile(core: &Core) -> Result<(), Failure> {
    // Concurrently, so that the store commits them together.
    tokio::try_join!(
        ensure_all(core, policy::cluster_roles()),
        ensure_all(core, policy::cluster_role_bindings()),
        ensure_all(core, policy::roles()),
        ensure_all(core, policy::role_bindings()),
    )?;
    aggregate::reconcile(core).await
}

async fn ensure_all<T: Reconcile>(core: &Core, wanted: Vec<T>) -> Result<(), Failure> {
    let all = wanted.into_iter().map(|wanted| ensure(core, wanted));
    futures::future::try_join_all(all).await.map(drop)
}

async fn ensure<T: Reconcile>(core: &Core, wanted: T) -> Result<(), Failure> {
    let resource = core.resources().of::<T>();
    let namespace = wanted.metadata().namespace.clone().unwrap_or_default();
    let name = wanted.metadata().name.clone().unwrap_or_default();
    let found = resource.shard().get(&resource.key(&namespace, &name));
    match found {
        Some(found) if !lacks(resource, &found.bytes, &wanted) => Ok(()),
        Some(_) => update(core, resource, (&namespace, &name), &wanted).await,
        None => create(core, resource, wanted).await,
    }
}

/// Whether an object that the server may reconcile lacks something.
fn lacks<T: Reconcile>(resource: &Resource, bytes: &[u8], wanted: &T) -> bool {
    // One that cannot be decoded is left to be deleted; it gives no rights, and keeps no server from its start.
    let Ok(object) = resource.parse(bytes) else { return false };
    let found = object.of_kind::<T>();
    found.is_some_and(|found| may_reconcile(found.metadata()) && found.clone().reconcile(wanted))
}

async fn create<T: Reconcile>(core: &Core, resource: &Resource, wanted: T) -> Result<(), Failure> {
    let document = Document::encode(&wanted).map_err(Failure::internal)?;
    let mut object = resource.decode(&document).map_err(Failure::internal)?;
    object.set_defaults();
    // The namespaces were made a moment ago.
    core.registry.settle().await?;
    match core.create_own(resource, object).await {
        // Another server of the same store was faster.
        Err(failure) if failure.reason == Reason::AlreadyExists => Ok(()),
        done => done,
    }
}

async fn update<T: Reconcile>(
    core: &Core,
    resource: &Resource,
    target: (&str, &str),
    wanted: &T,
) -> Result<(), Failure> {
    let updated = core.update_own(resource, target, |object| {
        if let Some(found) = object.of_kind_mut::<T>()
            && may_reconcile(found.metadata())
        {
            found.reconcile(wanted);
        }
    });
    match updated.await {
        // Deleted meanwhile.
        Err(failure) if failure.reason == Reason::NotFound => Ok(()),
        done => done,
    }
}
