//! Pod rows. STATUS and RESTARTS are not fields of a pod but are read out of its containers'
//! states, in an order that users know by heart: init containers first, then the last container
//! that has something to say, then deletion above all.

use std::collections::HashSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::is_sidecar;
use crate::condition::{self, Condition as _, ConditionStatus, ConditionType};
use crate::phase::PodPhase;
use crate::table::{Column, RowCondition, age, name, or_none, since};

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Ready", "The aggregate readiness state of this pod for accepting traffic."),
    Column::string("Status", "The aggregate status of the containers in this pod."),
    Column::string(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last \
         container in this pod has restarted.",
    ),
    Column::AGE,
    Column::string("IP", IP).wide(),
    Column::string("Node", NODE_NAME).wide(),
    Column::string("Nominated Node", NOMINATED_NODE_NAME).wide(),
    Column::string("Readiness Gates", READINESS_GATES).wide(),
];

pub(super) fn cells(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let status = pod.status.as_ref().unwrap_or(&no_status);
    let summary = Summary::of(spec, status, pod.metadata.deletion_timestamp.is_some());
    let ip = status.pod_ips.iter().flatten().next().map_or("", |first| &first.ip);
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        summary.restarts.shown(now).into(),
        age(pod, now),
        or_none(ip).into(),
        or_none(spec.node_name.as_deref().unwrap_or_default()).into(),
        or_none(status.nominated_node_name.as_deref().unwrap_or_default()).into(),
        readiness_gates(spec, status).into(),
    ]
}

/// Set on rows of pods that have run to completion.
pub(super) fn condition(pod: &Pod) -> Option<RowCondition> {
    let phase = PodPhase::of(pod)?;
    let message = match phase {
        PodPhase::Succeeded => "The pod has completed successfully.",
        PodPhase::Failed => "The pod failed.",
        PodPhase::Pending | PodPhase::Running | PodPhase::Unknown => return None,
    };
    let (status, reason) = (ConditionStatus::True.as_str(), phase.as_str());
    Some(RowCondition { type_: "Completed", status, reason, message })
}

/// Restarts so far, and when the last one began to be needed.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i32,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &ContainerStatus) {
        self.count = self.count.saturating_add(container.restart_count);
        let ended = container
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref())
            .and_then(|terminated| terminated.finished_at.as_ref());
        self.last = self.last.max(ended.map(|Time(at)| *at));
    }

    fn shown(self, now: Timestamp) -> String {
        match self.last {
            Some(_) if self.count != 0 => format!("{} ({} ago)", self.count, since(self.last, now)),
            _ => self.count.to_string(),
        }
    }
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: Restarts,
}

impl Summary {
    fn of(spec: &PodSpec, status: &PodStatus, deleted: bool) -> Self {
        let sidecars: HashSet<&str> = spec
            .init_containers
            .iter()
            .flatten()
            .filter(|container| is_sidecar(container))
            .map(|container| container.name.as_str())
            .collect();
        let mut summary = Self {
            ready: 0,
            total: spec.containers.len() + sidecars.len(),
            reason: initial_reason(status),
            restarts: Restarts::default(),
        };
        let (init, sidecar_restarts) = summary.walk_init_containers(spec, status, &sidecars);
        if init == Init::Done
            || condition::is_true(status.conditions.iter().flatten(), ConditionType::Initialized)
        {
            summary.restarts = sidecar_restarts;
            summary.walk_containers(status);
        }
        let terminal =
            status.phase.as_deref().and_then(PodPhase::parse).is_some_and(PodPhase::is_terminal);
        if deleted && status.reason.as_deref() == Some("NodeLost") {
            summary.reason = "Unknown".to_owned();
        } else if deleted && !terminal {
            summary.reason = "Terminating".to_owned();
        }
        summary
    }

