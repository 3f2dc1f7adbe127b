//! What the deletion of a namespace has come to, and what its conditions say of it. Pure.

use std::collections::BTreeMap;

use coffer_api::condition::{ConditionStatus, ConditionType};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The finalizer in `spec.finalizers` that this controller removes.
pub(crate) const FINALIZER: &str = coffer_api::well_known::finalizer::KUBERNETES;

/// What one round of deleting found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// Objects that are still there, by qualified resource (`pods.`, `deployments.apps`).
    pub(crate) remaining: BTreeMap<String, usize>,
    /// Finalizers that hold them, with how many objects each holds.
    pub(crate) finalizers: BTreeMap<String, usize>,
    /// What went wrong while deleting, in words.
    pub(crate) failures: Vec<String>,
}

/// What is to be done next.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// The namespace is not being deleted, or others hold it: nothing.
    Nothing,
    /// Objects are left: write the status, if it says something new, and wait for them to go.
    Wait(Option<Box<Namespace>>),
    /// It is empty: let it go.
    Finalize(Box<Namespace>),
}

/// Whether the content of a namespace is to be deleted by this controller.
pub(crate) fn is_ours(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
        && finalizers(namespace).iter().any(|one| one == FINALIZER)
}

/// Decides, after a round of deleting.
pub(crate) fn plan(namespace: &Namespace, findings: &Findings, now: Timestamp) -> Step {
    if !is_ours(namespace) {
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
    /// The five conditions, in upstream's order and words.
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
    trouble: Option<(&str, String)>,
    fine: (&str, &str),
) -> NamespaceCondition {
    let (status, reason, message) = match trouble {
        Some((reason, message)) => (ConditionStatus::True, reason, message),
        None => (ConditionStatus::False, fine.0, fine.1.to_owned()),
    };
    NamespaceCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: None,
    }
}

/// Sets a condition; its time changes only when it says something new.
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
    fn an_empty_namespace_is_let_go_and_other_finalizers_stay() {
        let namespace = namespace(json!({ "spec": { "finalizers": ["kubernetes", "mine"] } }));
        let Step::Finalize(next) = plan(&namespace, &Findings::default(), at(NOW)) else {
            panic!("not finalized");
        };
        assert_eq!(finalizers(&next), ["mine"]);
    }

    #[test]
    fn a_namespace_that_is_not_being_deleted_is_left_alone() {
        let alive = namespace(json!({ "metadata": { "name": "myns" } }));
        assert_eq!(plan(&alive, &Findings::default(), at(NOW)), Step::Nothing);
        let held = namespace(json!({ "spec": { "finalizers": ["mine"] } }));
        assert_eq!(plan(&held, &Findings::default(), at(NOW)), Step::Nothing);
    }

    #[test]
    fn what_remains_is_said_in_upstreams_words() {
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
    fn a_status_that_says_nothing_new_is_not_written_again() {
        let findings =
            Findings { remaining: [("pods.".to_owned(), 1)].into(), ..Findings::default() };
        let Step::Wait(Some(next)) = plan(&namespace(json!({})), &findings, at(NOW)) else {
            panic!("no status to write");
        };
        let later = at("2026-01-01T00:10:00Z");
        assert_eq!(plan(&next, &findings, later), Step::Wait(None));
    }

    #[test]
    fn a_failure_keeps_the_namespace() {
        let findings = Findings { failures: vec!["no".to_owned()], ..Findings::default() };
        assert!(matches!(plan(&namespace(json!({})), &findings, at(NOW)), Step::Wait(Some(_))));
    }
}
