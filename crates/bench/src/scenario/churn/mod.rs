//! Churn: a cluster of simulated nodes on which pods come and go.
//!
//! Each node is a kubelet in all but containers ([`kubelet`]): it registers, renews its lease, watches
//! its own pods, gets the secrets they name, and reports their status. What is measured is the
//! server under the protocol of real nodes, at sizes that no machine has room for in containers.

mod cluster;
mod kubelet;

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::budget::Budget;
use crate::cli::{Options, Protocol};
use crate::client::{self, Client};
use crate::context::Context;
use crate::load::Failed;
use crate::progress;
use crate::report::Phase;
use crate::secrets::Secrets;
use crate::target::Target;
use crate::workspace::Workspace;

use cluster::{Cluster, ROWS, START};

/// Connections that the nodes' requests share, besides those of their watches.
const REQUEST_CONNECTIONS: usize = 8;

#[derive(Debug, Args)]
pub(crate) struct Churn {
    /// Simulated nodes.
    #[arg(long, value_name = "NUMBER", default_value = "100",
          value_parser = clap::value_parser!(u32).range(1..=20_000))]
    nodes: u32,
    /// Pods that run at the same time, spread over the nodes.
    #[arg(long, value_name = "NUMBER", default_value = "1000",
          value_parser = clap::value_parser!(u32).range(1..=500_000))]
    pods: u32,
    /// Secrets that the pods share; each pod mounts one.
    #[arg(long, value_name = "NUMBER", default_value = "1000")]
    secrets: NonZeroU64,
    /// Pods that are being started at the same time.
    #[arg(long, value_name = "NUMBER", default_value = "64")]
    starting: NonZeroUsize,
    /// Seconds between a node's renewals of its lease.
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    lease_seconds: NonZeroU64,
    /// Let the cluster's scheduler choose the nodes, rather than naming them.
    #[arg(long)]
    schedule: bool,
}

