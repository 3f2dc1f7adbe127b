//! PodDisruptionBudget: how many of the pods that a selector selects an eviction must leave.
//!
//! The disruption controller counts the pods and writes into the status how many may be evicted; the
//! `eviction` subresource of pods takes from that number. Both write the condition that is here.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
pub use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::policy::v1::{PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use serde_json::Value;

use super::info::{KindInfo, Subresource};
use super::kind::Kind;
use super::merge::{CONDITIONS, Rules};
use super::optional::list;
use super::roles::Grant;
use super::{meta, pod, shown};
use crate::condition::{ConditionStatus, ConditionType};
use crate::field::{Error, ErrorList, Path};
use crate::protobuf::message::Type::{Int, IntOrString as Share, Nested, Text, Time as Instant};
use crate::protobuf::message::{Message, given, list as items, map, nonzero};
use crate::protobuf::tables::meta::{CONDITION, LABEL_SELECTOR, OBJECT_META};
use crate::subresource::SubresourceName;
use crate::table::{self, Column};
use crate::well_known::api_group;
use crate::{names, share};

/// The reason of [`ConditionType::DisruptionAllowed`] where a pod may be evicted.
pub const SUFFICIENT_PODS: &str = "SufficientPods";
/// Its reason where none may.
pub const INSUFFICIENT_PODS: &str = "InsufficientPods";
/// Its reason where the pods could not be counted.
pub const SYNC_FAILED: &str = "SyncFailed";
/// The `unhealthyPodEvictionPolicy` that lets pods go that are not ready.
pub const ALWAYS_ALLOW: &str = "AlwaysAllow";

/// Bytes of a condition's reason.
const REASON_BYTES_MAX: usize = 1024;
/// Bytes of a condition's message.
const MESSAGE_BYTES_MAX: usize = 32 * 1024;

static MESSAGE: Message = Message(&[
    given(1, "metadata", Nested(&OBJECT_META)),
    given(2, "spec", Nested(&SPEC)),
    given(3, "status", Nested(&STATUS)),
]);

static SPEC: Message = Message(&[
    given(1, "minAvailable", Share),
    given(2, "selector", Nested(&LABEL_SELECTOR)),
    given(3, "maxUnavailable", Share),
    given(4, "unhealthyPodEvictionPolicy", Text),
]);

static STATUS: Message = Message(&[
    nonzero(1, "observedGeneration", Int),
    map(2, "disruptedPods", Instant),
    given(3, "disruptionsAllowed", Int),
    given(4, "currentHealthy", Int),
    given(5, "desiredHealthy", Int),
    given(6, "expectedPods", Int),
    items(7, "conditions", Nested(&CONDITION)),
]);

static INFO: KindInfo = KindInfo {
    short_names: &["pdb"],
    tracks_generation: true,
    unconditional_update: false,
    name_rule: names::path_segment_name,
    subresources: &[Subresource::status(api_group::POLICY, "PodDisruptionBudget")],
    rules: &Rules {
        lists: &[("policy.v1.PodDisruptionBudgetStatus", "conditions", CONDITIONS)],
        replaced: &[("policy.v1.PodDisruptionBudgetSpec", "selector")],
        omits_zero: &[
            ("meta.v1.Condition", &["observedGeneration"]),
            ("policy.v1.PodDisruptionBudgetStatus", &["observedGeneration"]),
        ],
        ..Rules::NONE
    },
    columns: &[
        Column::NAME,
        Column::string("Min Available", "The minimum number of pods that must be available."),
        Column::string("Max Unavailable", "The maximum number of pods that may be unavailable."),
        Column::integer("Allowed Disruptions", ALLOWED_COLUMN),
        Column::AGE,
    ],
    roles: &[Grant::view(&["", "/status"]), Grant::edit(&[""])],
    ..KindInfo::of::<PodDisruptionBudget>("poddisruptionbudget", &MESSAGE)
};

const ALLOWED_COLUMN: &str = "Calculated number of pods that may be disrupted at this time.";

impl Kind for PodDisruptionBudget {
    const INFO: &'static KindInfo = &INFO;

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    fn set_defaults(&mut self) {
        self.spec.get_or_insert_default();
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(PodDisruptionBudgetStatus::default());
        meta::first_generation(&mut self.metadata);
    }

    fn prepare_for_update(&mut self, old: &Self, sub: Option<SubresourceName>) {
        let (spec, status) = ((&mut self.spec, &old.spec), (&mut self.status, &old.status));
        let meta = (&mut self.metadata, &old.metadata);
        meta::separate_status_and_generation(sub, meta, spec, status);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        errors.extend(validate_spec(&self.spec.clone().unwrap_or_default()));
        errors
    }

    fn validate_update(&self, old: &Self, sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(match sub {
            Some(SubresourceName::Status) => {
                validate_status(&self.status.clone().unwrap_or_default())
            }
            _ => validate_spec(&self.spec.clone().unwrap_or_default()),
        });
        errors
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let allowed = self.status.as_ref().map_or(0, |status| status.disruptions_allowed);
        let cell = |share: Option<IntOrString>| match share {
            Some(IntOrString::Int(number)) => number.to_string(),
            Some(IntOrString::String(text)) => text,
            None => "N/A".to_owned(),
        };
        vec![
            table::name(self),
            cell(spec.min_available).into(),
            cell(spec.max_unavailable).into(),
            allowed.into(),
            table::age(self, now),
        ]
    }
}

/// Says by the condition whether the number of a status allows an eviction.
pub fn set_disruption_allowed(status: &mut PodDisruptionBudgetStatus, now: Time) {
    let allowed = status.disruptions_allowed > 0;
    let reason = if allowed { SUFFICIENT_PODS } else { INSUFFICIENT_PODS };
    set_condition(status, allowed, reason, "", now);
}

/// Says by the condition that the pods could not be counted, and why; no eviction is allowed.
pub fn set_sync_failed(status: &mut PodDisruptionBudgetStatus, why: &str, now: Time) {
    status.disruptions_allowed = 0;
    set_condition(status, false, SYNC_FAILED, why, now);
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    allowed: bool,
    reason: &str,
    message: &str,
    now: Time,
) {
    let new = Condition {
        type_: ConditionType::DisruptionAllowed.into(),
        status: ConditionStatus::from(allowed).into(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: status.observed_generation,
        last_transition_time: now,
    };
    let all = status.conditions.get_or_insert_default();
    match all.iter_mut().find(|condition| condition.type_ == new.type_) {
        Some(old) => {
            let since = (old.status == new.status).then(|| old.last_transition_time.clone());
            *old = Condition {
                last_transition_time: since.unwrap_or(new.last_transition_time),
                ..new
            };
        }
        None => all.push(new),
    }
}

const POLICIES: [&str; 2] = [ALWAYS_ALLOW, "IfHealthyBudget"];

fn validate_spec(spec: &PodDisruptionBudgetSpec) -> ErrorList {
    let path = Path::new("spec");
    let mut errors = ErrorList::new();
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.push(meta::invalid_json(&path, &shown_spec(spec), detail));
    }
    let shares = [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)];
    for (name, share) in shares {
        let path = path.child(name);
        if let Some(share) = share {
            errors.extend(share::validate(share, &path));
            errors.extend(share::validate_part(share, &path));
        }
    }
    if let Some(policy) = &spec.unhealthy_pod_eviction_policy
        && !POLICIES.contains(&policy.as_str())
    {
        let path = path.child("unhealthyPodEvictionPolicy");
        errors.push(Error::not_supported(&path, policy, &POLICIES));
    }
    if let Some(selector) = &spec.selector {
        errors.extend(pod::validate_selector(selector, &path.child("selector")));
    }
    errors
}

