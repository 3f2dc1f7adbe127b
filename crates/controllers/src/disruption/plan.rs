//! How many of a budget's pods may be disrupted. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use coffer_api::condition::{self, Condition, ConditionType};
use coffer_api::kinds::pod_disruption_budget::{set_disruption_allowed, set_sync_failed};
use coffer_api::names;
use coffer_api::share::{Rounding, scaled};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::owner::controller_of;
use crate::pod::{Pod, is_ready};

/// How long an evicted pod is expected to be deleted: upstream's `DeletionTimeout`.
const DELETION_MAX: SignedDuration = SignedDuration::from_mins(2);

/// The requested number of pods of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    /// Uid of the object with the number: the Deployment, for its ReplicaSets.
    pub(crate) uid: String,
    /// The number.
    pub(crate) replicas: i32,
}

/// The plan for a budget.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// The status to write, if it has changed.
    pub(crate) status: Option<PodDisruptionBudgetStatus>,
    /// When the next evicted pod that was not deleted counts as healthy again.
    pub(crate) recheck_after: Option<Duration>,
    /// Pods that were evicted and have not been deleted in time.
    pub(crate) not_deleted: Vec<Arc<Pod>>,
    /// Whether there are pods without a controller, which a percentage cannot count.
    pub(crate) has_unmanaged: bool,
}

/// Plans for the pods that the budget's selector selects. `scale_of` finds the scale of a pod's controller,
/// `None` if the controller does not exist.
///
/// # Errors
/// The expected pods cannot be counted: see [`failed`].
pub(crate) fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale_of: impl Fn(&OwnerReference) -> Result<Option<Scale>, String>,
    now: Timestamp,
) -> Result<Plan, String> {
    let Wanted { expected, desired, has_unmanaged } = wanted(budget, pods, scale_of)?;
    let old = budget.status.clone().unwrap_or_default();
    let Evicted { pending, not_deleted, recheck_after } = evicted(&old, pods, now);
    let healthy = |pod: &&Arc<Pod>| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        pod.metadata.deletion_timestamp.is_none() && !pending.contains_key(name) && is_ready(pod)
    };
    let healthy = count(pods.iter().filter(healthy).count());
    // Without expected pods no eviction is allowed: pods may be created before the next count.
    let allowed = if expected > 0 { healthy.saturating_sub(desired).max(0) } else { 0 };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: healthy,
        desired_healthy: desired,
        expected_pods: expected,
        disruptions_allowed: allowed,
        disrupted_pods: (!pending.is_empty()).then_some(pending),
        observed_generation: budget.metadata.generation,
        conditions: old.conditions.clone(),
    };
    let allows = |status: &PodDisruptionBudgetStatus| {
        let conditions = status.conditions.iter().flatten();
        condition::find(conditions, ConditionType::DisruptionAllowed).map(Condition::holds)
    };
    if status != without_empty(old) || allows(&status) != Some(allowed > 0) {
        set_disruption_allowed(&mut status, seconds(now));
        return Ok(Plan { status: Some(status), recheck_after, not_deleted, has_unmanaged });
    }
    Ok(Plan { status: None, recheck_after, not_deleted, has_unmanaged })
}

/// The status of a budget whose pods cannot be counted, if it has changed. It allows no eviction.
pub(crate) fn failed(
    budget: &PodDisruptionBudget,
    why: &str,
    now: Timestamp,
) -> Option<PodDisruptionBudgetStatus> {
    let old = budget.status.clone().unwrap_or_default();
    let mut status = old.clone();
    set_sync_failed(&mut status, why, seconds(now));
    (status != old).then_some(status)
}

/// The number of expected pods, and how many of them must be healthy.
struct Wanted {
    expected: i32,
    desired: i32,
    has_unmanaged: bool,
}

