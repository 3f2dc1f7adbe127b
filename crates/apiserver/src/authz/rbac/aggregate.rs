//! Aggregated cluster roles: their rules are those of every role that their selectors choose.
//!
//! Which rules these are is decided here; `core::aggregate` writes them.

use std::collections::HashSet;

use coffer_api::selector::LabelSelector;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as TypedSelector;

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
pub(crate) fn fill_in(all: &mut [ClusterRole]) -> Vec<usize> {
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
