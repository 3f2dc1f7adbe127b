//! What a default role or binding lacks at a start of the server.
//!
//! As upstream's start-up hook: rules and subjects that are missing are added; what others added
//! stays; an object whose annotation [`AUTO_UPDATE`] is not `true` is left as it is. Here it is
//! decided; `core::roles` writes.

use coffer_api::kinds::Served;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{AUTO_UPDATE, cover};

/// Whether the server may reconcile an object: its annotation says so.
pub(crate) fn may_reconcile(metadata: &ObjectMeta) -> bool {
    let annotations = metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(AUTO_UPDATE)).is_some_and(|value| value == "true")
}

/// One of the four kinds of default objects.
pub(crate) trait Reconcile: Served + Clone {
    /// Adds to `self`, as found, what the policy's `wanted` has beyond it. Returns whether there was
    /// anything.
    fn reconcile(&mut self, wanted: &Self) -> bool;
}

fn add_rules(found: &mut Option<Vec<PolicyRule>>, wanted: &Option<Vec<PolicyRule>>) -> bool {
    let own = found.get_or_insert_default();
    let missing = cover::missing(&*own, wanted.as_deref().unwrap_or_default());
    own.extend(missing.iter().cloned());
    !missing.is_empty()
}

fn add_subjects(found: &mut Option<Vec<Subject>>, wanted: &Option<Vec<Subject>>) -> bool {
    let own = found.get_or_insert_default();
    let before = own.len();
    for subject in wanted.iter().flatten() {
        let same = |own: &Subject| {
            (&own.kind, &own.name, own.namespace.as_deref().unwrap_or_default())
                == (&subject.kind, &subject.name, subject.namespace.as_deref().unwrap_or_default())
        };
        if !own.iter().any(same) {
            own.push(subject.clone());
        }
    }
    own.len() != before
}

impl Reconcile for ClusterRole {
    fn reconcile(&mut self, wanted: &Self) -> bool {
        let labels = add_labels(&mut self.metadata, &wanted.metadata);
        // An aggregated role's rules are gathered, not written down.
        if wanted.aggregation_rule.is_some() {
            let same = self.aggregation_rule == wanted.aggregation_rule;
            self.aggregation_rule.clone_from(&wanted.aggregation_rule);
            return labels || !same;
        }
        add_rules(&mut self.rules, &wanted.rules) || labels
    }
}

impl Reconcile for Role {
    fn reconcile(&mut self, wanted: &Self) -> bool {
        add_rules(&mut self.rules, &wanted.rules)
    }
}

impl Reconcile for ClusterRoleBinding {
    fn reconcile(&mut self, wanted: &Self) -> bool {
        add_subjects(&mut self.subjects, &wanted.subjects)
    }
}

impl Reconcile for RoleBinding {
    fn reconcile(&mut self, wanted: &Self) -> bool {
        add_subjects(&mut self.subjects, &wanted.subjects)
    }
}

fn add_labels(found: &mut ObjectMeta, wanted: &ObjectMeta) -> bool {
    let own = found.labels.get_or_insert_default();
    let before = own.clone();
    own.extend(wanted.labels.clone().unwrap_or_default());
    *own != before
}

#[cfg(test)]
mod tests {
    use super::super::policy::{binding, role, rule, users};
    use super::*;

    #[test]
    fn missing_rules_and_subjects_are_added_and_others_stay() {
        let wanted = role("r", vec![rule(&["get", "list"], &[""], &["pods"])]);
        let mut found =
            role("r", vec![rule(&["get"], &[""], &["pods"]), rule(&["get"], &[""], &["secrets"])]);
        assert!(found.reconcile(&wanted));
        assert_eq!(found.rules.as_ref().unwrap().len(), 3);
        assert!(!found.clone().reconcile(&wanted));

        let wanted = binding("b", "r", users(&["alice"]));
        let mut found = binding("b", "r", users(&["bob"]));
        assert!(found.reconcile(&wanted));
        assert_eq!(found.subjects.as_ref().unwrap().len(), 2);
        assert!(!found.reconcile(&wanted));
    }
}
