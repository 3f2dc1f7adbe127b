//! Ending one container: its `preStop` hook, its stop signal, and after the grace period the end.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::Shared;
use super::task::{GRACE_PERIOD_MIN, field_path};
use crate::event::Reason;
use crate::handler::{self, Action, Subject};
use crate::pod::{self, PodId};
use crate::runtime::RuntimeError;

/// The container that is to end.
pub(super) struct Stopping<'a> {
    pub(super) id: &'a PodId,
    /// None for a pod that nothing is known of but what runs.
    pub(super) pod: Option<&'a Pod>,
    pub(super) container_id: &'a str,
    pub(super) name: &'a str,
    pub(super) pod_ip: Option<&'a str>,
    pub(super) grace: Duration,
    /// What the event says.
    pub(super) message: String,
}

/// Ends it; the hook's time is taken from the grace period.
pub(super) async fn stop(shared: &Shared, stopping: Stopping<'_>) -> Result<(), RuntimeError> {
    let began = Instant::now();
    if let Some(pod) = stopping.pod {
        let field = field_path(pod, stopping.name);
        let message = stopping.message.clone();
        shared.events.container(stopping.id, &field, Reason::KillingContainer, message);
        pre_stop(shared, &stopping, pod, &field).await;
    }
    let left = stopping.grace.saturating_sub(began.elapsed()).max(GRACE_PERIOD_MIN);
    shared.runtime.stop_container(stopping.container_id, left).await
}

async fn pre_stop(shared: &Shared, stopping: &Stopping<'_>, pod: &Pod, field: &str) {
    let spec = pod::all_containers(pod::spec(pod)).find(|spec| spec.name == stopping.name);
    let hook = spec.and_then(|spec| spec.lifecycle.as_ref()?.pre_stop.as_ref());
    let (Some(spec), Some(action)) = (spec, hook.and_then(Action::of_hook)) else { return };
    let subject = Subject {
        runtime: &shared.runtime,
        container_id: stopping.container_id,
        spec,
        pod_ip: stopping.pod_ip,
    };
    let hook = handler::run(subject, action, stopping.grace);
    let failure = match tokio::time::timeout(stopping.grace, hook).await {
        Ok(Ok(())) => return,
        Ok(Err(_)) => "PreStopHook failed",
        Err(_) => "PreStopHook did not end within the grace period",
    };
    let reason = Reason::FailedPreStopHook;
    shared.events.container(stopping.id, field, reason, failure.to_owned());
}
