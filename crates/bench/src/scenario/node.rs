//! Pods on real nodes, timed from outside: by when the API shows them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use http::Method;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::cri::Cri;
use super::run::Run;
use crate::cluster::launch::Launched;
use crate::cluster::pods::{self, Board};
use crate::cluster::workspace::{Workspace, json_body};
use crate::context::Context;
use crate::load::secrets::Secrets;
use crate::measure::meter::Metered;
use crate::measure::report::Phase;
use crate::measure::stats::Tally;
use crate::options::Options;
use crate::transport::client::{APPLICATION_JSON, Client};
use crate::transport::target::Target;
use crate::transport::wire::Condition;

/// How long a pod may take to run, and to be removed.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How long to wait for the kubelet to say that a secret is missing.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// What pods run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Image {
    /// An image that the nodes have, or can pull, and that has `sleep`.
    #[arg(long, value_name = "IMAGE", default_value = "busybox")]
    image: String,
}

#[derive(Debug, Args)]
pub(crate) struct FirstPod {
    #[command(flatten)]
    image: Image,
    /// Start a server with a node first, with this command line; {dir} in it, and in --kubeconfig,
    /// stands for a new directory.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PodStart {
    #[command(flatten)]
    image: Image,
    /// A container runtime on this machine, such as unix:///run/containerd/containerd.sock: run as
    /// many pods there by bare calls, to compare.
    #[arg(long, value_name = "ENDPOINT")]
    cri: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SecretAppears {
    #[command(flatten)]
    image: Image,
}

/// A namespace with a client, and its pods as they are seen.
struct Pods<'a> {
    workspace: &'a Workspace,
    image: &'a str,
    client: Client,
    board: Board,
}

impl<'a> Pods<'a> {
    async fn open(
        target: &Arc<Target>,
        options: &Options,
        workspace: &'a mut Workspace,
        image: &'a Image,
    ) -> Result<Self> {
        workspace.ensure_default_account().await?;
        let workspace = &*workspace;
        let protocol = options.for_requests();
        let board = Board::open(Client::connect(target, protocol).await?, workspace).await?;
        let client = Client::connect(target, protocol).await?;
        Ok(Self { workspace, image: &image.image, client, board })
    }

    /// Creates a pod; returns when the request was sent.
    async fn create(&mut self, name: &str, secret: Option<&str>) -> Result<Instant> {
        let pod = pods::pod(name, self.image, secret, &self.workspace.run);
        let at = Instant::now();
        self.client.call(Method::POST, &self.workspace.path("pods"), json_body(&pod)).await?;
        Ok(at)
    }

    async fn scheduled(&mut self, name: &str) -> Result<Instant> {
        self.board.until(name, "scheduled", TIMEOUT, |seen| seen.scheduled).await
    }

    async fn running(&mut self, name: &str) -> Result<Instant> {
        self.board.until(name, "running", TIMEOUT, |seen| seen.running).await
    }

    /// Deletes a pod and waits until it no longer exists; returns how long that took.
    async fn end(&mut self, name: &str) -> Result<Duration> {
        let path = format!("{}/{name}", self.workspace.path("pods"));
        let at = Instant::now();
        self.client.call(Method::DELETE, &path, None).await?;
        Ok(self.board.until(name, "gone", TIMEOUT, |seen| seen.gone).await? - at)
    }
}

impl FirstPod {
    pub(super) fn starts_a_server(&self) -> bool {
        !self.command.is_empty()
    }

    pub(super) fn plan(&self, _: &Options) -> Vec<String> {
        let mut lines = Vec::new();
        if self.starts_a_server() {
            lines.push(format!("start {:?} on a new directory", self.command.join(" ")));
            lines.push("wait for /readyz and for a node that is Ready".to_owned());
        }
        lines.push(format!("create a pod of {} and wait until it runs", self.image.image));
        if self.starts_a_server() {
            lines.push("end the server with SIGTERM".to_owned());
        }
        lines
    }

