//! What was reported to the API server of containers that the runtime has forgotten. Pure.
//!
//! A kubelet that ends with its pods (`--stop-pods-on-exit`) removes their containers, and a
//! runtime may lose its data. What was reported is what is left then: a container that had done
//! its work is not run again, and one that is run again counts as restarted.

use k8s_openapi::api::core::v1::{
    ContainerState as State, ContainerStateTerminated, ContainerStatus, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::GRACE_PERIOD_DEFAULT_S;
use crate::runtime::{Container, ContainerState, Observed};

/// Upstream's words for a container that ran and whose end was not seen.
const LOST_REASON: &str = "ContainerStatusUnknown";
const LOST_MESSAGE: &str = "The container could not be located when the pod was deleted.  The \
    container used to be Running";
const LOST_EXIT_CODE: i32 = 137;

/// Adds the containers that ended, or were lost, according to `known`, and that were not observed.
pub(crate) fn recall(known: &PodStatus, observed: &mut Observed) {
    let statuses = known.init_container_statuses.iter().chain(&known.container_statuses).flatten();
    let forgotten: Vec<Container> = statuses
        .filter(|status| observed.latest(&status.name).is_none())
        .filter_map(container)
        .collect();
    observed.containers.extend(forgotten);
}

fn container(status: &ContainerStatus) -> Option<Container> {
    let ended = ended(status)?;
    let id = status.container_id.as_deref().or(ended.container_id.as_deref())?;
    let time = |time: &Option<Time>| {
        let nanoseconds = time.as_ref().map(|time| time.0.as_nanosecond()).unwrap_or_default();
        i64::try_from(nanoseconds).unwrap_or_default()
    };
    Some(Container {
        id: id.split_once("://").map_or(id, |(_, id)| id).to_owned(),
        // The sandbox is not there any more either.
        sandbox: String::new(),
        name: status.name.clone(),
        attempt: u32::try_from(status.restart_count).unwrap_or_default(),
        state: ContainerState::Exited,
        created_at_ns: time(&ended.started_at),
        started_at_ns: time(&ended.started_at),
        finished_at_ns: time(&ended.finished_at),
        exit_code: ended.exit_code,
        reason: ended.reason.unwrap_or_default(),
        message: ended.message.unwrap_or_default().into(),
        image: status.image.clone(),
        image_ref: status.image_id.clone(),
        hash: String::new(),
        log_path: String::new(),
        grace_period_s: GRACE_PERIOD_DEFAULT_S,
    })
}

/// How the container ended, if it ever ran.
fn ended(status: &ContainerStatus) -> Option<ContainerStateTerminated> {
    let state = status.state.as_ref()?;
    if let State { running: Some(running), .. } = state {
        return Some(ContainerStateTerminated {
            exit_code: LOST_EXIT_CODE,
            reason: Some(LOST_REASON.to_owned()),
            message: Some(LOST_MESSAGE.to_owned()),
            started_at: running.started_at.clone(),
            ..Default::default()
        });
    }
    let last = || status.last_state.as_ref()?.terminated.clone();
    state.terminated.clone().or_else(last)
}
