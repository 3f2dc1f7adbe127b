//! Starting one container: back-off, image, configuration, creation, start.
//!
//! Whatever prevents it becomes the container's waiting reason and an event, both upstream's, and
//! a time at which it is tried again.

use std::sync::Arc;
use std::time::Duration;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::error::WorkerError;
use super::mounts::Mounting;
use super::stop::{self, Stopping};
use super::task::{CONFIG_ERROR, Worker, field_path, grace_period};
use crate::backoff::{self, Backoff};
use crate::downward::Facts;
use crate::duration::go_duration;
use crate::env::{self, CommandLine, Context, EnvError, Environment, Sources};
use crate::event::Reason;
use crate::handler::{self, Action, Subject};
use crate::pod;
use crate::redact::RuntimeWords;
use crate::runtime::{
    ContainerPlan, ContainerState, Image, Observed, RuntimeError, check_non_root, container_config,
    container_hash, sandbox_config,
};
use crate::snapshot::Snapshot;
use crate::status::Waiting;

/// How long a `postStart` hook may take. The API has no limit; without one a hook that hangs
/// would keep its pod from being deleted.
const POST_START_TIMEOUT: Duration = Duration::from_secs(600);

/// The waiting reason of a container that was made and could not be started.
const RUN_ERROR: &str = "RunContainerError";

/// Why a container was not started.
struct StartError {
    reason: &'static str,
    message: String,
    retry_after: Duration,
}

/// A container's environment and command line, as the runtime gets them.
struct Process {
    envs: Vec<cri::KeyValue>,
    command: Vec<String>,
    args: Vec<String>,
}

/// A container on its way.
struct Start<'a> {
    pod: &'a Arc<Pod>,
    spec: &'a Spec,
    field: String,
    attempt: u32,
    sandbox: &'a str,
    sandbox_attempt: u32,
    ips: &'a [String],
    /// The sandbox's containers get values where placeholders are.
    placeholders: bool,
    /// The runtime's handler of the sandbox.
    handler: &'a str,
}

impl Worker {
    pub(super) async fn start(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        name: &str,
        attempt: u32,
        sandbox: &str,
    ) {
        let Some(spec) = pod::all_containers(pod::spec(pod)).find(|spec| spec.name == name) else {
            return;
        };
        let field = field_path(pod, name);
        if let Some(delay) = self.crash_delay(observed, spec) {
            let message = format!("Back-off restarting failed container {name} in pod {}", self.id);
            let events = &self.shared.events;
            events.container(&self.id, &field, Reason::BackOffStartContainer, message);
            let delays = self.containers.crashes.get(name).map(Backoff::delay).unwrap_or_default();
            let message = format!(
                "back-off {} restarting failed container={name} pod={}",
                go_duration(delays),
                self.id
            );
            self.hold(spec, delay, Waiting { reason: "CrashLoopBackOff", message });
            return;
        }
        let host = [self.shared.facts.ip.to_string()];
        let found = observed.sandboxes.iter().find(|found| found.id == sandbox);
        let own = found.map(|found| found.ips.as_slice()).unwrap_or_default();
        let ips = if pod::uses_host_network(pod::spec(pod)) { &host } else { own };
        let sandbox_attempt = found.map_or(0, |found| found.attempt);
        let placeholders = found.is_some_and(|found| found.placeholders);
        let handler = found.map(|found| found.handler.as_str()).unwrap_or_default();
        let start = Start {
            pod,
            spec,
            field,
            attempt,
            sandbox,
            sandbox_attempt,
            ips,
            placeholders,
            handler,
        };
        match self.try_start(&start).await {
            Ok(()) => {
                self.volumes.usage_is_old = true;
                self.progress.holds.remove(name);
                self.backoffs.config.reset();
                self.count_start(observed, name);
            }
            Err(None) => {}
            Err(Some(error)) => {
                if error.reason == RUN_ERROR {
                    self.count_start(observed, name);
                }
                let waiting = Waiting { reason: error.reason, message: error.message };
                self.hold(spec, error.retry_after, waiting);
            }
        }
    }

