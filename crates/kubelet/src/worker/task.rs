//! One pod's worker: look, plan, act, report, wait.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::error::WorkerError;
use super::parts::{Awaited, Backoffs, Containers, PodInput, Reporting, VolumeState};
use super::plan::{self, Action, Hold, Progress, Stop, StopReason};
use super::stop::{self, Stopping};
use super::volumes::follows_secrets;
use super::{Desired, Origin, Shared, messages};
use crate::event::Reason;
use crate::image;
use crate::pod::{self, GRACE_PERIOD_DEFAULT_S, PodId};
use crate::probe::{Probes, Probing};
use crate::redact::Redactor;
use crate::runtime::{Observed, RuntimeError, container_hash};
use crate::status::{self, Waiting};

/// The least a container gets to end by itself; upstream's.
pub(super) const GRACE_PERIOD_MIN: Duration = Duration::from_secs(2);

/// What a status says of a container that waits; names in it have no limit of their own.
const WAITING_MESSAGE_BYTES_MAX: usize = 4096;

/// What a worker does after a round.
pub(super) enum Next {
    /// Something was done: look again.
    Again,
    /// Nothing is to be done until something happens, or until then.
    Wait(Option<Instant>),
    /// Nothing of the pod is left.
    Done,
}

/// Brings one pod from what is to what should be.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) id: PodId,
    pub(super) pod: PodInput,
    /// What the plan is made by.
    pub(super) progress: Progress,
    pub(super) volumes: VolumeState,
    pub(super) containers: Containers,
    pub(super) reporting: Reporting,
    pub(super) backoffs: Backoffs,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        id: PodId,
        desired: watch::Receiver<Desired>,
        wake: Arc<Notify>,
        origin: &Origin,
    ) -> Self {
        let pod = desired.borrow().pod.clone();
        let reporting = Reporting::new(&shared.client, &id, pod, origin);
        let is_static = matches!(origin, Origin::Manifest { .. });
        Self {
            shared,
            id,
            pod: PodInput { desired, wake, is_static, awaited: Awaited::default() },
            progress: Progress::default(),
            volumes: VolumeState { usage_is_old: true, ..Default::default() },
            containers: reporting.containers(),
            reporting,
            backoffs: Backoffs::default(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let desired = self.pod.desired.borrow_and_update().clone();
            let round = match &desired.pod {
                Some(pod) if !desired.is_gone && !pod::is_terminating(pod) => {
                    let pod = pod.clone();
                    self.sync(&pod).await
                }
                _ => self.end(&desired).await,
            };
            if !round.as_ref().is_err_and(WorkerError::is_outage) {
                self.backoffs.outage.reset();
            }
            match round {
                Ok(Next::Again) => self.backoffs.sync.reset(),
                Ok(Next::Wait(until)) => {
                    self.backoffs.sync.reset();
                    self.wait(until).await;
                }
                Ok(Next::Done) => break,
                Err(error) => {
                    let now = Instant::now();
                    let backoffs = &mut self.backoffs;
                    let delay = match error.is_outage() {
                        true => backoffs.outage.failed(now),
                        false => backoffs.sync.failed(now),
                    };
                    let error = error.redacted(&self.redactor(desired.pod.as_deref()));
                    tracing::warn!(pod = %self.id, error, "pod sync failed, retrying");
                    self.wait(Some(now + delay)).await;
                }
            }
        }
        self.shared.images.forget_pod(&self.id);
        self.shared.runtime.forget(&self.id);
        let Some(reporter) = self.reporting.reporter.take() else { return };
        // Once its object no longer exists there is nothing to report to.
        let PodInput { mut desired, is_static, .. } = self.pod;
        tokio::select! {
            () = reporter.finish() => {}
            _ = desired.wait_for(|desired| desired.is_gone && !is_static) => {}
        }
    }

    /// Waits until something happened that may matter to this pod.
    async fn wait(&mut self, until: Option<Instant>) {
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let arrived = tokio::select! {
            changed = self.pod.desired.changed() => {
                if changed.is_err() {
                    // The kubelet ends; this task is about to be stopped.
                    std::future::pending::<()>().await;
                }
                false
            }
            () = self.pod.wake.notified() => false,
            () = timer => false,
            () = self.pod.awaited.any_changed() => true,
            () = self.volumes.usage.changed() => false,
        };
        if arrived {
            self.pod.awaited.clear();
            self.progress.volumes_hold = None;
            self.progress.sandbox_hold = None;
            let may_go_on = |reason| reason == CONFIG_ERROR || image::is_pull_failure(reason);
            self.progress.holds.retain(|_, hold| !may_go_on(hold.waiting.reason));
        }
    }

    /// What texts about the pod are redacted by. Of one whose spec is not known nothing is shown.
    pub(super) fn redactor(&self, pod: Option<&Pod>) -> Redactor {
        let of = |pod| Redactor::of_pod(&self.shared.layout, &self.id, pod::spec(pod));
        pod.map_or_else(Redactor::blind, of)
    }

    /// What there is of the pod, with what was reported of containers that no longer exist.
    pub(super) async fn observe(&self) -> Result<Observed, RuntimeError> {
        let mut observed = self.shared.runtime.observe(&self.id).await?;
        status::recall(&self.reporting.known, &mut observed);
        Ok(observed)
    }

    /// One round for a pod that should run.
    async fn sync(&mut self, pod: &Arc<Pod>) -> Result<Next, WorkerError> {
        if let Some(message) = plan::too_many_containers(pod::spec(pod)) {
            self.shared.events.pod(&self.id, Reason::FailedSync, message);
            return Ok(Next::Wait(None));
        }
        let observed = self.observe().await?;
        self.remember_messages(pod, &observed).await;
        self.note_usage().await;
        self.tend_probes(pod, &observed);
        let phase = self.report(pod, &observed, false);
        let spec = pod::spec(pod);
        if !phase.is_final() {
            self.tend_tokens(pod).await;
        }
        if !phase.is_final() && follows_secrets(pod) {
            self.follow_secrets(pod).await;
        }
        let now = Instant::now();
        let plan = plan::plan(spec, phase.is_final(), &observed, &self.progress, now);
        if plan.actions.is_empty() {
            let refresh = self.volumes.refresh_hold.filter(|until| *until > now);
            // Later than any time that there is: never.
            let deadline = self.deadline(pod).and_then(|left| now.checked_add(left));
            let tokens = self.volumes.tokens_due;
            let wake = [plan.wake, refresh, deadline, tokens].into_iter().flatten().min();
            return Ok(Next::Wait(wake));
        }
        for action in plan.actions {
            self.act(pod, &observed, action).await?;
            if self.pod.desired.has_changed().unwrap_or(false) {
                break;
            }
        }
        Ok(Next::Again)
    }

    /// Does one thing. What fails for the pod's own reasons becomes a hold; what fails for the
    /// runtime's ends the round.
    async fn act(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        action: Action,
    ) -> Result<(), WorkerError> {
        let runtime = &self.shared.runtime;
        match action {
            Action::SetUpVolumes => self.set_up_volumes(pod).await,
            Action::ReleaseVolumes => {
                self.end_remains(observed.ids()).await?;
                let released = self.shared.volumes.release(&self.id).await;
                released.map_err(WorkerError::Volumes)?;
                self.progress.volumes_released = true;
            }
            Action::CreateSandbox { attempt } => self.create_sandbox(pod, attempt).await,
            Action::StopSandbox { id } => runtime.stop_sandbox(&id).await?,
            Action::RemoveSandbox { id } => {
                self.end_remains(vec![id.clone()]).await?;
                runtime.remove_sandbox(&id).await?;
            }
            Action::Remove { id, log_path } => {
                self.end_remains(vec![id.clone()]).await?;
                runtime.remove_container(&id).await?;
                messages::remove_log(&log_path).await;
                self.containers.messages.remove(&id);
            }
            Action::Stop { container } => self.stop(pod, observed, &container).await?,
            Action::Start { name, attempt, sandbox } => {
                self.start(pod, observed, &name, attempt, &sandbox).await;
            }
        }
        Ok(())
    }

    /// Ends processes of these containers that the runtime has lost.
    pub(super) async fn end_remains(&self, ids: Vec<String>) -> Result<(), WorkerError> {
        self.shared.runtime.end_remains(ids).await.map_err(WorkerError::Remains)
    }

    async fn stop(
        &mut self,
        pod: &Pod,
        observed: &Observed,
        container: &Stop,
    ) -> Result<(), RuntimeError> {
        let name = &container.name;
        let message = match container.why {
            StopReason::DefinitionChanged => {
                format!("Container {name} definition changed, will be restarted")
            }
            StopReason::Unhealthy => {
                let probes = self.containers.probes.get(&container.id);
                let kind = probes.and_then(Probes::dead).unwrap_or("liveness");
                format!("Container {name} failed {kind} probe, will be restarted")
            }
            StopReason::SandboxGone | StopReason::PodOver => format!("Stopping container {name}"),
        };
        let ip = pod_ip(&self.shared, pod, observed);
        let stopping = Stopping {
            id: &self.id,
            pod: Some(pod),
            container_id: &container.id,
            name,
            pod_ip: ip.as_deref(),
            grace: grace_period(pod),
            message,
        };
        stop::stop(&self.shared, stopping).await
    }

    /// Starts the probes of containers that run, and ends those of containers that do not.
    fn tend_probes(&mut self, pod: &Arc<Pod>, observed: &Observed) {
        let is_running = |id: &String| observed.running().any(|container| container.id == *id);
        self.containers.probes.retain(|id, _| is_running(id));
        let ip = pod_ip(&self.shared, pod, observed);
        for container in observed.running() {
            let spec = pod::all_containers(pod::spec(pod)).find(|spec| spec.name == container.name);
            let Some(spec) = spec.filter(|_| !self.containers.probes.contains_key(&container.id))
            else {
                continue;
            };
            let probes = Probes::start(&Probing {
                runtime: &self.shared.runtime,
                events: &self.shared.events,
                pod: &self.id,
                manifest: pod,
                layout: &self.shared.layout,
                field: field_path(pod, &spec.name),
                container_id: &container.id,
                spec,
                pod_ip: ip.as_deref(),
                wake: &self.pod.wake,
            });
            if let Some(probes) = probes {
                self.containers.probes.insert(container.id.clone(), probes);
            }
        }
        let dead = self.containers.probes.iter().filter(|(_, probes)| probes.dead().is_some());
        self.progress.unhealthy = dead.map(|(id, _)| id.clone()).collect();
    }

    /// Puts a container off, and says why.
    pub(super) fn hold(&mut self, spec: &Container, delay: Duration, mut waiting: Waiting) {
        let length = waiting.message.floor_char_boundary(WAITING_MESSAGE_BYTES_MAX);
        waiting.message.truncate(length);
        let hold =
            Hold { until: Instant::now() + delay, definition: container_hash(spec), waiting };
        self.progress.holds.insert(spec.name.clone(), hold);
    }
}

