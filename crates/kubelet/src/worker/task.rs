//! One pod's worker: look, plan, act, report, wait.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::plan::{self, Action, Hold, Progress, Stop, StopReason};
use super::stop::{self, Stopping};
use super::usage::Usage;
use super::volumes::follows_secrets;
use super::{Desired, Origin, Shared, messages};
use crate::backoff::{self, Backoff};
use crate::event::Reason;
use crate::image;
use crate::objects::{FetchError, ObjectKey, Subscription, Version};
use crate::pod::{self, GRACE_PERIOD_DEFAULT_S, PodId};
use crate::probe::{Probes, Probing};
use crate::redact::Redactor;
use crate::runtime::{Observed, RuntimeError, container_hash, sandbox_config};
use crate::status::report::Reporter;
use crate::status::{self, Waiting};

/// The least a container gets to end by itself; upstream's.
pub(super) const GRACE_PERIOD_MIN: Duration = Duration::from_secs(2);

/// How many objects one pod watches for because it cannot go on without them.
const AWAITED_MAX: usize = 64;
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

/// An object that the pod cannot go on without.
pub(super) struct Awaited {
    key: ObjectKey,
    subscription: Subscription,
    seen: Option<Version>,
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) id: PodId,
    pub(super) desired: watch::Receiver<Desired>,
    poke: Arc<Notify>,
    pub(super) progress: Progress,
    pub(super) crashes: BTreeMap<String, Backoff>,
    pub(super) messages: BTreeMap<String, String>,
    pub(super) reporter: Option<Reporter>,
    pub(super) known: PodStatus,
    pub(super) volume_backoff: Backoff,
    sandbox_backoff: Backoff,
    runtime_backoff: Backoff,
    pub(super) config_backoff: Backoff,
    /// Whether a manifest is the pod's source.
    pub(super) is_static: bool,
    pub(super) awaited: Vec<Awaited>,
    /// By container id.
    pub(super) probes: BTreeMap<String, Probes>,
    pub(super) usage: Usage,
    pub(super) refresh_backoff: Backoff,
    pub(super) refresh_hold: Option<Instant>,
    pub(super) tokens_backoff: Backoff,
    pub(super) tokens_due: Option<Instant>,
    /// Whether the snapshot may record more than `usage` knows.
    pub(super) usage_is_old: bool,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        id: PodId,
        desired: watch::Receiver<Desired>,
        poke: Arc<Notify>,
        origin: &Origin,
    ) -> Self {
        let pod = desired.borrow().pod.clone();
        let known = pod.as_ref().and_then(|pod| pod.status.clone());
        // A pod that is only here has nobody to be reported to.
        let reporter = pod.map(|pod| match origin {
            Origin::ApiServer => Reporter::new(shared.client.clone(), id.clone(), &pod),
            Origin::Manifest { recheck } => {
                Reporter::mirrored(shared.client.clone(), pod, recheck.clone())
            }
        });
        Self {
            shared,
            id,
            desired,
            poke,
            progress: Progress::default(),
            crashes: BTreeMap::new(),
            messages: known.as_ref().map(messages::reported).unwrap_or_default(),
            reporter,
            known: known.unwrap_or_default(),
            volume_backoff: Backoff::new(backoff::VOLUME),
            sandbox_backoff: Backoff::new(backoff::RUNTIME),
            runtime_backoff: Backoff::new(backoff::RUNTIME),
            config_backoff: Backoff::new(backoff::CONTAINER_CONFIG),
            is_static: matches!(origin, Origin::Manifest { .. }),
            awaited: Vec::new(),
            probes: BTreeMap::new(),
            usage: Usage::default(),
            refresh_backoff: Backoff::new(backoff::VOLUME),
            refresh_hold: None,
            tokens_backoff: Backoff::new(backoff::VOLUME),
            tokens_due: None,
            usage_is_old: true,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let desired = self.desired.borrow_and_update().clone();
            let round = match &desired.pod {
                Some(pod) if !desired.is_gone && !pod::is_terminating(pod) => {
                    let pod = pod.clone();
                    self.sync(&pod).await
                }
                _ => self.end(&desired).await,
            };
            match round {
                Ok(Next::Again) => self.runtime_backoff.reset(),
                Ok(Next::Wait(until)) => {
                    self.runtime_backoff.reset();
                    self.wait(until).await;
                }
                Ok(Next::Done) => break,
                Err(error) => {
                    let delay = self.runtime_backoff.failed(Instant::now());
                    let error = error.told(&self.redactor(desired.pod.as_deref()));
                    tracing::warn!(pod = %self.id, error, "pod not in order yet");
                    self.wait(Some(Instant::now() + delay)).await;
                }
            }
        }
        self.shared.images.forget_pod(&self.id);
        self.shared.runtime.forget(&self.id);
        let Some(reporter) = self.reporter.take() else { return };
        // Once its object is gone, also one that nobody here deleted, there is nothing to report to.
        let is_static = self.is_static;
        let mut desired = self.desired;
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
            changed = self.desired.changed() => {
                if changed.is_err() {
                    // The kubelet ends; this task is about to be stopped.
                    std::future::pending::<()>().await;
                }
                false
            }
            () = self.poke.notified() => false,
            () = timer => false,
            () = any_changed(&mut self.awaited) => true,
            () = self.usage.changed() => false,
        };
        if arrived {
            self.awaited.clear();
            self.progress.volumes_hold = None;
            self.progress.sandbox_hold = None;
            let may_go_on = |reason| reason == CONFIG_ERROR || image::is_pull_failure(reason);
            self.progress.holds.retain(|_, hold| !may_go_on(hold.waiting.reason));
        }
    }

    /// Watches for an object, so that the pod goes on as soon as it appears.
    pub(super) fn await_object(&mut self, key: &ObjectKey, seen: Option<Version>) {
        self.awaited.retain(|awaited| awaited.key != *key);
        // Beyond it the back-off alone says when it is tried again.
        if self.awaited.len() >= AWAITED_MAX {
            return;
        }
        let subscription = self.shared.objects.watch(key);
        self.awaited.push(Awaited { key: key.clone(), subscription, seen });
    }

    /// What texts about the pod are redacted by. Of one whose spec is not known nothing is shown.
    pub(super) fn redactor(&self, pod: Option<&Pod>) -> Redactor {
        let of = |pod| Redactor::of_pod(&self.shared.layout, &self.id, pod::spec(pod));
        pod.map_or_else(Redactor::blind, of)
    }

    /// What there is of the pod, with what was reported of containers that are gone.
    pub(super) async fn observe(&self) -> Result<Observed, RuntimeError> {
        let mut observed = self.shared.runtime.observe(&self.id).await?;
        status::recall(&self.known, &mut observed);
        Ok(observed)
    }

    /// One round for a pod that should run.
    async fn sync(&mut self, pod: &Arc<Pod>) -> Result<Next, RuntimeError> {
        if let Some(message) = plan::too_many_containers(pod::spec(pod)) {
            self.shared.events.pod(&self.id, Reason::FailedSync, message);
            return Ok(Next::Wait(None));
        }
        let observed = self.observe().await?;
        self.remember_messages(pod, &observed);
        self.note_usage();
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
            let refresh = self.refresh_hold.filter(|until| *until > now);
            // Later than any time that there is: never.
            let deadline = self.deadline(pod).and_then(|left| now.checked_add(left));
            let tokens = self.tokens_due;
            let wake = [plan.wake, refresh, deadline, tokens].into_iter().flatten().min();
            return Ok(Next::Wait(wake));
        }
        for action in plan.actions {
            self.act(pod, &observed, action).await?;
            if self.desired.has_changed().unwrap_or(false) {
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
    ) -> Result<(), RuntimeError> {
        let runtime = &self.shared.runtime;
        match action {
            Action::SetUpVolumes => self.set_up_volumes(pod).await,
            Action::ReleaseVolumes => {
                runtime.end_remains(observed.ids()).await?;
                let released = self.shared.volumes.release(&self.id).await;
                released.map_err(|error| RuntimeError::local("unmount volumes", &error))?;
                self.progress.volumes_released = true;
            }
            Action::CreateSandbox { attempt } => self.create_sandbox(pod, attempt).await?,
            Action::StopSandbox { id } => runtime.stop_sandbox(&id).await?,
            Action::RemoveSandbox { id } => {
                runtime.end_remains(vec![id.clone()]).await?;
                runtime.remove_sandbox(&id).await?;
            }
            Action::Remove { id, log_path } => {
                runtime.end_remains(vec![id.clone()]).await?;
                runtime.remove_container(&id).await?;
                messages::remove_log(&log_path);
                self.messages.remove(&id);
            }
            Action::Stop { container } => self.stop(pod, observed, &container).await?,
            Action::Start { name, attempt, sandbox } => {
                self.start(pod, observed, &name, attempt, &sandbox).await;
            }
        }
        Ok(())
    }

    async fn create_sandbox(&mut self, pod: &Arc<Pod>, attempt: u32) -> Result<(), RuntimeError> {
        let shared = &self.shared;
        if attempt > 0 {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            shared.events.pod(&self.id, Reason::SandboxChanged, message);
        }
        let logs = shared.layout.logs(&self.id);
        let handler = match self.runtime_handler(pod).await {
            Ok(handler) => handler,
            Err(error) => {
                if error.is_not_found() {
                    self.await_object(error.key(), None);
                }
                self.no_sandbox(&error.to_string());
                return Ok(());
            }
        };
        let shared = &self.shared;
        let placeholders = &shared.placeholders;
        let config = sandbox_config(
            pod,
            &self.id,
            &shared.node_name,
            attempt,
            &logs,
            &shared.dns,
            placeholders.as_ref().is_some_and(|placeholders| placeholders.are_for(&handler)),
        );
        let made = match std::fs::create_dir_all(&logs) {
            Ok(()) => shared.runtime.run_sandbox(config, &handler).await,
            Err(error) => Err(RuntimeError::local("make the log directory", &error)),
        };
        match made {
            Ok(_) => {
                self.sandbox_backoff.reset();
                self.progress.sandbox_hold = None;
            }
            Err(error) => self.no_sandbox(&error.told(&self.redactor(Some(pod)))),
        }
        Ok(())
    }

    /// The handler that the pod's RuntimeClass names; empty for the usual one.
    async fn runtime_handler(&self, pod: &Pod) -> Result<String, FetchError> {
        let class = pod::spec(pod).runtime_class_name.as_deref().filter(|name| !name.is_empty());
        let Some(class) = class else { return Ok(String::new()) };
        let class: RuntimeClass = self.shared.objects.get("", class).await?;
        Ok(class.handler)
    }

    fn no_sandbox(&mut self, why: &str) {
        let message = format!("Failed to create pod sandbox: {why}");
        self.shared.events.pod(&self.id, Reason::FailedCreatePodSandBox, message);
        let delay = self.sandbox_backoff.failed(Instant::now());
        self.progress.sandbox_hold = Some(Instant::now() + delay);
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
                let probes = self.probes.get(&container.id);
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
        self.probes.retain(|id, _| is_running(id));
        let ip = pod_ip(&self.shared, pod, observed);
        for container in observed.running() {
            let spec = pod::all_containers(pod::spec(pod)).find(|spec| spec.name == container.name);
            let Some(spec) = spec.filter(|_| !self.probes.contains_key(&container.id)) else {
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
                poke: &self.poke,
            });
            if let Some(probes) = probes {
                self.probes.insert(container.id.clone(), probes);
            }
        }
        let dead = self.probes.iter().filter(|(_, probes)| probes.dead().is_some());
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

async fn any_changed(awaited: &mut [Awaited]) {
    if awaited.is_empty() {
        return std::future::pending().await;
    }
    let changes = awaited.iter_mut().map(|awaited| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(awaited.subscription.changed_from(awaited.seen.as_ref()))
    });
    futures::future::select_all(changes).await;
}

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