/// Upstream prints its internal type, whose fields have no JSON names.
fn shown_spec(spec: &PodDisruptionBudgetSpec) -> impl Serialize + '_ {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Shown<'a, S: Serialize> {
        min_available: &'a Option<IntOrString>,
        selector: Option<S>,
        max_unavailable: &'a Option<IntOrString>,
        unhealthy_pod_eviction_policy: &'a Option<String>,
    }
    Shown {
        min_available: &spec.min_available,
        selector: spec.selector.as_ref().map(shown::selector),
        max_unavailable: &spec.max_unavailable,
        unhealthy_pod_eviction_policy: &spec.unhealthy_pod_eviction_policy,
    }
}

fn validate_status(status: &PodDisruptionBudgetStatus) -> ErrorList {
    let path = Path::new("status");
    let mut errors = validate_conditions(list(&status.conditions), &path.child("conditions"));
    for (name, number) in [
        ("disruptionsAllowed", status.disruptions_allowed),
        ("currentHealthy", status.current_healthy),
        ("desiredHealthy", status.desired_healthy),
        ("expectedPods", status.expected_pods),
    ] {
        if number < 0 {
            let detail = "must be greater than or equal to 0";
            errors.push(Error::invalid(&path.child(name), number, detail));
        }
    }
    errors
}

fn validate_conditions(conditions: &[Condition], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (at, condition) in conditions.iter().enumerate() {
        let path = path.index(at);
        let Condition { type_, status, reason, message, observed_generation, .. } = condition;
        if conditions[..at].iter().any(|earlier| earlier.type_ == *type_) {
            errors.push(Error::duplicate(&path.child("type"), type_));
        }
        let wrong = names::qualified_name(type_);
        errors.extend(meta::invalid_each(&path.child("type"), type_, wrong));
        if ConditionStatus::parse(status).is_none() {
            let supported = &ConditionStatus::TEXTS;
            errors.push(Error::not_supported(&path.child("status"), status, supported));
        }
        if let Some(generation) = observed_generation.filter(|generation| *generation < 0) {
            let detail = "must be greater than or equal to zero";
            errors.push(Error::invalid(&path.child("observedGeneration"), generation, detail));
        }
        let path_of_reason = path.child("reason");
        if reason.is_empty() {
            errors.push(Error::required(&path_of_reason, "must be set"));
        } else {
            let wrong = names::condition_reason(reason);
            errors.extend(meta::invalid_each(&path_of_reason, reason, wrong));
        }
        for (path, text, max) in [
            (path_of_reason, reason, REASON_BYTES_MAX),
            (path.child("message"), message, MESSAGE_BYTES_MAX),
        ] {
            if text.len() > max {
                errors.push(Error::too_long(&path, max));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests;
