//! Probes: whether a container has started, is alive, and is ready.
//!
//! One task per probe of a running container; it ends with the container. What they find is kept
//! in one place per container, from which the pod's worker reads it when it is woken.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::event::{EventSink, Reason};
use crate::handler::{self, Action, Failure, Subject};
use crate::pod::{self, Layout, PodId};
use crate::redact::Redactor;
use crate::runtime::Runtime;
use crate::status::Probed;

/// Which question a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// What is known of a container, and whether it should be killed.
#[derive(Clone, Copy, Debug)]
struct Findings {
    probed: Probed,
    dead: Option<Kind>,
}

/// The probes of one running container.
pub(crate) struct Probes {
    findings: Arc<Mutex<Findings>>,
    tasks: Vec<AbortOnDropHandle<()>>,
}

/// The container that is probed.
pub(crate) struct Probing<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) events: &'a EventSink,
    pub(crate) pod: &'a PodId,
    /// What the pod is made from: its values are taken out of what a probe says.
    pub(crate) manifest: &'a Arc<Pod>,
    pub(crate) layout: &'a Layout,
    pub(crate) field: String,
    pub(crate) container_id: &'a str,
    pub(crate) spec: &'a Container,
    pub(crate) pod_ip: Option<&'a str>,
    /// Notified of each result.
    pub(crate) wake: &'a Arc<Notify>,
}

impl Probes {
    /// Starts the probes of a container; `None` if it has none.
    pub(crate) fn start(probing: &Probing<'_>) -> Option<Self> {
        let spec = probing.spec;
        let has = |probe: &Option<Probe>| probe.is_some();
        if !has(&spec.startup_probe) && !has(&spec.liveness_probe) && !has(&spec.readiness_probe) {
            return None;
        }
        let probed =
            Probed { ready: !has(&spec.readiness_probe), started: !has(&spec.startup_probe) };
        let findings = Arc::new(Mutex::new(Findings { probed, dead: None }));
        let (started, starts) = watch::channel(probed.started);
        let started = Arc::new(started);
        let tasks = [
            (Kind::Startup, &spec.startup_probe),
            (Kind::Liveness, &spec.liveness_probe),
            (Kind::Readiness, &spec.readiness_probe),
        ];
        let tasks = tasks.into_iter().filter_map(|(kind, probe)| {
            let prober = Prober {
                kind,
                probe: probe.clone()?,
                runtime: probing.runtime.clone(),
                events: probing.events.clone(),
                pod: probing.pod.clone(),
                manifest: probing.manifest.clone(),
                layout: probing.layout.clone(),
                field: probing.field.clone(),
                container_id: probing.container_id.to_owned(),
                spec: Arc::new(ports_only(spec)),
                pod_ip: probing.pod_ip.map(str::to_owned),
                wake: probing.wake.clone(),
                findings: findings.clone(),
                started: started.clone(),
                starts: starts.clone(),
            };
            Some(AbortOnDropHandle::new(tokio::spawn(prober.run())))
        });
        let tasks = tasks.collect();
        Some(Self { findings, tasks })
    }

    pub(crate) fn probed(&self) -> Probed {
        self.findings.lock().probed
    }

    /// Which probe found the container dead: `liveness` or `startup`.
    pub(crate) fn dead(&self) -> Option<&'static str> {
        let dead = self.findings.lock().dead?;
        Some(if dead == Kind::Startup { "startup" } else { "liveness" })
    }

    /// Probes no more, and keeps the results.
    pub(crate) fn pause(&mut self) {
        self.tasks.clear();
    }
}

/// What a probe needs of the spec; the environment and the rest are not kept.
fn ports_only(spec: &Container) -> Container {
    Container { name: spec.name.clone(), ports: spec.ports.clone(), ..Default::default() }
}

struct Prober {
    kind: Kind,
    probe: Probe,
    runtime: Runtime,
    events: EventSink,
    pod: PodId,
    manifest: Arc<Pod>,
    layout: Layout,
    field: String,
    container_id: String,
    spec: Arc<Container>,
    pod_ip: Option<String>,
    wake: Arc<Notify>,
    findings: Arc<Mutex<Findings>>,
    started: Arc<watch::Sender<bool>>,
    starts: watch::Receiver<bool>,
}