    /// How long a container that ended has to wait before it may start again.
    /// One with another image than the one that ended does not.
    fn crash_delay(&mut self, observed: &Observed, spec: &Spec) -> Option<Duration> {
        let latest = observed.latest(&spec.name).filter(|latest| {
            latest.state == ContainerState::Exited && latest.hash == container_hash(spec)
        })?;
        let delay = self.containers.crashes.get(&spec.name)?.delay();
        let now = Timestamp::now().as_nanosecond();
        let since = u64::try_from(now - i128::from(latest.finished_at_ns)).unwrap_or(0);
        let left = delay.saturating_sub(Duration::from_nanos(since));
        (!left.is_zero()).then_some(left)
    }

    /// A restart was made: the next one comes later.
    fn count_start(&mut self, observed: &Observed, name: &str) {
        if observed.latest(name).is_some_and(|latest| latest.state == ContainerState::Exited) {
            let crashes = self.containers.crashes.entry(name.to_owned());
            crashes.or_insert_with(|| Backoff::new(backoff::CRASH)).failed(Instant::now());
        }
    }

    /// `Err(None)` where the pod is to end meanwhile.
    async fn try_start(&mut self, start: &Start<'_>) -> Result<(), Option<StartError>> {
        let Some(image) = self.image(start).await.map_err(Some)? else { return Err(None) };
        check_non_root(pod::spec(start.pod), &self.id, start.spec, &image)
            .map_err(|error| Some(self.config_error(start, error.to_string())))?;
        let environment = Arc::new(self.environment(start).await.map_err(Some)?);
        let mounting = Mounting {
            shared: self.shared.clone(),
            id: self.id.clone(),
            pod: start.pod.clone(),
            container: start.spec.clone(),
            attempt: start.attempt,
            ips: start.ips.to_vec(),
            environment: environment.clone(),
        };
        let mounts = mounting
            .mounts()
            .await
            .map_err(|error| Some(self.config_error(start, error.to_string())))?;
        self.create_and_start(start, &image, &environment, mounts).await.map_err(Some)
    }

    /// The container's image; `None` if the pod is to end before it is here.
    async fn image(&mut self, start: &Start<'_>) -> Result<Option<Image>, StartError> {
        let shared = self.shared.clone();
        let ensure = shared.images.ensure(&self.id, start.pod, start.spec, &start.field);
        let mut desired = self.pod.desired.clone();
        let ending = desired.wait_for(|desired| {
            desired.is_gone || desired.pod.as_ref().is_some_and(|pod| pod::is_terminating(pod))
        });
        tokio::select! {
            ensured = ensure => match ensured {
                Ok(image) => Ok(Some(image)),
                Err(error) => {
                    self.say_failed(start, error.reason);
                    for (secret, seen) in error.waits_for {
                        self.pod.awaited.add(&shared.objects, &secret, seen);
                    }
                    Err(StartError {
                        reason: error.reason,
                        message: error.message,
                        retry_after: error.retry_after,
                    })
                }
            },
            _ = ending => Ok(None),
        }
    }

    async fn environment(&mut self, start: &Start<'_>) -> Result<Environment, StartError> {
        let shared = self.shared.clone();
        let snapshot = Snapshot::of(&shared.layout, self.id.uid());
        let facts = Facts { node: shared.facts, pod_ips: start.ips };
        let context = Context { facts, services: shared.services.of(start.pod) };
        let fetched =
            Sources::fetch(&shared.objects, &snapshot, &self.id, start.pod, start.spec).await;
        let (resolved, sources) = match fetched {
            Ok(sources) => {
                (env::resolve(start.pod, &self.id, start.spec, &sources, context), sources)
            }
            Err(error) => (Err(error), Sources::default()),
        };
        let error = match resolved {
            Ok(environment) => {
                self.report_invalid_names(&environment);
                return Ok(environment);
            }
            Err(error) => error,
        };
        if let Some(key) = error.waits_for() {
            self.pod.awaited.add(&shared.objects, &key, sources.seen(&key));
        }
        Err(self.config_error(start, error.to_string()))
    }

