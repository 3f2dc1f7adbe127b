//! Aggregated cluster roles: their rules are those of every role that their selectors choose.
//!
//! Upstream leaves this to a controller. Here it is the API server's, because `admin`, `edit` and
//! `view` are empty without it, and they must hold before the first controller has logged in.

use std::collections::HashSet;
use std::sync::Arc;

use coffer_api::reason::Reason;
use coffer_api::selector::LabelSelector;
use coffer_api::status::Failure;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as TypedSelector;
use tokio_util::sync::CancellationToken;

use super::GROUP;
use crate::authz::Permit;
use crate::cache::{Initial, Scope, Start};
use crate::handlers::Handlers;
use crate::object::Object;
use crate::registry::Change;

/// The rules an aggregated role should have now, in the order of the roles they come from.
fn gathered(role: &ClusterRole, all: &[ClusterRole]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref()?;
    let mut rules: Vec<PolicyRule> = Vec::new();
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    for selector in selectors.iter().filter_map(parse) {
        let labels = |other: &ClusterRole| other.metadata.labels.clone().unwrap_or_default();
        let chosen = all
            .iter()
            .filter(|other| other.metadata.name != role.metadata.name)
            .filter(|other| selector.matches(&labels(other)));
        for rule in chosen.flat_map(|other| other.rules.iter().flatten()) {
            if serde_json::to_vec(rule).is_ok_and(|text| seen.insert(text)) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

fn parse(selector: &TypedSelector) -> Option<LabelSelector> {
    LabelSelector::of_structured(selector).ok()
}

/// Fills in all aggregated roles, until nothing changes: they may aggregate each other.
pub(super) fn fill_in(all: &mut [ClusterRole]) -> Vec<usize> {
    let mut changed = Vec::new();
    // Each pass moves rules one step on; a chain cannot be longer than there are roles.
    for _ in 0..all.len() {
        let mut moved = false;
        for at in 0..all.len() {
            let Some(rules) = gathered(&all[at], all) else { continue };
            if all[at].rules.as_deref().unwrap_or_default() != rules {
                all[at].rules = Some(rules);
                moved = true;
                if !changed.contains(&at) {
                    changed.push(at);
                }
            }
        }
        if !moved {
            break;
        }
    }
    changed
}

/// Writes the rules of every aggregated role that are not what they should be.
///
/// # Errors
/// What the registry answers.
pub(crate) async fn reconcile(handlers: &Handlers) -> Result<(), Failure> {
    let resources = &handlers.registry.resources;
    let Some(resource) = resources.find(GROUP, "v1", "clusterroles") else { return Ok(()) };
    handlers.registry.settle().await?;
    let (found, _) = resource.shard().list(&resource.collection(""), &Scope::All);
    let mut all: Vec<ClusterRole> =
        found.iter().filter_map(|object| super::parse(object)).collect();
    for at in fill_in(&mut all) {
        let (name, rules) = (all[at].metadata.name.as_deref().unwrap_or_default(), &all[at].rules);
        let change = |old: &dyn Object| {
            let mut object = resource.parse(&old.encode())?;
            if let Some(role) = object.as_any_mut().downcast_mut::<ClusterRole>() {
                role.rules.clone_from(rules);
            }
            let permit = Permit::server_itself();
            let object = handlers.admission().update(&permit, resource, object, old)?;
            Ok(Change { object, expected: None })
        };
        match handlers.registry.update(resource, ("", name), None, false, change).await {
            // Deleted meanwhile.
            Err(failure) if failure.reason == Reason::NotFound => {}
            done => drop(done?),
        }
    }
    Ok(())
}

/// Reconciles after every change of a cluster role, until told to stop.
pub(crate) async fn follow(handlers: Arc<Handlers>, shutdown: CancellationToken) {
    let Some(resource) = handlers.registry.resources.find(GROUP, "v1", "clusterroles") else {
        return;
    };
    while !shutdown.is_cancelled() {
        let Ok(changes) = resource.shard().subscribe(Scope::All, Start::Now) else { return };
        // Reconciliation reads the state itself; left where it is, it would look like a stalled watch.
        while let Initial::Object(_) = changes.inbox.next_initial() {}
        loop {
            if let Err(failure) = reconcile(&handlers).await {
                tracing::warn!(%failure, "cluster roles not aggregated");
            }
            let next = shutdown.run_until_cancelled(changes.inbox.next()).await;
            if next.flatten().is_none() {
                break;
            }
            // One reconciliation answers for all changes up to it.
            while changes.inbox.try_next().is_ok() {}
        }
    }
}
