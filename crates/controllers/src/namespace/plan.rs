//! The state of a namespace's deletion, and its conditions. Pure.

use std::collections::BTreeMap;

use coffer_api::condition::{ConditionStatus, ConditionType};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The finalizer in `spec.finalizers` that this controller removes.
pub(crate) const FINALIZER: &str = coffer_api::well_known::finalizer::KUBERNETES;

/// The result of one round of deletions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// The number of remaining objects, by qualified resource (`pods.`, `deployments.apps`).
    pub(crate) remaining: BTreeMap<String, usize>,
    /// The number of remaining objects with each finalizer.
    pub(crate) finalizers: BTreeMap<String, usize>,
    /// Messages of failed deletions.
    pub(crate) failures: Vec<String>,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing: the namespace is not being deleted, or only other finalizers are left.
    Nothing,
    /// Objects are left: write the status, if it has changed, and wait for their deletion.
    Wait(Option<Box<Namespace>>),
    /// It is empty: remove the finalizer.
    Finalize(Box<Namespace>),
}

/// Whether the namespace is being deleted and has this controller's finalizer.
pub(crate) fn is_terminating(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
        && finalizers(namespace).iter().any(|one| one == FINALIZER)
}

/// Decides after a round of deletions.
pub(crate) fn plan(namespace: &Namespace, findings: &Findings, now: Timestamp) -> Step {
    if !is_terminating(namespace) {
        return Step::Nothing;
    }
    let mut next = namespace.clone();
    if findings.remaining.is_empty() && findings.failures.is_empty() {
        let spec = next.spec.get_or_insert_default();
        let finalizers = spec.finalizers.get_or_insert_default();
        finalizers.retain(|one| one != FINALIZER);
        return Step::Finalize(Box::new(next));
    }
    let status = next.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    for condition in findings.conditions() {
        set(conditions, condition, now);
    }
    Step::Wait((next != *namespace).then(|| Box::new(next)))
}

fn finalizers(namespace: &Namespace) -> &[String] {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref());
    finalizers.unwrap_or_default()
}

impl Findings {
    /// The five conditions, in upstream's order and with its messages.
    fn conditions(&self) -> [NamespaceCondition; 5] {
        let remaining = || {
            let counts = self.remaining.iter();
            let shown: Vec<String> = counts
                .map(|(resource, count)| format!("{resource} has {count} resource instances"))
                .collect();
            format!("Some resources are remaining: {}", shown.join(", "))
        };
        let finalizers = || {
            let counts = self.finalizers.iter();
            let shown: Vec<String> = counts
                .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
                .collect();
            let shown = shown.join(", ");
            format!("Some content in the namespace has finalizers remaining: {shown}")
        };
        let failures = || self.failures.join(", ");
        [
            condition(
                ConditionType::NamespaceDeletionDiscoveryFailure,
                None,
                ("ResourcesDiscovered", "All resources successfully discovered"),
            ),
            condition(
                ConditionType::NamespaceDeletionGroupVersionParsingFailure,
                None,
                ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            ),
            condition(
                ConditionType::NamespaceDeletionContentFailure,
                (!self.failures.is_empty()).then(|| ("ContentDeletionFailed", failures())),
                (
                    "ContentDeleted",
                    "All content successfully deleted, may be waiting on finalization",
                ),
            ),
            condition(
                ConditionType::NamespaceContentRemaining,
                (!self.remaining.is_empty()).then(|| ("SomeResourcesRemain", remaining())),
                ("ContentRemoved", "All content successfully removed"),
            ),
            condition(
                ConditionType::NamespaceFinalizersRemaining,
                (!self.finalizers.is_empty()).then(|| ("SomeFinalizersRemain", finalizers())),
                ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            ),
        ]
    }
}

fn condition(
    type_: ConditionType,
    problem: Option<(&str, String)>,
    otherwise: (&str, &str),
) -> NamespaceCondition {
    let (status, reason, message) = match problem {
        Some((reason, message)) => (ConditionStatus::True, reason, message),
        None => (ConditionStatus::False, otherwise.0, otherwise.1.to_owned()),
    };
    NamespaceCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: None,
    }
}

