//! This machine as a Node: registered, kept alive by a Lease, its conditions posted.

mod lease;
mod machine;
mod status;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use coffer_client::error::{is_already_exists, is_not_found};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use self::machine::Machine;
use self::machine::Pressure;
pub use self::status::KUBELET_VERSION;
use self::status::{NodeView, Readiness};
use crate::backoff::{self, Backoff, jitter};
use crate::event::{EventSink, Reason};
use crate::objects::root_cause;
use crate::redact::Redactor;
use crate::runtime::{Runtime, RuntimeError, RuntimeHealth};

/// How often the node's state is looked at; upstream's `nodeStatusUpdateFrequency`.
const LOOK_PERIOD: Duration = Duration::from_secs(10);
/// The same while it is not ready, so that it becomes so soon.
const LOOK_PERIOD_NOT_READY: Duration = Duration::from_secs(1);
/// How often an unchanged state is posted; upstream's `nodeStatusReportFrequency`.
const REPORT_PERIOD: Duration = Duration::from_secs(300);

/// What the node agent is made from.
pub(crate) struct NodeAgent {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) server_port: u16,
    pub(crate) max_pods: u32,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) root: PathBuf,
    pub(crate) machine: Machine,
    pub(crate) client: kube::Client,
    pub(crate) runtime: Runtime,
    pub(crate) health: watch::Receiver<RuntimeHealth>,
    pub(crate) events: EventSink,
}

/// What was posted last.
#[derive(Default)]
struct Posted {
    conditions: Vec<NodeCondition>,
    readiness: Option<Readiness>,
    pressure: Pressure,
    at: Option<Instant>,
}