/// The waiting reason of a container whose configuration cannot be made.
pub(super) const CONFIG_ERROR: &str = "CreateContainerConfigError";

/// Where the pod is reached.
pub(super) fn pod_ip(shared: &Shared, pod: &Pod, observed: &Observed) -> Option<String> {
    if pod::uses_host_network(pod::spec(pod)) {
        return Some(shared.facts.ip.to_string());
    }
    observed.sandboxes.first()?.ips.first().cloned()
}

/// What an event about a container names.
pub(super) fn field_path(pod: &Pod, name: &str) -> String {
    let is_init = pod::init_containers(pod::spec(pod)).iter().any(|init| init.name == name);
    if is_init {
        format!("spec.initContainers{{{name}}}")
    } else {
        format!("spec.containers{{{name}}}")
    }
}

/// How long a pod's containers get to end by themselves.
pub(super) fn grace_period(pod: &Pod) -> Duration {
    let meta = &pod.metadata;
    let seconds = meta
        .deletion_grace_period_seconds
        .or(pod::spec(pod).termination_grace_period_seconds)
        .unwrap_or(GRACE_PERIOD_DEFAULT_S);
    // Not more than what is left of the time that the API server has granted.
    let left = meta
        .deletion_timestamp
        .as_ref()
        .map_or(seconds, |deadline| deadline.0.as_second() - Timestamp::now().as_second());
    let seconds = u64::try_from(seconds.min(left)).unwrap_or(0);
    Duration::from_secs(seconds).max(GRACE_PERIOD_MIN)
}