/// Sets a condition. Its transition time is changed only with the condition.
fn set(conditions: &mut Vec<NamespaceCondition>, new: NamespaceCondition, now: Timestamp) {
    let now = Some(Time(now));
    let Some(old) = conditions.iter_mut().find(|old| old.type_ == new.type_) else {
        conditions.push(NamespaceCondition { last_transition_time: now, ..new });
        return;
    };
    let same = NamespaceCondition { last_transition_time: None, ..old.clone() } == new;
    if !same {
        *old = NamespaceCondition { last_transition_time: now, ..new };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn namespace(extra: Value) -> Namespace {
        let mut namespace = json!({
            "metadata": { "name": "myns", "deletionTimestamp": NOW },
            "spec": { "finalizers": ["kubernetes"] },
            "status": { "phase": "Terminating" },
        });
        for (key, value) in extra.as_object().expect("an object") {
            namespace[key] = value.clone();
        }
        serde_json::from_value(namespace).expect("a namespace")
    }

    fn at(time: &str) -> Timestamp {
        time.parse().expect("a time")
    }

    #[test]
    fn an_empty_namespace_loses_only_this_controllers_finalizer() {
        let namespace = namespace(json!({ "spec": { "finalizers": ["kubernetes", "mine"] } }));
        let Step::Finalize(next) = plan(&namespace, &Findings::default(), at(NOW)) else {
            panic!("not finalized");
        };
        assert_eq!(finalizers(&next), ["mine"]);
    }

    #[test]
    fn a_namespace_that_is_not_being_deleted_is_not_changed() {
        let alive = namespace(json!({ "metadata": { "name": "myns" } }));
        assert_eq!(plan(&alive, &Findings::default(), at(NOW)), Step::Nothing);
        let held = namespace(json!({ "spec": { "finalizers": ["mine"] } }));
        assert_eq!(plan(&held, &Findings::default(), at(NOW)), Step::Nothing);
    }

    #[test]
    fn remaining_objects_are_reported_with_upstreams_messages() {
        let findings = Findings {
            remaining: [("pods.".to_owned(), 2), ("configmaps.".to_owned(), 1)].into(),
            finalizers: [("example.com/guard".to_owned(), 1)].into(),
            failures: Vec::new(),
        };
        let Step::Wait(Some(next)) = plan(&namespace(json!({})), &findings, at(NOW)) else {
            panic!("no status to write");
        };
        let shown: Vec<[String; 3]> = next
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .map(|condition| {
                [
                    format!("{}={}", condition.type_, condition.status),
                    condition.reason.clone().unwrap_or_default(),
                    condition.message.clone().unwrap_or_default(),
                ]
            })
            .collect();
        assert_eq!(
            shown,
            [
                [
                    "NamespaceDeletionDiscoveryFailure=False",
                    "ResourcesDiscovered",
                    "All resources successfully discovered",
                ],
                [
                    "NamespaceDeletionGroupVersionParsingFailure=False",
                    "ParsedGroupVersions",
                    "All legacy kube types successfully parsed",
                ],
                [
                    "NamespaceDeletionContentFailure=False",
                    "ContentDeleted",
                    "All content successfully deleted, may be waiting on finalization",
                ],
                [
                    "NamespaceContentRemaining=True",
                    "SomeResourcesRemain",
                    "Some resources are remaining: configmaps. has 1 resource instances, \
                     pods. has 2 resource instances",
                ],
                [
                    "NamespaceFinalizersRemaining=True",
                    "SomeFinalizersRemain",
                    "Some content in the namespace has finalizers remaining: \
                     example.com/guard in 1 resource instances",
                ],
            ],
        );
    }

    #[test]
    fn an_unchanged_status_is_not_written_again() {
        let findings =
            Findings { remaining: [("pods.".to_owned(), 1)].into(), ..Findings::default() };
        let Step::Wait(Some(next)) = plan(&namespace(json!({})), &findings, at(NOW)) else {
            panic!("no status to write");
        };
        let later = at("2026-01-01T00:10:00Z");
        assert_eq!(plan(&next, &findings, later), Step::Wait(None));
    }

    #[test]
    fn a_namespace_with_a_failed_deletion_is_not_finalized() {
        let findings = Findings { failures: vec!["no".to_owned()], ..Findings::default() };
        assert!(matches!(plan(&namespace(json!({})), &findings, at(NOW)), Step::Wait(Some(_))));
    }
}
