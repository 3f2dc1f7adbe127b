//! `containerStatuses` and `initContainerStatuses`. Pure.

use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus,
};

use super::{View, is_initialized, time};
use crate::pod::{self, RestartPolicy};
use crate::runtime::{self, Container};

/// What the termination messages of a pod may have in all, shared evenly; upstream's
/// `MaxPodTerminationMessageLogLength`.
const MESSAGES_BYTES_MAX: usize = 12 * 1024;

/// One status per container of the spec, in its order.
pub(super) fn statuses(view: &View<'_>, specs: &[Spec], init: bool) -> Vec<ContainerStatus> {
    specs.iter().map(|spec| status(view, spec, init)).collect()
}

fn status(view: &View<'_>, spec: &Spec, init: bool) -> ContainerStatus {
    let latest = view.observed.latest(&spec.name);
    let known = known_status(view, &spec.name, init);
    let (state, last) = states(view, spec, init);
    let running = state.running.is_some();
    let probed = view.probes.get(&spec.name);
    let sidecar = init && pod::is_sidecar(spec);
    let succeeded = state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0);
    ContainerStatus {
        name: spec.name.clone(),
        ready: match (init && !sidecar, running) {
            // An init container is ready when it has done its work.
            (true, _) => succeeded,
            (false, true) => probed.is_none_or(|probed| probed.ready) && !view.is_ending,
            (false, false) => false,
        },
        started: Some(running && probed.is_none_or(|probed| probed.started)),
        restart_count: latest
            .map(|latest| i32::try_from(latest.attempt).unwrap_or(i32::MAX))
            .or(known.map(|known| known.restart_count))
            .unwrap_or(0),
        image: latest
            .map(|latest| latest.image.clone())
            .filter(|image| !image.is_empty())
            .or_else(|| spec.image.clone())
            .unwrap_or_default(),
        image_id: latest.map(|latest| latest.image_ref.clone()).unwrap_or_default(),
        container_id: latest
            .map(|latest| container_id(view, &latest.id))
            .or(known.and_then(|known| known.container_id.clone())),
        state: Some(state),
        last_state: Some(last),
        ..Default::default()
    }
}

/// What was last reported to the API server about a container.
fn known_status<'a>(view: &View<'a>, name: &str, init: bool) -> Option<&'a ContainerStatus> {
    let known = view.known;
    let list = if init { &known.init_container_statuses } else { &known.container_statuses };
    list.as_ref()?.iter().find(|status| status.name == name)
}

/// The state now, and the one before.
fn states(view: &View<'_>, spec: &Spec, init: bool) -> (ContainerState, ContainerState) {
    let observed = view.observed;
    let ended = |container: &Container| terminated_state(view, container);
    match observed.latest(&spec.name) {
        Some(latest) if latest.is_running() => {
            let running = ContainerStateRunning { started_at: time(latest.started_at_ns) };
            let state = ContainerState { running: Some(running), ..Default::default() };
            (state, observed.previous(&spec.name).map(ended).unwrap_or_default())
        }
        Some(latest) if latest.state == runtime::ContainerState::Created => {
            let last = observed.previous(&spec.name).map(ended).unwrap_or_default();
            (waiting(view, spec, init), last)
        }
        Some(latest) => {
            let restarts = !view.is_ending && restarts(view, spec, init, latest);
            if restarts && view.waiting.contains_key(&spec.name) {
                (waiting(view, spec, init), ended(latest))
            } else {
                (ended(latest), observed.previous(&spec.name).map(ended).unwrap_or_default())
            }
        }
        None => (waiting(view, spec, init), ContainerState::default()),
    }
}

fn restarts(view: &View<'_>, spec: &Spec, init: bool, container: &Container) -> bool {
    let policy = RestartPolicy::of(pod::spec(view.pod));
    match (init, init && pod::is_sidecar(spec)) {
        (_, true) => true,
        (true, false) => container.exit_code != 0 && policy != RestartPolicy::Never,
        (false, _) => policy.restarts_after(container.exit_code),
    }
}

fn waiting(view: &View<'_>, spec: &Spec, init: bool) -> ContainerState {
    let (reason, message) = match view.waiting.get(&spec.name) {
        Some(waiting) => (waiting.reason, Some(waiting.message.clone())),
        None => {
            let has_init = !pod::init_containers(pod::spec(view.pod)).is_empty();
            let initializing = has_init && !is_initialized(pod::spec(view.pod), view.observed);
            let reason = if initializing || init && has_init {
                "PodInitializing"
            } else {
                "ContainerCreating"
            };
            (reason, None)
        }
    };
    let message = message.filter(|message| !message.is_empty());
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..Default::default() }
}

fn terminated_state(view: &View<'_>, container: &Container) -> ContainerState {
    let reason = match container.reason.as_str() {
        "" if container.exit_code == 0 => "Completed",
        "" => "Error",
        reason => reason,
    };
    let mut message = view.messages.get(&container.id).cloned().unwrap_or_default();
    let containers = pod::all_containers(pod::spec(view.pod)).count().max(1);
    message.truncate(message.floor_char_boundary(MESSAGES_BYTES_MAX / containers));
    let terminated = ContainerStateTerminated {
        container_id: Some(container_id(view, &container.id)),
        exit_code: container.exit_code,
        reason: Some(reason.to_owned()),
        message: (!message.is_empty()).then_some(message),
        started_at: time(container.started_at_ns),
        finished_at: time(container.finished_at_ns),
        signal: None,
    };
    ContainerState { terminated: Some(terminated), ..Default::default() }
}

/// `<runtime>://<id>`.
fn container_id(view: &View<'_>, id: &str) -> String {
    format!("{}://{id}", view.runtime_name)
}
