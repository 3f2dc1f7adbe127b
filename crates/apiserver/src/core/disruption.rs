//! Disruption budgets: whether one of them selects a pod that is evicted, and whether it allows the eviction.
//!
//! The disruption controller counts the pods and writes how many may be evicted. Taking one is a compare-and-swap
//! of the budget's status, so that two evictions cannot both take the last one. The rules and the messages
//! are upstream's (`pkg/registry/core/pod/storage/eviction.go`).

use coffer_api::condition::{Condition as _, ConditionStatus, ConditionType, is_true};
use coffer_api::kinds::pod::is_terminal;
use coffer_api::kinds::pod_disruption_budget::{SYNC_FAILED, set_disruption_allowed};
use coffer_api::phase::PodPhase;
use coffer_api::reason::Reason;
use coffer_api::status::{Failure, GroupResource};
use coffer_api::subresource::SubresourceName;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{StatusCause, StatusDetails, Time};

use super::Core;
use super::budgets::Budget;
use crate::clock::now;

const GROUP: &str = coffer_api::well_known::api_group::POLICY;
/// Evictions that the disruption controller has not seen yet, of one budget.
const DISRUPTED_PODS_MAX: usize = 2000;
/// When a client should come back while a budget has not been counted.
const RETRY_AFTER_S: i32 = 10;

/// Why a pod may be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EvictionAllowed {
    /// No budget selects it.
    NoBudget,
    /// A budget selects it and has allowed this disruption.
    ByBudget,
    /// It is not ready, and the budget of this name allows evictions of such pods: it must not change until then.
    Unready(String),
}

/// Whether a pod's eviction disrupts nothing, so that no budget is asked: it has not started, has ended, or
/// is being deleted.
pub(crate) fn ignores_budgets(pod: &Pod) -> bool {
    is_terminating(pod) || PodPhase::of(pod) == Some(PodPhase::Pending)
}

/// Whether a pod ignores budgets and cannot become one that does not.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    is_terminal(pod) || pod.metadata.deletion_timestamp.is_some()
}

/// 429 for an eviction that has to wait until a budget has been counted.
pub(crate) fn not_counted(budget: &str) -> Failure {
    let why = format!("The disruption budget {budget} is still being processed by the server.");
    refused(why, Some(RETRY_AFTER_S))
}

impl Core {
    /// Asks the budgets of a pod that does not ignore them, and takes a disruption of the one that guards
    /// it; a dry run takes none.
    ///
    /// # Errors
    /// 429 where the budget allows none now, 403 for a budget with a status that cannot be, 500 where
    /// more than one guards the pod, 504 where others were faster each time.
    pub(crate) async fn take_disruption(
        &self,
        pod: &Pod,
        dry_run: bool,
    ) -> Result<EvictionAllowed, Failure> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let resource = self.budgets.resource();
        self.registry.settle().await?;
        let no_labels = Default::default();
        let labels = pod.metadata.labels.as_ref().unwrap_or(&no_labels);
        let mut guards = Vec::new();
        for (stored, budget) in self.budgets.of(namespace) {
            let Some(budget) = budget else {
                let why = format!("disruption budget {} cannot be read", stored.name);
                return Err(Failure::internal(why));
            };
            if budget.selects(labels) {
                guards.push((stored, budget));
            }
        }
        let (stored, budget) = match guards.as_slice() {
            [] => return Ok(EvictionAllowed::NoBudget),
            [one] => one,
            _ => {
                let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Failure::plain(Reason::Unknown, why));
            }
        };
        let name = &*stored.name;
        if allows_unready(budget, pod) {
            return Ok(EvictionAllowed::Unready(name.to_owned()));
        }
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        let target = (namespace, name);
        let taken = self.try_update_own(
            resource,
            target,
            Some(SubresourceName::Status),
            dry_run,
            |object| {
                let budget = object.of_kind_mut::<PodDisruptionBudget>();
                take(
                    budget.ok_or_else(|| Failure::internal("not a disruption budget"))?,
                    pod,
                    now(),
                )
            },
        );
        match taken.await {
            Ok(()) => Ok(EvictionAllowed::ByBudget),
            Err(failure) if failure.reason == Reason::Conflict => Err(conflicts(name)),
            Err(failure) => Err(failure),
        }
    }

    /// How many bytes of budgets an eviction of the pod of this name is about, or, if they are more than
    /// `enough`, so many at least.
    pub(crate) fn bytes_to_evict(&self, namespace: &str, name: &str, enough: usize) -> usize {
        let pods = self.resources().of::<Pod>();
        let pod = pods.shard().get(&pods.key(namespace, name));
        pod.map_or(0, |pod| self.budgets.bytes_to_ask(namespace, &pod.labels, enough))
    }
}

/// Whether a pod that is not ready may be evicted without taking a disruption: always by the budget's policy,
/// or because enough others are ready.
fn allows_unready(budget: &Budget, pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    if is_true(conditions, ConditionType::Ready) {
        return false;
    }
    let (current, desired) = (budget.current_healthy, budget.desired_healthy);
    budget.always_allows_unready || (current >= desired && desired > 0)
}

