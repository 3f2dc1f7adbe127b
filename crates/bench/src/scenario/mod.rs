//! What can be measured. Each scenario says what it would do, and does it.

mod baseline;
mod churn;
mod cold_start;
mod create;
mod cri;
mod disk;
mod etcd;
mod flood;
mod get;
mod list;
mod mixed;
mod node;
mod quota_fill;
mod run;
mod update;
mod watch;

use std::sync::Arc;

use anyhow::Result;
use clap::Subcommand;
use tokio_util::sync::CancellationToken;

use self::run::Run;
use crate::cluster::workspace::Workspace;
use crate::context::Context;
use crate::options::Options;
use crate::transport::echo::EchoServer;
use crate::transport::target::Target;

#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Create secrets, by several numbers of clients at the same time.
    Create(create::Create),
    /// Get one secret of many.
    Get(get::Get),
    /// Read, modify and write a few secrets by many clients, with conflicts.
    Update(update::Update),
    /// List collections of secrets, whole and in pages.
    List(list::List),
    /// One collection with many watchers: how late does each see an event?
    Watch(watch::Watch),
    /// Many watchers of one secret each, as nodes have them.
    WatchObjects(watch::WatchObjects),
    /// Reads, writes, lists and watches together; with a long time, a soak.
    Mixed(mixed::Mixed),
    /// Pods come and go on simulated nodes: kubelets in all but containers.
    Churn(churn::Churn),
    /// Fill a namespace that has a quota with pods: does the last pod cost what the first did?
    QuotaFill(quota_fill::QuotaFill),
    /// Flood a server on loopback as one ordinary user, and measure what the others notice.
    Flood(flood::Flood),
    /// Start a server again and again: how long until it is ready?
    ColdStart(cold_start::ColdStart),
    /// From nothing, or from a running cluster, to the first running pod.
    FirstPod(node::FirstPod),
    /// Start pods, compared with direct calls to the container runtime.
    PodStart(node::PodStart),
    /// A pod waits for its secret: from the secret's creation to the running container.
    SecretAppears(node::SecretAppears),
    /// What this client costs against a server that does nothing.
    Baseline(baseline::Baseline),
    /// What the disk allows: append and fdatasync, with writes that arrive together in one.
    Disk(disk::Disk),
    /// Put keys into etcd itself: what a server on top of it cannot exceed.
    Etcd(etcd::Etcd),
    /// The bare server of `baseline`.
    #[command(hide = true)]
    EchoServer(EchoServer),
}

impl Scenario {
    /// Its name on the command line.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Get(_) => "get",
            Self::Update(_) => "update",
            Self::List(_) => "list",
            Self::Watch(_) => "watch",
            Self::WatchObjects(_) => "watch-objects",
            Self::Mixed(_) => "mixed",
            Self::Churn(_) => "churn",
            Self::QuotaFill(_) => "quota-fill",
            Self::Flood(_) => "flood",
            Self::ColdStart(_) => "cold-start",
            Self::FirstPod(_) => "first-pod",
            Self::PodStart(_) => "pod-start",
            Self::SecretAppears(_) => "secret-appears",
            Self::Baseline(_) => "baseline",
            Self::Disk(_) => "disk",
            Self::Etcd(_) => "etcd",
            Self::EchoServer(_) => "echo-server",
        }
    }

    /// What it would do, line by line.
    pub(crate) fn plan(&self, options: &Options) -> Vec<String> {
        let mut lines = match self {
            Self::Create(create) => create.plan(options),
            Self::Get(get) => get.plan(options),
            Self::Update(update) => update.plan(options),
            Self::List(list) => list.plan(options),
            Self::Watch(watch) => watch.plan(options),
            Self::WatchObjects(watch) => watch.plan(options),
            Self::Mixed(mixed) => mixed.plan(options),
            Self::Churn(churn) => churn.plan(options),
            Self::QuotaFill(fill) => fill.plan(options),
            Self::Flood(flood) => flood.plan(options),
            Self::ColdStart(start) => start.plan(options),
            Self::FirstPod(pod) => pod.plan(options),
            Self::PodStart(pods) => pods.plan(options),
            Self::SecretAppears(pods) => pods.plan(options),
            Self::Baseline(baseline) => baseline.plan(options),
            Self::Disk(disk) => disk.plan(options),
            Self::Etcd(etcd) => etcd.plan(options),
            Self::EchoServer(_) => vec!["serve until standard input ends".to_owned()],
        };
        if self.works_in_a_namespace() {
            lines.insert(0, "make a namespace coffer-bench-<random>".to_owned());
            lines.push("remove the namespace and everything in it".to_owned());
        }
        lines
    }

    fn works_in_a_namespace(&self) -> bool {
        match self {
            Self::Flood(_)
            | Self::ColdStart(_)
            | Self::Baseline(_)
            | Self::Disk(_)
            | Self::Etcd(_)
            | Self::EchoServer(_) => false,
            Self::FirstPod(pod) => !pod.starts_a_server(),
            Self::Churn(churn) => !churn.starts_a_cluster(),
            _ => true,
        }
    }
}