    fn report_invalid_names(&self, environment: &Environment) {
        for invalid in &environment.invalid {
            let message = format!(
                "Keys [{}] from the EnvFrom {} {}/{} were skipped since they are considered \
                 invalid environment variable names.",
                invalid.keys.join(", "),
                invalid.kind,
                self.id.namespace(),
                invalid.name
            );
            let reason = Reason::InvalidEnvironmentVariableNames;
            self.shared.events.pod(&self.id, reason, message);
        }
    }

    async fn create_and_start(
        &mut self,
        start: &Start<'_>,
        image: &Image,
        environment: &Environment,
        mounts: Vec<cri::Mount>,
    ) -> Result<(), StartError> {
        let shared = self.shared.clone();
        let name = &start.spec.name;
        let logs = shared.layout.logs(&self.id);
        let sandbox_config = sandbox_config(
            start.pod,
            &self.id,
            &shared.node_name,
            start.sandbox_attempt,
            &logs,
            &shared.dns,
            start.placeholders,
        );
        let line = environment.command_line(start.spec);
        let line = line.map_err(|error| self.config_error(start, error.to_string()))?;
        self.require_placeholders(start, environment, &line)?;
        let process = self.process(start, environment, &line);
        let process = process.map_err(|error| self.config_error(start, error.to_string()))?;
        let open = open_words(start.spec, &line, &mounts);
        let config = container_config(ContainerPlan {
            pod: start.pod,
            id: &self.id,
            node: &shared.node_name,
            container: start.spec,
            attempt: start.attempt,
            image,
            envs: process.envs,
            command: process.command,
            args: process.args,
            mounts,
            log_path: format!("{name}/{}.log", start.attempt),
            node_memory_bytes: shared.facts.memory_bytes,
        });
        if let Err(error) = tokio::fs::create_dir_all(logs.join(name)).await {
            let error = WorkerError::LogDirectory(error);
            return Err(self.failed(start, "CreateContainerError", error.to_string()));
        }
        let created = shared.runtime.create_container(start.sandbox, config, sandbox_config).await;
        let id = created.map_err(|error| {
            let message = self.runtime_said(start, environment, &open, &error);
            self.failed(start, "CreateContainerError", message)
        })?;
        let (pod, events) = (self.id.clone(), &shared.events);
        let say = |reason, message| events.container(&pod, &start.field, reason, message);
        say(Reason::CreatedContainer, format!("Created container: {name}"));
        shared.runtime.start_container(&id).await.map_err(|error| {
            let message = self.runtime_said(start, environment, &open, &error);
            self.failed(start, RUN_ERROR, message)
        })?;
        say(Reason::StartedContainer, format!("Started container {name}"));
        self.post_start(start, &id).await
    }

    /// A handler without placeholders would get the values, and the runtime write them to its disk.
    fn require_placeholders(
        &mut self,
        start: &Start<'_>,
        environment: &Environment,
        line: &CommandLine,
    ) -> Result<(), StartError> {
        let Some(placeholders) = &self.shared.placeholders else { return Ok(()) };
        let has_secrets = environment.has_secrets() || line.has_secrets();
        if start.placeholders || !has_secrets || placeholders.may_get_values(start.handler) {
            return Ok(());
        }
        let message = format!(
            "environment variables or arguments come from Secrets, and runtime handler {:?} would \
             write their values to disk: mount the Secrets as volumes, or use a RuntimeClass whose \
             handler is given placeholders",
            start.handler
        );
        Err(self.config_error(start, message))
    }