impl Churn {
    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        let by = if self.schedule { "the cluster's scheduler" } else { "name" };
        vec![
            format!("create {} secrets of {} bytes", self.secrets, options.size),
            format!(
                "register {} nodes, tainted against other pods, each with a lease every {} s and a \
                 watch of its pods",
                self.nodes, self.lease_seconds
            ),
            format!(
                "start {} pods, {} at a time, bound by {by}; their nodes get their secrets and report \
                 that they run",
                self.pods, self.starting
            ),
            format!("replace the oldest pods by new ones, {}", options.bounds_text()),
            "remove the nodes and leases".to_owned(),
        ]
    }

    pub(super) async fn measure(
        &self,
        context: &mut Context,
        target: &Arc<Target>,
        workspace: &mut Workspace,
    ) -> Result<()> {
        workspace.simulated = true;
        workspace.ensure_default_account().await?;
        let secrets = Secrets::new(&workspace.namespace, "churn", context);
        secrets.populate(context, target, 0..self.secrets.get()).await?;
        let cluster = Cluster::new(workspace, secrets, self.layout());
        let cluster = Arc::new(cluster);
        let mut nodes = JoinSet::new();
        let phase = self.register(context, target, &cluster, &mut nodes).await?;
        context.push(phase);
        let watch = Client::connect(target, Protocol::Http2).await?;
        nodes.spawn(cluster::follow(cluster.clone(), watch));
        cluster.watching().await;

        let pods = u64::from(self.pods);
        let budget = Budget::new(Some(pods), None);
        let name = format!("start {pods} pods");
        let mut phase = self.drive(context, target, &cluster, &mut nodes, &name, budget, 0).await?;
        per_item(&mut phase, "memory per pod", pods);
        context.push(phase);

        let (count, time) = context.options.bounds();
        let budget = Budget::new(count, time);
        let name = format!("replace pods on {} nodes", self.nodes);
        let phase = self.drive(context, target, &cluster, &mut nodes, &name, budget, pods).await?;
        context.push(phase);
        Ok(())
    }

    fn layout(&self) -> cluster::Layout {
        cluster::Layout {
            nodes: u64::from(self.nodes),
            pods_per_node: u64::from(self.pods).div_ceil(u64::from(self.nodes)).max(110) + 64,
            secrets: self.secrets.get(),
            lease_every: Duration::from_secs(self.lease_seconds.get()),
            schedule: self.schedule,
        }
    }

    /// Starts the nodes; answers when all are registered and watch.
    async fn register(
        &self,
        context: &Context,
        target: &Arc<Target>,
        cluster: &Arc<Cluster>,
        nodes: &mut JoinSet<Result<()>>,
    ) -> Result<Phase> {
        let count = self.nodes as usize;
        let name = format!("register {count} nodes");
        let protocol = context.options.for_watches();
        let streams = context.options.streams.get();
        let watches = client::connect(target, protocol, count, streams).await?;
        let shared = count.div_ceil(REQUEST_CONNECTIONS);
        let requests = client::connect(target, protocol, count, shared).await?;
        let metering = context.meter.start();
        let ready = Arc::new(Barrier::new(count + 1));
        for (number, (requests, watch)) in requests.into_iter().zip(watches).enumerate() {
            let kubelet = kubelet::Kubelet::new(cluster.clone(), number as u64, requests);
            nodes.spawn(kubelet.run(watch, ready.clone()));
        }
        let all = ready.wait();
        tokio::pin!(all);
        let mut ticks = tokio::time::interval(progress::EVERY);
        loop {
            tokio::select! {
                _ = &mut all => break,
                ended = nodes.join_next() => ended_early(ended)?,
                _ = ticks.tick() => {
                    let done = cluster.registered() as f64 / count as f64;
                    context.progress.draw(&name, done, "nodes");
                }
            }
        }
        context.progress.clear();
        let mut phase = Phase::new(name, &cluster.next_tally(), metering.stop());
        per_item(&mut phase, "memory per node with its watch", u64::from(self.nodes));
        Ok(phase)
    }

    /// Starts pods from number `first` on. Where there are pods already, each takes an old one's place.
    #[expect(
        clippy::too_many_arguments,
        reason = "a phase is all of these and no thing of its own"
    )]
    async fn drive(
        &self,
        context: &Context,
        target: &Arc<Target>,
        cluster: &Arc<Cluster>,
        nodes: &mut JoinSet<Result<()>>,
        name: &str,
        budget: Budget,
        first: u64,
    ) -> Result<Phase> {
        cluster.next_tally();
        let budget = Arc::new(budget);
        let options = &context.options;
        let drivers = client::connect(
            target,
            options.for_requests(),
            self.starting.get(),
            options.streams.get(),
        )
        .await?;
        let metering = context.meter.start();
        let mut running = JoinSet::new();
        for client in drivers {
            running.spawn(replace(cluster.clone(), client, budget.clone(), first));
        }
        let mut ticks = tokio::time::interval(progress::EVERY);
        while !running.is_empty() {
            tokio::select! {
                ended = running.join_next() => if let Some(ended) = ended { ended?? },
                ended = nodes.join_next() => ended_early(ended)?,
                _ = ticks.tick() => {
                    let started = format!("{} pods", cluster.tally().count(START));
                    context.progress.draw(name, budget.spent(), &started);
                }
            }
        }
        context.progress.clear();
        let tally = cluster.next_tally();
        let mut phase = Phase::new(name, &tally, metering.stop());
        phase.operations = (0..START).map(|row| tally.count(row)).sum();
        let pods = tally.count(START) as f64;
        phase.fact("pods started", pods / phase.seconds, "per second");
        Ok(phase)
    }
}

/// One driver: deletes the oldest pod if there is one to replace, starts a new one, waits for both.
async fn replace(
    cluster: Arc<Cluster>,
    mut client: Client,
    budget: Arc<Budget>,
    first: u64,
) -> Result<()> {
    while let Some(number) = budget.take() {
        let done = async {
            if first > 0 {
                cluster.delete_pod(&mut client, number).await?;
            }
            cluster.start_pod(&mut client, first + number).await
        };
        if let Err(Failed(row, error)) = done.await {
            let tally = cluster.tally();
            tally.fail(row, &error.label());
            match error.retry_after() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => bail!("{}: {error}", ROWS[row]),
            }
        }
    }
    Ok(())
}

fn ended_early(ended: Option<Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    match ended {
        None => bail!("there are no nodes"),
        Some(Err(stopped)) => bail!("a node stopped: {stopped}"),
        Some(Ok(Ok(()))) => bail!("the server ended a node's watch"),
        Some(Ok(Err(error))) => Err(error),
    }
}

/// What the server's memory grew by in a phase, for each of so many.
fn per_item(phase: &mut Phase, what: &'static str, items: u64) {
    if phase.server.is_empty() {
        return;
    }
    let grown =
        |usage: &crate::meter::Usage| usage.rss_end_bytes.saturating_sub(usage.rss_start_bytes);
    let grown: u64 = phase.server.iter().map(grown).sum();
    phase.fact(what, grown as f64 / items as f64, "bytes");
}

/// Waits for a pod that a driver has asked for; the rest of the cluster must not take longer.
const PATIENCE: Duration = Duration::from_secs(60);