fn wanted(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale_of: impl Fn(&OwnerReference) -> Result<Option<Scale>, String>,
) -> Result<Wanted, String> {
    let spec = budget.spec.clone().unwrap_or_default();
    match (spec.max_unavailable, spec.min_available) {
        (Some(most), _) => {
            let (expected, has_unmanaged) = scale(pods, scale_of)?;
            let desired = expected.saturating_sub(part(&most, expected)?).max(0);
            Ok(Wanted { expected, desired, has_unmanaged })
        }
        (None, Some(IntOrString::Int(desired))) => {
            Ok(Wanted { expected: count(pods.len()), desired, has_unmanaged: false })
        }
        (None, Some(least)) => {
            let (expected, has_unmanaged) = scale(pods, scale_of)?;
            let desired = part(&least, expected)?;
            Ok(Wanted { expected, desired, has_unmanaged })
        }
        (None, None) => Ok(Wanted { expected: 0, desired: 0, has_unmanaged: false }),
    }
}

/// A number of pods or a percentage, rounded up.
fn part(share: &IntOrString, of: i32) -> Result<i32, String> {
    if let IntOrString::String(text) = share
        && !names::percent(text).is_empty()
    {
        let why = "invalid value for IntOrString: invalid type: string is not a percentage";
        return Err(why.to_owned());
    }
    Ok(scaled(share, of, Rounding::Up))
}

/// The sum of the scales of all controllers of these pods, and whether there are pods without a controller.
fn scale(
    pods: &[Arc<Pod>],
    scale_of: impl Fn(&OwnerReference) -> Result<Option<Scale>, String>,
) -> Result<(i32, bool), String> {
    let mut by_owner = HashMap::new();
    let mut has_unmanaged = false;
    for pod in pods {
        let Some(owner) = controller_of(&pod.metadata) else {
            has_unmanaged = true;
            continue;
        };
        if by_owner.contains_key(owner.uid.as_str()) {
            continue;
        }
        let found = scale_of(owner)?.ok_or_else(|| {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            format!("found no controllers for pod {name:?}")
        })?;
        by_owner.insert(owner.uid.as_str(), found);
    }
    let scales: BTreeMap<String, i32> =
        by_owner.into_values().map(|scale| (scale.uid, scale.replicas)).collect();
    let sum = scales.values().fold(0_i32, |sum, replicas| sum.saturating_add(*replicas));
    Ok((sum, has_unmanaged))
}

/// The evicted pods that still exist.
struct Evicted {
    /// Still expected to be deleted, by name.
    pending: BTreeMap<String, Time>,
    not_deleted: Vec<Arc<Pod>>,
    recheck_after: Option<Duration>,
}

fn evicted(status: &PodDisruptionBudgetStatus, pods: &[Arc<Pod>], now: Timestamp) -> Evicted {
    let mut evicted =
        Evicted { pending: BTreeMap::new(), not_deleted: Vec::new(), recheck_after: None };
    let Some(disrupted) = &status.disrupted_pods else { return evicted };
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let Some(at) = disrupted.get(name) else { continue };
        let end = at.0.checked_add(DELETION_MAX).unwrap_or(Timestamp::MAX);
        match Duration::try_from(end.duration_since(now)) {
            Ok(left) if !left.is_zero() => {
                evicted.pending.insert(name.to_owned(), at.clone());
                let soonest = evicted.recheck_after.map_or(left, |soonest| soonest.min(left));
                evicted.recheck_after = Some(soonest);
            }
            _ => evicted.not_deleted.push(pod.clone()),
        }
    }
    evicted
}

/// Makes an empty map absent.
fn without_empty(mut status: PodDisruptionBudgetStatus) -> PodDisruptionBudgetStatus {
    status.disrupted_pods = status.disrupted_pods.filter(|pods| !pods.is_empty());
    status
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A time in whole seconds, as in objects.
fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).expect("the seconds of a valid time are valid"))
}