/// Runs a scenario until it ends or is stopped, and takes away what it made.
pub(crate) async fn run(
    scenario: &Scenario,
    context: &mut Context,
    stop: &CancellationToken,
) -> Result<()> {
    if scenario.works_in_a_namespace() {
        let target = context.target().await?;
        return in_workspace(scenario, context, &target, stop).await;
    }
    if let Scenario::FirstPod(pod) = scenario {
        // It has a server to end, however it ends itself.
        return pod.measure_from_cold(context, stop).await;
    }
    if let Scenario::Churn(churn) = scenario {
        // So has this.
        return churn.measure_alone(context, stop).await;
    }
    if let Scenario::Flood(flood) = scenario {
        // It has a namespace for each flood to remove, however it ends itself.
        return flood.run(context, stop).await;
    }
    let measured = async {
        match scenario {
            Scenario::ColdStart(start) => start.measure(context).await,
            Scenario::Baseline(baseline) => baseline.measure(context).await,
            Scenario::Disk(disk) => disk.measure(context).await,
            Scenario::Etcd(etcd) => etcd.measure(context).await,
            _ => Ok(()),
        }
    };
    stop.run_until_cancelled(measured).await.unwrap_or(Ok(()))
}

async fn in_workspace(
    scenario: &Scenario,
    context: &mut Context,
    target: &Arc<Target>,
    stop: &CancellationToken,
) -> Result<()> {
    let mut workspace = Workspace::create(target).await?;
    let mut run = Run { context: &mut *context, target, workspace: &mut workspace };
    let measured = measure(scenario, &mut run);
    let outcome = stop.run_until_cancelled(measured).await.unwrap_or(Ok(()));
    context.progress.draw("cleaning up", 0.0, &workspace.namespace);
    let removed = workspace.remove().await;
    context.progress.clear();
    outcome.and(removed)
}

async fn measure(scenario: &Scenario, run: &mut Run<'_>) -> Result<()> {
    match scenario {
        Scenario::Create(create) => create.measure(run).await,
        Scenario::Get(get) => get.measure(run).await,
        Scenario::Update(update) => update.measure(run).await,
        Scenario::List(list) => list.measure(run).await,
        Scenario::Watch(watch) => watch.measure(run).await,
        Scenario::WatchObjects(watch) => watch.measure(run).await,
        Scenario::Mixed(mixed) => mixed.measure(run).await,
        Scenario::Churn(churn) => churn.measure(run).await,
        Scenario::QuotaFill(fill) => fill.measure(run).await,
        Scenario::FirstPod(pod) => pod.measure(run).await,
        Scenario::PodStart(pods) => pods.measure(run).await,
        Scenario::SecretAppears(pods) => pods.measure(run).await,
        Scenario::Flood(_)
        | Scenario::ColdStart(_)
        | Scenario::Baseline(_)
        | Scenario::Disk(_)
        | Scenario::Etcd(_)
        | Scenario::EchoServer(_) => Ok(()),
    }
}