impl NodeAgent {
    /// Registers the node and keeps it up to date until dropped.
    pub(crate) async fn run(mut self) {
        self.events.node(&self.name, Reason::StartingKubelet, "Starting kubelet.".to_owned());
        let uid = self.registered().await;
        let lease = lease::renew(self.client.clone(), self.name.clone(), uid);
        let mut health = self.health.clone();
        let status = async {
            let mut posted = Posted::default();
            let mut next = Instant::now();
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(next) => {}
                    changed = health.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                }
                let is_ready = self.refresh(&mut posted).await;
                let period = if is_ready { LOOK_PERIOD } else { LOOK_PERIOD_NOT_READY };
                next = Instant::now() + jitter(period, backoff::PERIOD_JITTER);
            }
        };
        tokio::join!(lease, status);
    }

    /// Looks at the node and posts what changed. Returns whether it is posted as ready.
    async fn refresh(&mut self, posted: &mut Posted) -> bool {
        let (readiness, version) = self.readiness().await;
        let pressure = Pressure::read(&self.root).unwrap_or_default();
        let fresh = posted.at.is_some_and(|at| at.elapsed() < REPORT_PERIOD);
        if fresh && posted.readiness.as_ref() == Some(&readiness) && posted.pressure == pressure {
            return readiness == Readiness::Ready;
        }
        let view = self.view(&readiness, pressure, &version);
        let posting = self.post(&view, &posted.conditions);
        let Ok(outcome) = tokio::time::timeout(LOOK_PERIOD, posting).await else {
            tracing::debug!("node status update timed out");
            return false;
        };
        match outcome {
            Ok(conditions) => {
                self.say(posted.readiness.as_ref(), &readiness);
                let is_ready = readiness == Readiness::Ready;
                let at = Some(Instant::now());
                *posted = Posted { conditions, readiness: Some(readiness), pressure, at };
                is_ready
            }
            Err(error) if is_not_found(&error) => {
                // A client deleted the node while it runs.
                self.registered().await;
                false
            }
            Err(error) => {
                tracing::debug!(cause = root_cause(&error), "node status update failed");
                false
            }
        }
    }

    fn say(&self, before: Option<&Readiness>, now: &Readiness) {
        if before == Some(now) {
            return;
        }
        let (reason, name) = match now {
            Readiness::Ready => (Reason::NodeReady, "NodeReady"),
            Readiness::NotReady(_) => (Reason::NodeNotReady, "NodeNotReady"),
        };
        let message = format!("Node {} status is now: {name}", self.name);
        self.events.node(&self.name, reason, message);
    }

    fn view<'a>(
        &'a self,
        readiness: &'a Readiness,
        pressure: Pressure,
        version: &'a str,
    ) -> NodeView<'a> {
        NodeView {
            name: &self.name,
            ip: self.ip,
            server_port: self.server_port,
            max_pods: self.max_pods,
            machine: &self.machine,
            runtime_version: version,
            pressure,
            readiness,
        }
    }

    /// What the runtime says of itself, and its version as Nodes show it.
    async fn readiness(&self) -> (Readiness, String) {
        let version = match self.runtime.version().await {
            Ok(version) => format!("{}://{}", version.name, version.version),
            Err(error) => return (no_status(&error), String::new()),
        };
        let conditions = match self.runtime.conditions().await {
            Ok(conditions) => conditions,
            Err(error) => return (no_status(&error), version),
        };
        let mut problems = Vec::new();
        for (name, what) in [
            ("RuntimeReady", "container runtime not ready"),
            ("NetworkReady", "container runtime network not ready"),
        ] {
            match conditions.iter().find(|condition| condition.name == name) {
                Some(found) if found.is_true => {}
                Some(found) => {
                    let why = Redactor::without_values().redact(&found.why);
                    problems.push(format!("{what}: {name}=false {why}"));
                }
                None => problems.push(format!("{what}: {name} is not reported")),
            }
        }
        let readiness = match problems.len() {
            0 => Readiness::Ready,
            1 => Readiness::NotReady(problems.swap_remove(0)),
            _ => Readiness::NotReady(format!("[{}]", problems.join(", "))),
        };
        (readiness, version)
    }

    /// Makes the Node object, or adopts the one that is there. Returns its uid.
    async fn registered(&self) -> String {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let mut backoff = Backoff::new(backoff::API);
        loop {
            match tokio::time::timeout(LOOK_PERIOD, self.register(&nodes)).await {
                Ok(Ok(node)) => return node.metadata.uid.unwrap_or_default(),
                Ok(Err(error)) => {
                    tracing::debug!(
                        cause = root_cause(&error),
                        "node registration failed, retrying"
                    );
                }
                Err(_) => tracing::debug!("node registration timed out, retrying"),
            }
            backoff.wait().await;
        }
    }

    async fn register(&self, nodes: &Api<Node>) -> kube::Result<Node> {
        let (readiness, version) = self.readiness().await;
        let pressure = Pressure::read(&self.root).unwrap_or_default();
        let view = self.view(&readiness, pressure, &version);
        let node = status::node(&view, &self.labels, Timestamp::now());
        match nodes.create(&PostParams::default(), &node).await {
            Err(error) if is_already_exists(&error) => {
                let labels = json!({"metadata": {"labels": node.metadata.labels}});
                let params = PatchParams::default();
                nodes.patch(&self.name, &params, &Patch::Merge(&labels)).await
            }
            result => result,
        }
    }

    async fn post(
        &self,
        view: &NodeView<'_>,
        known: &[NodeCondition],
    ) -> kube::Result<Vec<NodeCondition>> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let from_server;
        let known = if known.is_empty() {
            let node = nodes.get(&self.name).await?;
            from_server = node.status.and_then(|status| status.conditions).unwrap_or_default();
            &from_server
        } else {
            known
        };
        let status = status::status(view, known, Timestamp::now());
        let conditions = status.conditions.clone().unwrap_or_default();
        let patch = json!({"status": status});
        nodes.patch_status(&self.name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
        Ok(conditions)
    }
}

/// Why the node is not ready where the runtime does not say how it is. It is down only where it cannot be
/// reached.
fn no_status(error: &RuntimeError) -> Readiness {
    let cause = match error.is_outage() {
        true => "container runtime is down".to_owned(),
        false => {
            let error = error.redacted(&Redactor::without_values());
            format!("container runtime status check failed: {error}")
        }
    };
    Readiness::NotReady(cause)
}