impl Prober {
    async fn run(mut self) {
        if self.kind != Kind::Startup && self.starts.wait_for(|started| *started).await.is_err() {
            return;
        }
        let seconds = |value: Option<i32>, default: u64| {
            let value = value.and_then(|value| u64::try_from(value).ok());
            Duration::from_secs(value.unwrap_or(default))
        };
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|n| *n > 0).unwrap_or(default)
        };
        tokio::time::sleep(seconds(self.probe.initial_delay_seconds, 0)).await;
        let period = seconds(self.probe.period_seconds, 10).max(Duration::from_secs(1));
        let limit = seconds(self.probe.timeout_seconds, 1).max(Duration::from_secs(1));
        let mut tally = Tally::new(
            count(self.probe.success_threshold, 1),
            count(self.probe.failure_threshold, 3),
        );
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let outcome = self.ask(limit).await;
            if let Err(why) = &outcome {
                let redactor = Redactor::of_pod(&self.layout, &self.pod, pod::spec(&self.manifest));
                let why = why.redacted(&redactor);
                let message = format!("{} probe failed: {why}", self.kind.as_str());
                self.events.container(&self.pod, &self.field, Reason::Unhealthy, message);
            }
            match tally.count(outcome.is_ok()) {
                Some(verdict) if self.conclude(verdict) => return,
                _ => {}
            }
        }
    }

    async fn ask(&self, limit: Duration) -> Result<(), Failure> {
        let subject = Subject {
            runtime: &self.runtime,
            container_id: &self.container_id,
            spec: &self.spec,
            pod_ip: self.pod_ip.as_deref(),
        };
        match Action::of_probe(&self.probe) {
            Some(action) => handler::run(subject, action, limit).await,
            None => Err("this kind of probe is not supported".into()),
        }
    }

    /// Writes down what was found; `true` when there is nothing more to find.
    fn conclude(&self, verdict: bool) -> bool {
        let is_last = {
            let mut findings = self.findings.lock();
            match (self.kind, verdict) {
                (Kind::Startup, true) => findings.probed.started = true,
                (Kind::Startup | Kind::Liveness, false) => findings.dead = Some(self.kind),
                (Kind::Liveness, true) => {}
                (Kind::Readiness, ready) => findings.probed.ready = ready,
            }
            self.kind == Kind::Startup || findings.dead.is_some()
        };
        if self.kind == Kind::Startup && verdict {
            self.started.send_replace(true);
        }
        self.wake.notify_one();
        is_last
    }
}

/// Counts outcomes in a row against the thresholds.
struct Tally {
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<bool>,
    in_a_row: u32,
    verdict: Option<bool>,
}

impl Tally {
    fn new(success_threshold: u32, failure_threshold: u32) -> Self {
        Self { success_threshold, failure_threshold, last: None, in_a_row: 0, verdict: None }
    }

    /// The new verdict, if this outcome changes it.
    fn count(&mut self, success: bool) -> Option<bool> {
        self.in_a_row = if self.last == Some(success) { self.in_a_row + 1 } else { 1 };
        self.last = Some(success);
        let threshold = if success { self.success_threshold } else { self.failure_threshold };
        if self.in_a_row < threshold || self.verdict == Some(success) {
            return None;
        }
        self.verdict = Some(success);
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_takes_as_many_outcomes_in_a_row_as_its_threshold() {
        let mut tally = Tally::new(2, 3);
        let outcomes =
            [true, true, true, false, false, true, false, false, false, false, true, true];
        let verdicts: Vec<_> = outcomes.into_iter().map(|outcome| tally.count(outcome)).collect();
        let mut expected = vec![None; 12];
        expected[1] = Some(true);
        expected[8] = Some(false);
        expected[11] = Some(true);
        assert_eq!(verdicts, expected);
    }
}