/// Takes a disruption for a pod of this name.
fn take(budget: &mut PodDisruptionBudget, pod: &str, now: Time) -> Result<(), Failure> {
    let name = budget.metadata.name.clone().unwrap_or_default();
    let generation = budget.metadata.generation.unwrap_or_default();
    let status = budget.status.get_or_insert_default();
    if status.observed_generation.unwrap_or_default() < generation {
        return Err(not_counted(&name));
    }
    let allowed = status.disruptions_allowed;
    let forbidden = |why| {
        let resource = GroupResource { group: GROUP, resource: "poddisruptionbudget" };
        Err(Failure::forbidden(resource, &name, why))
    };
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if status.disrupted_pods.as_ref().is_some_and(|pods| pods.len() > DISRUPTED_PODS_MAX) {
        return forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        );
    }
    if allowed == 0 {
        return Err(refused(denial_cause(&name, status), None));
    }
    status.disrupted_pods.get_or_insert_default().insert(pod.to_owned(), now.clone());
    status.disruptions_allowed -= 1;
    if allowed == 1 {
        set_disruption_allowed(status, now);
    }
    Ok(())
}

/// Why a budget allows no disruption. A count that failed is not to be trusted, so that comes first.
fn denial_cause(name: &str, status: &PodDisruptionBudgetStatus) -> String {
    let conditions = status.conditions.iter().flatten();
    let denied = conditions
        .filter(|condition| condition.is(ConditionType::DisruptionAllowed))
        .find(|condition| {
            condition.state() == ConditionStatus::False && !condition.message.is_empty()
        });
    let (current, desired) = (status.current_healthy, status.desired_healthy);
    match denied {
        Some(denied) if denied.reason == SYNC_FAILED => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
            denied.message
        ),
        _ if current <= desired => format!(
            "The disruption budget {name} needs {desired} healthy pods and has {current} currently"
        ),
        Some(denied) => format!(
            "The disruption budget {name} does not allow evicting pods currently ({}): {}",
            denied.reason, denied.message
        ),
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

/// 429 with the cause by which clients tell a budget from a server that is busy.
fn refused(why: String, retry_after_s: Option<i32>) -> Failure {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let cause = StatusCause {
        reason: Some("DisruptionBudget".to_owned()),
        message: Some(why),
        field: None,
    };
    Failure {
        details: Some(Box::new(StatusDetails {
            causes: Some(vec![cause]),
            retry_after_seconds: retry_after_s,
            ..Default::default()
        })),
        ..Failure::plain(Reason::TooManyRequests, message)
    }
}

/// 504 where others changed the budget each time.
fn conflicts(name: &str) -> Failure {
    let why = format!("Timeout: couldn't update PodDisruptionBudget {name:?} due to conflicts");
    Failure {
        details: Some(Box::new(StatusDetails {
            retry_after_seconds: Some(RETRY_AFTER_S),
            ..Default::default()
        })),
        ..Failure::plain(Reason::Timeout, why)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({
            "metadata": { "name": "b", "namespace": "n", "generation": 2 },
            "spec": spec, "status": status,
        }))
        .expect("a budget")
    }

    fn pod(ready: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "n", "labels": { "app": "web" } },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
        }))
        .expect("a pod")
    }

    fn at() -> Time {
        Time("2026-01-01T00:00:00Z".parse().expect("a time"))
    }

    #[test]
    fn a_budget_without_a_selector_selects_no_pod() {
        for (selector, guards) in [
            (json!({ "matchLabels": { "app": "web" } }), true),
            (json!({ "matchLabels": { "app": "db" } }), false),
            (json!({}), true),
            (Value::Null, false),
        ] {
            let budget = Budget::of(budget(json!({ "selector": selector }), json!({})));
            let labels = pod("True").metadata.labels.expect("it has one");
            assert_eq!(budget.expect("readable").selects(&labels), guards, "{selector}");
        }
        let unreadable = json!({ "matchExpressions": [{ "key": "app", "operator": "Odd" }] });
        assert!(Budget::of(budget(json!({ "selector": unreadable }), json!({}))).is_none());
    }

    #[test]
    fn an_unready_pod_is_evicted_by_policy_or_while_enough_are_ready() {
        let healthy = |current: i32, desired: i32| json!({ "currentHealthy": current, "desiredHealthy": desired });
        for (ready, policy, status, goes) in [
            ("False", Value::Null, healthy(2, 2), true),
            ("False", Value::Null, healthy(1, 2), false),
            ("False", Value::Null, healthy(0, 0), false),
            ("False", json!("IfHealthyBudget"), healthy(1, 2), false),
            ("False", json!("AlwaysAllow"), healthy(1, 2), true),
            ("Unknown", json!("AlwaysAllow"), healthy(1, 2), true),
            // A policy of a later version lets nothing go that this one does not know.
            ("False", json!("Sometimes"), healthy(1, 2), false),
            ("True", json!("AlwaysAllow"), healthy(3, 2), false),
        ] {
            let budget = budget(json!({ "unhealthyPodEvictionPolicy": policy }), status.clone());
            let budget = Budget::of(budget).expect("readable");
            assert_eq!(allows_unready(&budget, &pod(ready)), goes, "{ready} {policy} {status}");
        }
    }

    #[test]
    fn pods_that_have_not_started_or_end_ignore_budgets() {
        let in_phase = |phase: &str| -> Pod {
            let mut pod = pod("True");
            pod.status.as_mut().expect("it has one").phase = Some(phase.to_owned());
            pod
        };
        for (phase, ignores, going) in [
            ("Running", false, false),
            ("Unknown", false, false),
            ("Pending", true, false),
            ("Succeeded", true, true),
            ("Failed", true, true),
        ] {
            let pod = in_phase(phase);
            assert_eq!((ignores_budgets(&pod), is_terminating(&pod)), (ignores, going), "{phase}");
        }
        let mut deleted = pod("True");
        deleted.metadata.deletion_timestamp = Some(at());
        assert!(ignores_budgets(&deleted) && is_terminating(&deleted));
    }

    #[test]
    fn a_disruption_is_taken_with_the_condition_of_the_last_one() {
        let mut budget =
            budget(json!({}), json!({ "observedGeneration": 2, "disruptionsAllowed": 2 }));
        take(&mut budget, "p1", at()).expect("allowed");
        let status = budget.status.clone().expect("a status");
        assert_eq!(status.disruptions_allowed, 1);
        assert_eq!(status.disrupted_pods, Some([("p1".to_owned(), at())].into()));
        assert_eq!(status.conditions, None);
        take(&mut budget, "p2", at()).expect("allowed");
        let status = budget.status.clone().expect("a status");
        assert_eq!(status.disruptions_allowed, 0);
        assert_eq!(status.conditions.expect("one")[0].reason, "InsufficientPods");
        assert_eq!(take(&mut budget, "p3", at()).unwrap_err().code, 429);
        assert_eq!(budget.status.expect("a status").disrupted_pods.expect("two").len(), 2);
    }

    #[test]
    fn a_refusal_has_a_cause_and_retry_after() {
        let many: std::collections::BTreeMap<String, Time> =
            (0..=2000).map(|at_| (format!("p{at_}"), at())).collect();
        let denied = |reason: &str, message: &str| {
            json!([{ "type": "DisruptionAllowed", "status": "False", "reason": reason,
                "message": message, "lastTransitionTime": at() }])
        };
        for (status, code, retry_after, why) in [
            (
                json!({ "observedGeneration": 1, "disruptionsAllowed": 5 }),
                429,
                Some(10),
                "The disruption budget b is still being processed by the server.",
            ),
            (
                json!({ "observedGeneration": 2, "currentHealthy": 2, "desiredHealthy": 3 }),
                429,
                None,
                "The disruption budget b needs 3 healthy pods and has 2 currently",
            ),
            (
                json!({ "observedGeneration": 2, "currentHealthy": 4, "desiredHealthy": 3 }),
                429,
                None,
                "The disruption budget b does not allow evicting pods currently",
            ),
            (
                json!({ "observedGeneration": 2, "conditions": denied("SyncFailed", "broken") }),
                429,
                None,
                "The disruption budget b does not allow evicting pods currently because it failed sync: broken",
            ),
            (
                json!({ "observedGeneration": 2, "currentHealthy": 4, "desiredHealthy": 3,
                    "conditions": denied("Other", "broken") }),
                429,
                None,
                "The disruption budget b does not allow evicting pods currently (Other): broken",
            ),
            (
                json!({ "observedGeneration": 2, "disruptionsAllowed": -1 }),
                403,
                None,
                "poddisruptionbudget.policy \"b\" is forbidden: pdb disruptions allowed is negative",
            ),
            (
                json!({ "observedGeneration": 2, "disruptionsAllowed": 1, "disruptedPods": many }),
                403,
                None,
                "poddisruptionbudget.policy \"b\" is forbidden: DisruptedPods map too big - too many evictions not confirmed by PDB controller",
            ),
        ] {
            let failure = take(&mut budget(json!({}), status), "p", at()).unwrap_err();
            let details = failure.details.as_deref().expect("all have some");
            let cause = details.causes.iter().flatten().next();
            let said = match cause {
                Some(cause) => {
                    assert_eq!(cause.reason.as_deref(), Some("DisruptionBudget"));
                    assert!(failure.message.starts_with("Cannot evict pod as it would violate"));
                    cause.message.clone().unwrap_or_default()
                }
                None => failure.message.clone(),
            };
            assert_eq!(
                (failure.code, details.retry_after_seconds, &*said),
                (code, retry_after, why)
            );
        }
    }
}