    /// Stops at the first init container that holds the others up. Also returns the restarts of
    /// sidecars alone, which are what still counts once initialization is over.
    fn walk_init_containers(
        &mut self,
        spec: &PodSpec,
        status: &PodStatus,
        sidecars: &HashSet<&str>,
    ) -> (Init, Restarts) {
        let mut of_sidecars = Restarts::default();
        for (at, container) in status.init_container_statuses.iter().flatten().enumerate() {
            self.restarts.add(container);
            let sidecar = sidecars.contains(container.name.as_str());
            if sidecar {
                of_sidecars.add(container);
            }
            let state = container.state.as_ref();
            let terminated = state.and_then(|state| state.terminated.as_ref());
            if terminated.is_some_and(|terminated| terminated.exit_code == 0) {
                continue;
            }
            if sidecar && container.started == Some(true) {
                self.ready += usize::from(container.ready);
                continue;
            }
            self.reason = match (terminated, state.and_then(waiting_reason)) {
                (Some(terminated), _) => format!("Init:{}", termination(terminated)),
                (None, Some(waiting)) if waiting != "PodInitializing" => format!("Init:{waiting}"),
                _ => {
                    let all = spec.init_containers.as_deref().map_or(0, <[_]>::len);
                    format!("Init:{at}/{all}")
                }
            };
            return (Init::Running, of_sidecars);
        }
        (Init::Done, of_sidecars)
    }

    /// From the last to the first, so that the first container with a reason wins.
    fn walk_containers(&mut self, status: &PodStatus) {
        let mut has_running = false;
        for container in status.container_statuses.iter().flatten().rev() {
            self.restarts.add(container);
            let Some(state) = &container.state else { continue };
            if let Some(waiting) = waiting_reason(state) {
                self.reason = waiting.to_owned();
            } else if let Some(terminated) = &state.terminated {
                self.reason = termination(terminated);
            } else if container.ready && state.running.is_some() {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && has_running {
            let ready =
                condition::is_true(status.conditions.iter().flatten(), ConditionType::Ready);
            self.reason = if ready { PodPhase::Running.as_str() } else { "NotReady" }.to_owned();
        }
    }
}

#[derive(PartialEq, Eq)]
enum Init {
    Running,
    Done,
}

fn initial_reason(status: &PodStatus) -> String {
    const GATED: &str = "SchedulingGated";
    let gated = status.conditions.iter().flatten().any(|condition| {
        condition.is(ConditionType::PodScheduled) && condition.reason.as_deref() == Some(GATED)
    });
    let said = status.reason.as_deref().filter(|reason| !reason.is_empty());
    match said {
        _ if gated => GATED.to_owned(),
        Some(reason) => reason.to_owned(),
        None => status.phase.clone().unwrap_or_default(),
    }
}

fn waiting_reason(state: &ContainerState) -> Option<&str> {
    state.waiting.as_ref()?.reason.as_deref().filter(|reason| !reason.is_empty())
}

fn termination(terminated: &ContainerStateTerminated) -> String {
    match (terminated.reason.as_deref(), terminated.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", terminated.exit_code),
    }
}

fn condition_is_true(status: &PodStatus, type_: &str) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == type_ && condition.holds())
}

fn readiness_gates(spec: &PodSpec, status: &PodStatus) -> String {
    let gates = spec.readiness_gates.as_deref().unwrap_or_default();
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = gates.iter().filter(|gate| condition_is_true(status, &gate.condition_type)).count();
    format!("{open}/{}", gates.len())
}

const IP: &str = "podIP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.";
const NODE_NAME: &str = "NodeName indicates in which node this pod is scheduled. If empty, this pod is a candidate for scheduling by the scheduler defined in schedulerName. Once this field is set, the kubelet for this node becomes responsible for the lifecycle of this pod. This field should not be used to express a desire for the pod to be scheduled on a specific node. https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#nodename";
const NOMINATED_NODE_NAME: &str = "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right away as preemption victims receive their graceful termination periods. This field does not guarantee that the pod will be scheduled on this node. Scheduler may decide to place the pod elsewhere if other nodes become available sooner. Scheduler may also decide to give the resources on this node to a higher priority pod that is created after preemption. As a result, this field may be different than PodSpec.nodeName when the pod is scheduled.";
const READINESS_GATES: &str = "If specified, all readiness gates will be evaluated for pod readiness. A pod is ready when all its containers are ready AND all conditions specified in the readiness gates have status equal to \"True\" More info: https://git.k8s.io/enhancements/keps/sig-network/580-pod-readiness-gates";