    /// On a cluster that runs.
    pub(super) async fn measure(&self, run: &mut Run<'_>) -> Result<()> {
        let Run { context, target, workspace } = run;
        let mut phase = Phase { name: "first pod".to_owned(), ..Default::default() };
        let start = Instant::now();
        self.pod(context, target, workspace, start, &mut phase).await?;
        context.push(phase);
        Ok(())
    }

    /// From nothing: the command line is started, and ended however this ends.
    pub(super) async fn measure_from_cold(
        &self,
        context: &mut Context,
        stop: &CancellationToken,
    ) -> Result<()> {
        let directory = tempfile::Builder::new().prefix("coffer-bench-").tempdir()?;
        let mut server = Launched::start(&self.command, directory.path(), &context.options)?;
        let measured = self.cold(context, &mut server);
        let outcome = stop.run_until_cancelled(measured).await.unwrap_or(Ok(()));
        let ended = server.end().await;
        outcome.and(ended.map(drop))
    }

    async fn cold(&self, context: &mut Context, server: &mut Launched) -> Result<()> {
        let name = "first pod, from the start of the process".to_owned();
        let mut phase = Phase { name, ..Default::default() };
        let target = server.ready().await?;
        phase.fact("server ready after", server.at().elapsed().as_secs_f64(), "seconds");
        context.ask_version(&target).await?;
        node_ready(&target).await?;
        phase.fact("node ready after", server.at().elapsed().as_secs_f64(), "seconds");
        let mut workspace = Workspace::create(&target).await?;
        let outcome = self.pod(context, &target, &mut workspace, server.at(), &mut phase).await;
        let removed = workspace.remove().await;
        outcome.and(removed)?;
        context.push(phase);
        Ok(())
    }

    async fn pod(
        &self,
        context: &Context,
        target: &Arc<Target>,
        workspace: &mut Workspace,
        start: Instant,
        phase: &mut Phase,
    ) -> Result<()> {
        let mut pods = Pods::open(target, &context.options, workspace, &self.image).await?;
        let created = pods.create("first", None).await?;
        let steps = [
            ("pod created after", created),
            ("pod scheduled after", pods.scheduled("first").await?),
            ("pod running after", pods.running("first").await?),
        ];
        for (name, at) in steps {
            phase.fact(name, (at - start).as_secs_f64(), "seconds");
        }
        phase.seconds = start.elapsed().as_secs_f64();
        pods.end("first").await?;
        Ok(())
    }
}

#[derive(Deserialize)]
struct Nodes {
    items: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Default, Deserialize)]
struct NodeStatus {
    #[serde(default)]
    conditions: Vec<Condition>,
}

