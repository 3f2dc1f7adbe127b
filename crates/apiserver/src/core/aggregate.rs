//! Writes the rules of aggregated cluster roles, at the start and after every change of a role.
//!
//! Upstream leaves this to a controller. Here it is the API server's, because `admin`, `edit` and
//! `view` are empty without it, and they must hold before the first controller has logged in.

use coffer_api::reason::Reason;
use coffer_api::status::Failure;
use k8s_openapi::api::rbac::v1::ClusterRole;
use tokio_util::sync::CancellationToken;

use super::Core;
use crate::authz::rbac;
use crate::cache::{Initial, Scope, Start};

/// Writes the rules of every aggregated role that are not what they should be.
///
/// # Errors
/// What the registry returns.
pub(crate) async fn reconcile(core: &Core) -> Result<(), Failure> {
    let resource = core.resources().of::<ClusterRole>();
    core.registry.settle().await?;
    let (found, _) = resource.shard().list(&resource.collection(""), &Scope::All);
    let mut all: Vec<ClusterRole> = found.iter().filter_map(|object| rbac::parse(object)).collect();
    for at in rbac::aggregate::fill_in(&mut all) {
        let (name, rules) = (all[at].metadata.name.as_deref().unwrap_or_default(), &all[at].rules);
        let updated = core.update_own(resource, ("", name), |object| {
            if let Some(role) = object.of_kind_mut::<ClusterRole>() {
                role.rules.clone_from(rules);
            }
        });
        match updated.await {
            // Deleted meanwhile.
            Err(failure) if failure.reason == Reason::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

/// Reconciles after every change of a cluster role, until `shutdown`.
pub(crate) async fn follow(core: &Core, shutdown: &CancellationToken) {
    let resource = core.resources().of::<ClusterRole>();
    while !shutdown.is_cancelled() {
        let Ok(changes) = resource.shard().subscribe(Scope::All, Start::Now) else { return };
        // Reconciliation reads the state itself; left where it is, it would look like a stalled watch.
        while let Initial::Object(_) = changes.inbox.next_initial() {}
        loop {
            if let Err(failure) = reconcile(core).await {
                tracing::warn!(%failure, "cannot aggregate cluster roles");
            }
            let next = shutdown.run_until_cancelled(changes.inbox.next()).await;
            if next.flatten().is_none() {
                break;
            }
            // One reconciliation covers all changes up to it.
            while changes.inbox.try_next().is_ok() {}
        }
    }
}
