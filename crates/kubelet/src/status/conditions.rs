//! The conditions that a kubelet writes. Pure.

use coffer_api::condition::{self, Condition as _, ConditionStatus, ConditionType};
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition};

use super::{Phase, SecretsFinding, View, is_initialized, time};
use crate::pod;

/// A condition before it has its times.
struct Finding {
    type_: ConditionType,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Finding {
    fn holds(type_: ConditionType) -> Self {
        Self { type_, holds: true, reason: None, message: None }
    }

    fn fails(type_: ConditionType, reason: &'static str, message: String) -> Self {
        let message = (!message.is_empty()).then_some(message);
        Self { type_, holds: false, reason: Some(reason), message }
    }
}

pub(super) fn conditions(
    view: &View<'_>,
    phase: Phase,
    init_statuses: &[ContainerStatus],
    statuses: &[ContainerStatus],
) -> Vec<PodCondition> {
    let containers = containers_ready(ConditionType::ContainersReady, phase, statuses);
    let ready = match readiness_gates(view) {
        Some(message) if containers.holds => {
            Finding::fails(ConditionType::Ready, "ReadinessGatesNotReady", message)
        }
        _ => containers_ready(ConditionType::Ready, phase, statuses),
    };
    let usual = [
        ready_to_start(view),
        initialized(view, phase, init_statuses),
        ready,
        containers,
        Finding::holds(ConditionType::PodScheduled),
    ];
    let findings = usual.into_iter().chain(view.secrets.map(secrets_current));
    findings.map(|finding| timed(view, finding)).collect()
}

/// A condition of ours: the guide plans that pods report which secrets they use.
fn secrets_current(secrets: &SecretsFinding) -> Finding {
    const TYPE: ConditionType = ConditionType::SecretsCurrent;
    if secrets.stale.is_empty() {
        return Finding { reason: Some("SecretsCurrent"), ..Finding::holds(TYPE) };
    }
    Finding::fails(TYPE, "SecretsChanged", secrets.stale.clone())
}

/// Whether the pod has a sandbox with a network.
fn ready_to_start(view: &View<'_>) -> Finding {
    const TYPE: ConditionType = ConditionType::PodReadyToStartContainers;
    match view.observed.sandbox() {
        Some(sandbox) if !sandbox.ips.is_empty() || pod::uses_host_network(pod::spec(view.pod)) => {
            Finding::holds(TYPE)
        }
        _ => Finding { type_: TYPE, holds: false, reason: None, message: None },
    }
}

fn initialized(view: &View<'_>, phase: Phase, statuses: &[ContainerStatus]) -> Finding {
    const TYPE: ConditionType = ConditionType::Initialized;
    if phase == Phase::Succeeded {
        return Finding { reason: Some("PodCompleted"), ..Finding::holds(TYPE) };
    }
    if is_initialized(pod::spec(view.pod), view.observed) {
        return Finding::holds(TYPE);
    }
    let incomplete: Vec<_> =
        statuses.iter().filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Finding::fails(TYPE, "ContainersNotInitialized", message)
}

fn containers_ready(type_: ConditionType, phase: Phase, statuses: &[ContainerStatus]) -> Finding {
    match phase {
        Phase::Succeeded => return Finding::fails(type_, "PodCompleted", String::new()),
        Phase::Failed => return Finding::fails(type_, "PodFailed", String::new()),
        Phase::Pending | Phase::Running => {}
    }
    let unready: Vec<_> =
        statuses.iter().filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    if unready.is_empty() {
        return Finding::holds(type_);
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Finding::fails(type_, "ContainersNotReady", message)
}

/// What is missing of the conditions that the pod wants others to set.
fn readiness_gates(view: &View<'_>) -> Option<String> {
    let gates = pod::spec(view.pod).readiness_gates.as_deref().unwrap_or_default();
    let known = view.pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    let missing: Vec<_> = gates
        .iter()
        .filter_map(|gate| {
            let name = &gate.condition_type;
            let found = known.unwrap_or_default().iter().find(|known| known.type_ == *name);
            match found {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {name:?} does not exist."
                )),
                Some(found) if !found.holds() => Some(format!(
                    "the status of pod readiness gate {name:?} is not \"True\", but {}",
                    found.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    match missing.len() {
        0 => None,
        1 => missing.into_iter().next(),
        _ => Some(format!("[{}]", missing.join(", "))),
    }
}

/// Gives a condition its times: the transition is now only if the status changed.
fn timed(view: &View<'_>, finding: Finding) -> PodCondition {
    let status = ConditionStatus::from(finding.holds);
    let known = view.known.conditions.as_deref().unwrap_or_default();
    let known = condition::find(known, finding.type_);
    let unchanged = known.filter(|known| known.status == status.as_str());
    PodCondition {
        type_: finding.type_.into(),
        status: status.into(),
        reason: finding.reason.map(str::to_owned),
        message: finding.message,
        last_transition_time: unchanged
            .and_then(|known| known.last_transition_time.clone())
            .or_else(|| time(view.now.as_nanosecond())),
        last_probe_time: None,
        observed_generation: view.pod.metadata.generation,
    }
}