async fn node_ready(target: &Arc<Target>) -> Result<()> {
    let mut client = Client::connect(target, crate::options::Protocol::Http1).await?;
    let end = Instant::now() + TIMEOUT;
    loop {
        let nodes: Nodes = client.get("/api/v1/nodes").await?;
        let mut conditions = nodes.items.iter().flat_map(|node| &node.status.conditions);
        if conditions.any(Condition::is_ready) {
            return Ok(());
        }
        if Instant::now() >= end {
            bail!("no node was ready within {} s", TIMEOUT.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

const SCHEDULED: usize = 0;
const RUNNING: usize = 1;
const GONE: usize = 2;
const POD_ROWS: &[&str] = &["created → scheduled", "created → running", "deleted → gone"];
const CRI_ROWS: &[&str] = &[
    "run sandbox",
    "create container",
    "start container",
    "the three together",
    "stop and remove",
];

impl PodStart {
    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        let (count, image) = (options.count_or(10), &self.image.image);
        let mut lines =
            vec![format!("one after the other, start {count} pods of {image} and delete them")];
        if let Some(endpoint) = &self.cri {
            lines.push(format!("the same by bare calls to {endpoint}"));
        }
        lines
    }

    pub(super) async fn measure(&self, run: &mut Run<'_>) -> Result<()> {
        let Run { context, target, workspace } = run;
        let count = context.options.count_or(10);
        let secrets = Secrets::new(&workspace.namespace, "pod", context);
        secrets.populate(context, target, 0..1).await?;
        let secret = secrets.name(0);
        let mut pods = Pods::open(target, &context.options, workspace, &self.image).await?;
        let tally = Tally::new(POD_ROWS);
        let metering = context.meter.start();
        for number in 0..count {
            context.progress.draw("pod start", number as f64 / count as f64, "");
            let name = format!("pod-{number}");
            let created = pods.create(&name, Some(&secret)).await?;
            tally.record(SCHEDULED, pods.scheduled(&name).await? - created);
            tally.record(RUNNING, pods.running(&name).await? - created);
            tally.record(GONE, pods.end(&name).await?);
        }
        let phase = Phase::new("pods that mount a secret, one by one", &tally, metering.stop());
        context.push(Phase { operations: count, ..phase });
        match &self.cri {
            Some(endpoint) => self.bare(context, endpoint, count).await,
            None => Ok(()),
        }
    }

    async fn bare(&self, context: &mut Context, endpoint: &str, count: u64) -> Result<()> {
        let mut cri = Cri::connect(endpoint).await?;
        let logs = tempfile::Builder::new().prefix("coffer-bench-").tempdir()?;
        let (tally, start) = (Tally::new(CRI_ROWS), Instant::now());
        for number in 0..count {
            context.progress.draw("bare calls", number as f64 / count as f64, "");
            let name = format!("coffer-bench-{}-{number}", std::process::id());
            let calls = cri.pod(&name, &self.image.image, logs.path()).await?;
            let together = calls.sandbox + calls.create + calls.start;
            let all = [calls.sandbox, calls.create, calls.start, together, calls.end];
            for (row, took) in all.into_iter().enumerate() {
                tally.record(row, took);
            }
        }
        let metered = Metered { took: start.elapsed(), ..Default::default() };
        context.push(Phase::new("the container runtime alone", &tally, metered));
        Ok(())
    }
}

#[derive(Deserialize)]
struct Events {
    items: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    reason: Option<String>,
}

impl SecretAppears {
    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        vec![format!(
            "{} times: create a pod of {} that mounts a secret which is not there, wait until its \
             node misses it, create the secret, wait until the pod runs",
            options.count_or(10),
            self.image.image
        )]
    }

    pub(super) async fn measure(&self, run: &mut Run<'_>) -> Result<()> {
        let Run { context, target, workspace } = run;
        let count = context.options.count_or(10);
        let secrets = Secrets::new(&workspace.namespace, "late", context);
        let mut pods = Pods::open(target, &context.options, workspace, &self.image).await?;
        let tally = Tally::new(&["secret created → running"]);
        let metering = context.meter.start();
        for number in 0..count {
            context.progress.draw("secret appears", number as f64 / count as f64, "");
            let name = format!("pod-{number}");
            pods.create(&name, Some(&secrets.name(number))).await?;
            pods.scheduled(&name).await?;
            missed(&mut pods, &name).await?;
            let body = Some((APPLICATION_JSON, secrets.body(number)));
            let at = Instant::now();
            pods.client.call(Method::POST, &secrets.path, body).await?;
            tally.record(0, pods.running(&name).await? - at);
            pods.end(&name).await?;
        }
        context.push(Phase::new("pods that wait for a secret", &tally, metering.stop()));
        Ok(())
    }
}

/// Waits until the kubelet has said that it cannot mount. A kubelet that keeps silent is given a
/// bounded time: it has looked by then.
async fn missed(pods: &mut Pods<'_>, pod: &str) -> Result<()> {
    let path =
        format!("{}?fieldSelector=involvedObject.name%3D{pod}", pods.workspace.path("events"));
    let end = Instant::now() + EVENT_TIMEOUT;
    while Instant::now() < end {
        let events: Events = pods.client.get(&path).await.context("cannot read events")?;
        if events.items.iter().any(|event| event.reason.as_deref() == Some("FailedMount")) {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
