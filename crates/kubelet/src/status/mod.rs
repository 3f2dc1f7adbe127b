//! A pod's status from what the runtime has and what the worker waits for. Pure; times come in.
//!
//! Phase, conditions, reasons and messages follow upstream's kubelet. Conditions of other
//! writers are left alone: they are not part of what is computed here.

mod conditions;
mod containers;
pub(crate) mod mirror;
mod phase;
mod recall;
pub(crate) mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

pub(crate) use self::phase::{Phase, initialized, is_initialized};
pub(crate) use self::recall::recall;
use crate::pod;
use crate::runtime::Observed;

/// Why a container does not run just now: `CrashLoopBackOff` and its kin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Everything a status is computed from.
pub(crate) struct View<'a> {
    pub(crate) pod: &'a Pod,
    /// What was reported last: the source of times and of what the runtime has forgotten.
    pub(crate) known: &'a PodStatus,
    pub(crate) observed: &'a Observed,
    /// By container name.
    pub(crate) waiting: &'a BTreeMap<String, Waiting>,
    /// What containers left behind as their termination message, by container id.
    pub(crate) messages: &'a BTreeMap<String, String>,
    /// The readiness and startup of containers with probes; those without are not in it.
    pub(crate) probes: &'a BTreeMap<String, Probed>,
    /// Why the pod has failed as a whole, whatever its containers say.
    pub(crate) failure: Option<&'a Failure>,
    /// Nothing for a pod without secrets, or before they are mounted.
    pub(crate) secrets: Option<&'a SecretsFinding>,
    /// Whether the containers are being ended for good.
    pub(crate) is_ending: bool,
    pub(crate) host_ip: IpAddr,
    /// What container ids begin with: `containerd`.
    pub(crate) runtime_name: &'a str,
    pub(crate) now: Timestamp,
}

/// Why a pod as a whole has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: &'static str,
    pub(crate) message: &'static str,
}

/// Whether the pod's secrets are those that the API server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretsFinding {
    /// Which are not, and how; empty if all are.
    pub(crate) stale: String,
}

/// What probes found out about a running container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Probed {
    pub(crate) ready: bool,
    pub(crate) started: bool,
}

/// The part of the status that this kubelet owns.
pub(crate) fn compute(view: &View<'_>) -> PodStatus {
    let spec = pod::spec(view.pod);
    let known = view.known;
    let init_statuses = containers::statuses(view, pod::init_containers(spec), true);
    let statuses = containers::statuses(view, &spec.containers, false);
    let phase = phase::phase(view, &init_statuses, &statuses);
    let (pod_ip, pod_ips) = pod_ips(view);
    let mut status = PodStatus {
        phase: Some(phase.as_str().to_owned()),
        host_ip: Some(view.host_ip.to_string()),
        host_ips: Some(vec![HostIP { ip: view.host_ip.to_string() }]),
        pod_ip,
        pod_ips,
        start_time: known.start_time.clone().or_else(|| time(view.now.as_nanosecond())),
        // The API server set qosClass when it admitted the pod, and refuses another one.
        qos_class: None,
        observed_generation: view.pod.metadata.generation,
        reason: view.failure.map(|it| it.reason.to_owned()).or_else(|| known.reason.clone()),
        message: view.failure.map(|it| it.message.to_owned()).or_else(|| known.message.clone()),
        ..Default::default()
    };
    status.conditions = Some(conditions::conditions(view, phase, &init_statuses, &statuses));
    status.init_container_statuses = (!init_statuses.is_empty()).then_some(init_statuses);
    status.container_statuses = Some(statuses);
    status
}

/// A pod's addresses; they stay in the status when the sandbox no longer exists.
fn pod_ips(view: &View<'_>) -> (Option<String>, Option<Vec<PodIP>>) {
    let spec = pod::spec(view.pod);
    let ips: Vec<String> = match view.observed.sandboxes.first() {
        Some(_) if pod::uses_host_network(spec) => vec![view.host_ip.to_string()],
        Some(sandbox) if !sandbox.ips.is_empty() => sandbox.ips.clone(),
        _ => return (view.known.pod_ip.clone(), view.known.pod_ips.clone()),
    };
    let first = ips.first().cloned();
    (first, Some(ips.into_iter().map(|ip| PodIP { ip }).collect()))
}

/// A moment in the runtime's nanoseconds; zero means never.
fn time(nanoseconds: impl Into<i128>) -> Option<Time> {
    let nanoseconds = nanoseconds.into();
    let moment = Timestamp::from_nanosecond(nanoseconds).ok().filter(|_| nanoseconds > 0)?;
    // The API keeps whole seconds.
    Timestamp::from_second(moment.as_second()).ok().map(Time)
}