/// A selector as in upstream's events: as Go formats it.
pub(crate) fn selector_text(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels.map(|(key, value)| format!("{key}: {value},")).collect();
    let expressions = selector.match_expressions.iter().flatten().map(|one| {
        let values = one.values.clone().unwrap_or_default().join(" ");
        let (key, operator) = (&one.key, &one.operator);
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
    });
    let expressions: String = expressions.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().expect("a time")
    }

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({
            "metadata": { "namespace": "n", "name": "b", "generation": 3 },
            "spec": spec, "status": status,
        }))
        .expect("a budget")
    }

    /// A pod of the controller with this uid, or without a controller.
    fn pod(name: &str, owner: &str, ready: bool) -> Arc<Pod> {
        let owners = match owner {
            "" => json!([]),
            uid => json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": uid, "uid": uid,
                "controller": true }]),
        };
        let ready = if ready { "True" } else { "False" };
        let pod = json!({
            "metadata": { "namespace": "n", "name": name, "ownerReferences": owners },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn deleted(pod: &Arc<Pod>) -> Arc<Pod> {
        let mut pod = Pod::clone(pod);
        pod.metadata.deletion_timestamp = Some(Time(now()));
        Arc::new(pod)
    }

    /// `web-old` and `web-new` are ReplicaSets of one Deployment of four, `db` is one of two.
    fn scale_of(owner: &OwnerReference) -> Result<Option<Scale>, String> {
        let scale = |uid: &str, replicas| Ok(Some(Scale { uid: uid.to_owned(), replicas }));
        match owner.uid.as_str() {
            "web-old" | "web-new" => scale("web", 4),
            "db" => scale("db", 2),
            "deleted" => Ok(None),
            other => Err(format!("{other} does not implement the scale subresource")),
        }
    }

    fn counted(spec: Value, pods: &[Arc<Pod>]) -> [i32; 4] {
        let plan = plan(&budget(spec, json!({})), pods, scale_of, now()).expect("counted");
        let status = plan.status.expect("it is the first");
        assert_eq!(status.observed_generation, Some(3));
        let PodDisruptionBudgetStatus { expected_pods, desired_healthy, .. } = status;
        [expected_pods, desired_healthy, status.current_healthy, status.disruptions_allowed]
    }

    #[test]
    fn a_number_counts_pods_and_a_percentage_the_scale_of_their_controllers() {
        let web = [pod("a", "web-old", true), pod("b", "web-new", true), pod("c", "web-new", true)];
        let both = [web[0].clone(), pod("d", "db", true)];
        for (spec, pods, expected) in [
            (json!({ "minAvailable": 2 }), &web[..], [3, 2, 3, 1]),
            (json!({ "minAvailable": 5 }), &web, [3, 5, 3, 0]),
            (json!({ "minAvailable": "50%" }), &web, [4, 2, 3, 1]),
            (json!({ "minAvailable": "51%" }), &web, [4, 3, 3, 0]),
            (json!({ "minAvailable": "100%" }), &web, [4, 4, 3, 0]),
            (json!({ "maxUnavailable": 1 }), &web, [4, 3, 3, 0]),
            (json!({ "maxUnavailable": 2 }), &web, [4, 2, 3, 1]),
            (json!({ "maxUnavailable": "30%" }), &web, [4, 2, 3, 1]),
            (json!({ "maxUnavailable": 9 }), &web, [4, 0, 3, 3]),
            (json!({ "maxUnavailable": 5 }), &both, [6, 1, 2, 1]),
            // Without pods no eviction is allowed.
            (json!({ "minAvailable": 0 }), &[], [0, 0, 0, 0]),
            (json!({ "maxUnavailable": "100%" }), &[], [0, 0, 0, 0]),
            (json!({}), &web, [0, 0, 3, 0]),
        ] {
            assert_eq!(counted(spec.clone(), pods), expected, "{spec}");
        }
    }

    #[test]
    fn only_ready_pods_that_are_not_being_deleted_are_healthy() {
        let [a, b] = [pod("a", "db", true), pod("b", "db", true)];
        let spec = json!({ "minAvailable": 1 });
        let pods = [a.clone(), deleted(&b), pod("c", "db", false)];
        assert_eq!(counted(spec.clone(), &pods), [3, 1, 1, 0]);
        assert_eq!(counted(spec, &[a, b]), [2, 1, 2, 1]);
    }

    #[test]
    fn an_evicted_pod_that_is_not_deleted_in_time_counts_again() {
        let pods = [pod("a", "db", true), pod("b", "db", true), deleted(&pod("c", "db", true))];
        let status = json!({ "disruptedPods": {
            "a": "2026-01-01T00:08:00Z", "b": "2026-01-01T00:08:01Z",
            "c": "2026-01-01T00:09:59Z", "deleted": "2026-01-01T00:09:59Z" } });
        let budget = budget(json!({ "minAvailable": 0 }), status);
        let planned = plan(&budget, &pods, scale_of, now()).expect("counted");
        let status = planned.status.expect("it changes");
        let names: Vec<_> = status.disrupted_pods.iter().flatten().map(|(name, _)| name).collect();
        assert_eq!(names, ["b"]);
        assert_eq!(status.disruptions_allowed, 1);
        assert_eq!(planned.recheck_after, Some(Duration::from_secs(1)));
        assert_eq!(planned.not_deleted, [pods[0].clone()]);
        let later = now() + SignedDuration::from_secs(1);
        let planned = plan(&budget, &pods, scale_of, later).expect("counted");
        assert_eq!(planned.recheck_after, None, "no pod is pending");
    }

    #[test]
    fn an_unchanged_status_is_not_written() {
        let pods = [pod("a", "db", true), pod("b", "db", true)];
        let spec = json!({ "minAvailable": 1 });
        let mut known = budget(spec, json!({}));
        known.status = plan(&known, &pods, scale_of, now()).expect("counted").status;
        assert!(known.status.is_some());
        let again = plan(&known, &pods, scale_of, now()).expect("counted");
        assert_eq!(again, Plan::default());
        // An eviction took the one that was allowed, and its pod is still there.
        let status = known.status.as_mut().expect("it was written");
        status.disruptions_allowed = 0;
        set_disruption_allowed(status, Time(now()));
        status.disrupted_pods = Some([("a".to_owned(), Time(now()))].into());
        let planned = plan(&known, &pods, scale_of, now()).expect("counted");
        let status = planned.status.expect("one is healthy now");
        assert_eq!((status.current_healthy, status.disruptions_allowed), (1, 0));
        assert_eq!(planned.recheck_after, Some(Duration::from_secs(120)));
        let mut newer = known.clone();
        newer.status = Some(status);
        newer.metadata.generation = Some(4);
        let planned = plan(&newer, &pods, scale_of, now()).expect("counted");
        assert_eq!(planned.status.expect("it changes").observed_generation, Some(4));
    }

    #[test]
    fn pods_without_a_controller_do_not_count_and_an_unknown_controller_fails() {
        let bare = [pod("a", "", true), pod("b", "db", true)];
        let percent = budget(json!({ "maxUnavailable": 1 }), json!({}));
        let planned = plan(&percent, &bare, scale_of, now()).expect("counted");
        assert!(planned.has_unmanaged);
        assert_eq!(planned.status.expect("new").expected_pods, 2);
        let number = budget(json!({ "minAvailable": 1 }), json!({}));
        assert!(!plan(&number, &bare, scale_of, now()).expect("counted").has_unmanaged);
        for (owner, why) in [
            ("deleted", "found no controllers for pod \"a\""),
            ("odd", "odd does not implement the scale subresource"),
        ] {
            let pods = [pod("a", owner, true)];
            assert_eq!(plan(&percent, &pods, scale_of, now()), Err(why.to_owned()));
        }
        let malformed = budget(json!({ "minAvailable": "half" }), json!({}));
        assert!(plan(&malformed, &bare, scale_of, now()).is_err(), "it must not count as zero");
    }

    #[test]
    fn a_failed_count_allows_no_eviction_and_is_written_once() {
        let mut known = budget(json!({}), json!({ "disruptionsAllowed": 3, "currentHealthy": 5 }));
        let status = failed(&known, "why", now()).expect("it changes");
        assert_eq!((status.disruptions_allowed, status.current_healthy), (0, 5));
        let condition = &status.conditions.as_ref().expect("one")[0];
        let said = (&*condition.status, &*condition.reason, &*condition.message);
        assert_eq!(said, ("False", "SyncFailed", "why"));
        known.status = Some(status);
        assert_eq!(failed(&known, "why", now()), None);
    }

    #[test]
    fn a_selector_is_formatted_as_go_formats_it() {
        let selector = serde_json::from_value(json!({ "matchLabels": { "a": "b", "c": "d" },
            "matchExpressions": [{ "key": "e", "operator": "In", "values": ["f", "g"] }] }));
        assert_eq!(
            selector_text(&selector.expect("a selector")),
            "&LabelSelector{MatchLabels:map[string]string{a: b,c: d,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:e,Operator:In,Values:[f g],},},}"
        );
    }
}