    /// The texts that the runtime gets: of Secrets, placeholders, where its handler knows them.
    fn process(
        &self,
        start: &Start<'_>,
        environment: &Environment,
        line: &CommandLine,
    ) -> Result<Process, EnvError> {
        let snapshot = Snapshot::of(&self.shared.layout, self.id.uid());
        let keep = start.placeholders.then_some((&snapshot, &self.id));
        let told = |value: &env::Value| value.for_runtime(keep).map_err(EnvError::Snapshot);
        let variables = environment.iter().map(|(key, value)| {
            told(value).map(|value| cri::KeyValue { key: key.to_owned(), value })
        });
        Ok(Process {
            envs: variables.collect::<Result<_, _>>()?,
            command: line.command.iter().map(told).collect::<Result<_, _>>()?,
            args: line.args.iter().map(told).collect::<Result<_, _>>()?,
        })
    }

    /// Why the runtime did not create or start a container, as everybody may read it.
    fn runtime_said(
        &self,
        start: &Start<'_>,
        environment: &Environment,
        open: &[String],
        error: &RuntimeError,
    ) -> String {
        let mut redactor = self.redactor(Some(start.pod));
        environment.add_to(&mut redactor);
        if !environment.has_secrets() {
            return error.redacted(&redactor);
        }
        let known = RuntimeWords::new(open.iter().map(String::as_str));
        error.redacted_by(|words| redactor.redact_error(words, &known))
    }

    /// Runs the container's `postStart` hook; a container whose hook fails is ended.
    async fn post_start(&mut self, start: &Start<'_>, id: &str) -> Result<(), StartError> {
        let lifecycle = start.spec.lifecycle.as_ref();
        let hook = lifecycle.and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(action) = hook.and_then(Action::of_hook) else { return Ok(()) };
        let shared = self.shared.clone();
        let subject = Subject {
            runtime: &shared.runtime,
            container_id: id,
            spec: start.spec,
            pod_ip: start.ips.first().map(String::as_str),
        };
        if handler::run(subject, action, POST_START_TIMEOUT).await.is_ok() {
            return Ok(());
        }
        let message = "PostStartHook failed".to_owned();
        let reason = Reason::FailedPostStartHook;
        shared.events.container(&self.id, &start.field, reason, message.clone());
        let stopping = Stopping {
            id: &self.id,
            pod: Some(start.pod),
            container_id: id,
            name: &start.spec.name,
            pod_ip: subject.pod_ip,
            grace: grace_period(start.pod),
            message: "FailedPostStartHook".to_owned(),
        };
        if let Err(error) = stop::stop(&shared, stopping).await {
            let error = error.redacted(&self.redactor(Some(start.pod)));
            tracing::warn!(pod = %self.id, error, "cannot stop a container whose postStart hook failed");
        }
        Err(self.failed(start, "PostStartHookError", message))
    }

    /// A container whose configuration cannot be made, and the event that says so.
    fn config_error(&mut self, start: &Start<'_>, message: String) -> StartError {
        self.failed(start, CONFIG_ERROR, message)
    }

    fn failed(&mut self, start: &Start<'_>, reason: &'static str, message: String) -> StartError {
        self.say_failed(start, &message);
        let retry_after = self.backoffs.config.failed(Instant::now());
        StartError { reason, message, retry_after }
    }

    fn say_failed(&self, start: &Start<'_>, message: &str) {
        let message = format!("Error: {message}");
        let events = &self.shared.events;
        events.container(&self.id, &start.field, Reason::FailedToCreateContainer, message);
    }
}

/// What the specification of a container says in the open, and errors may repeat.
fn open_words(spec: &Spec, line: &CommandLine, mounts: &[cri::Mount]) -> Vec<String> {
    let line = line.command.iter().chain(&line.args).filter(|word| !word.is_secret());
    let paths = mounts.iter().flat_map(|mount| [&mount.host_path, &mount.container_path]);
    let texts = paths.chain(&spec.working_dir).chain(&spec.image).map(String::as_str);
    texts.chain(line.map(env::Value::as_str)).map(str::to_owned).collect()
}
