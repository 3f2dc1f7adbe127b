//! The phase of a pod, from its containers. Pure.

use coffer_api::phase::PodPhase;
use k8s_openapi::api::core::v1::{ContainerStatus, PodSpec, PodStatus};

use super::View;
use crate::pod::{self, RestartPolicy};
use crate::runtime::{Container, ContainerState, Observed};

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    pub(crate) fn as_str(self) -> &'static str {
        let phase = match self {
            Self::Pending => PodPhase::Pending,
            Self::Running => PodPhase::Running,
            Self::Succeeded => PodPhase::Succeeded,
            Self::Failed => PodPhase::Failed,
        };
        phase.as_str()
    }

    /// The phases that a pod does not leave.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    /// A final phase that was reported already.
    pub(crate) fn reported(known: &PodStatus) -> Option<Self> {
        match PodPhase::parse(known.phase.as_deref()?)? {
            PodPhase::Succeeded => Some(Self::Succeeded),
            PodPhase::Failed => Some(Self::Failed),
            PodPhase::Pending | PodPhase::Running | PodPhase::Unknown => None,
        }
    }
}

/// Whether the init containers have done their work.
///
/// Once a main container was started they had; they may have been removed since.
pub(crate) fn is_initialized(spec: &PodSpec, observed: &Observed) -> bool {
    let latest = |name: &str| observed.latest(name);
    initialized(spec, latest)
}

/// The same, for what `latest` shows of the containers.
pub(crate) fn initialized<'o>(
    spec: &PodSpec,
    latest: impl Fn(&str) -> Option<&'o Container>,
) -> bool {
    spec.containers.iter().any(|main| latest(&main.name).is_some())
        || pod::init_containers(spec).iter().all(|init| {
            latest(&init.name).is_some_and(|container| {
                if pod::is_sidecar(init) {
                    container.is_running()
                } else {
                    container.state == ContainerState::Exited && container.exit_code == 0
                }
            })
        })
}

#[derive(Default)]
struct Counts {
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
}

pub(super) fn phase(
    view: &View<'_>,
    init_statuses: &[ContainerStatus],
    statuses: &[ContainerStatus],
) -> Phase {
    if let Some(reported) = Phase::reported(view.known) {
        return reported;
    }
    if view.failure.is_some() {
        return Phase::Failed;
    }
    let policy = RestartPolicy::of(pod::spec(view.pod));
    if !is_initialized(pod::spec(view.pod), view.observed) {
        let failed = pod::init_containers(pod::spec(view.pod)).iter().zip(init_statuses).any(
            |(spec, status)| {
                let ended = status.state.as_ref().and_then(|state| state.terminated.as_ref());
                !pod::is_sidecar(spec) && ended.is_some_and(|ended| ended.exit_code != 0)
            },
        );
        let is_over = failed && (policy == RestartPolicy::Never || view.is_ending);
        return if is_over { Phase::Failed } else { Phase::Pending };
    }
    let counts = count(statuses);
    if counts.waiting > 0 {
        return if view.is_ending && counts.running == 0 && counts.stopped > 0 {
            Phase::Failed
        } else {
            Phase::Pending
        };
    }
    if counts.running > 0 {
        return Phase::Running;
    }
    if counts.stopped == 0 {
        return Phase::Pending;
    }
    let all_succeeded = counts.stopped == counts.succeeded;
    match policy {
        _ if view.is_ending && all_succeeded => Phase::Succeeded,
        _ if view.is_ending => Phase::Failed,
        RestartPolicy::Always => Phase::Running,
        _ if all_succeeded => Phase::Succeeded,
        RestartPolicy::Never => Phase::Failed,
        RestartPolicy::OnFailure => Phase::Running,
    }
}

fn count(statuses: &[ContainerStatus]) -> Counts {
    let mut counts = Counts::default();
    for status in statuses {
        let state = status.state.as_ref();
        let ended = state.and_then(|state| state.terminated.as_ref());
        let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        if state.is_some_and(|state| state.running.is_some()) {
            counts.running += 1;
        } else if let Some(ended) = ended {
            counts.stopped += 1;
            counts.succeeded += usize::from(ended.exit_code == 0);
        } else if last.is_some() {
            // It waits to be started again.
            counts.stopped += 1;
        } else {
            counts.waiting += 1;
        }
    }
    counts
}
