//! Churn: a cluster of simulated nodes on which pods come and go.
//!
//! Each node is a kubelet in all but containers ([`kubelet`]): it registers, renews its lease, watches
//! its own pods, gets the secrets they name, and reports their status. What is measured is the
//! server under the protocol of real nodes, at sizes that no machine has room for in containers.
//!
//! Pods are made one by one ([`replacing`]), or by Deployments with the real controllers and scheduler
//! at work ([`deployments`]).

mod cluster;
mod deployments;
mod follow;
mod kubelet;
mod nodes;
mod replacing;
mod seen;
mod template;

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio_util::sync::CancellationToken;

use self::cluster::{Cluster, Layout};
use self::deployments::Deployments;
use self::nodes::Nodes;
use self::replacing::Drivers;
use super::run::Run;
use crate::cluster::control_plane::ControlPlane;
use crate::cluster::workspace::Workspace;
use crate::context::Context;
use crate::load::secrets::Secrets;
use crate::measure::budget::Budget;
use crate::options::{Options, Protocol};
use crate::transport::client::Client;
use crate::transport::target::Target;

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
    #[command(flatten)]
    deployments: Deployments,
}

impl Churn {
    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        let by = if self.schedule { "the cluster's scheduler" } else { "name" };
        let mut lines = vec![
            format!("create {} secrets of {} bytes", self.secrets(), options.size),
            format!(
                "register {} nodes, tainted against other pods, each with a lease every {} s and a \
                 watch of its pods",
                self.nodes, self.lease_seconds
            ),
        ];
        if let Some(coffer) = &self.deployments.coffer {
            let parts = "API server, controller manager and scheduler";
            lines.insert(0, format!("start {parts} of {}", coffer.display()));
        }
        if self.deployments.wanted() {
            lines.extend(self.deployments.plan());
        } else {
            lines.push(format!(
                "start {} pods, {} at a time, bound by {by}; their nodes get their secrets and report \
                 that they run",
                self.pods, self.starting
            ));
            lines.push(format!("replace the oldest pods by new ones, {}", options.bounds_text()));
        }
        lines.push(match self.starts_a_cluster() {
            true => "end what was started".to_owned(),
            false => "remove the nodes and leases".to_owned(),
        });
        lines
    }

    /// Whether it works on a control plane of its own.
    pub(super) fn starts_a_cluster(&self) -> bool {
        self.deployments.coffer.is_some()
    }

    /// On a control plane of its own, which is ended however this ends.
    pub(super) async fn measure_alone(
        &self,
        context: &mut Context,
        stop: &CancellationToken,
    ) -> Result<()> {
        let Some(coffer) = &self.deployments.coffer else { return Ok(()) };
        self.deployments.check_room(u64::from(self.nodes))?;
        let started = stop.run_until_cancelled(ControlPlane::start(coffer));
        let Some(started) = started.await else { return Ok(()) };
        let (mut parts, target) = started?;
        let measured = async {
            context.meter = parts.meter()?;
            context.ask_version(&target).await?;
            let mut workspace = Workspace::create(&target).await?;
            self.deploy(context, &target, &mut workspace, Some(&mut parts)).await
        };
        let outcome = stop.run_until_cancelled(measured).await.unwrap_or(Ok(()));
        let ended = parts.end().await;
        outcome.and(ended)
    }

    /// On a cluster that runs.
    pub(super) async fn measure(&self, run: &mut Run<'_>) -> Result<()> {
        let Run { context, target, workspace } = run;
        if self.deployments.wanted() {
            self.deployments.check_room(u64::from(self.nodes))?;
            return self.deploy(context, target, workspace, None).await;
        }
        let (cluster, mut nodes) = self.nodes(context, target, workspace).await?;
        let watch = Client::connect(target, Protocol::Http2).await?;
        nodes.add(cluster::follow(cluster.clone(), watch));
        cluster.watching().await;

        let count = self.starting.get();
        let pods = u64::from(self.pods);
        let budget = Budget::new(Some(pods), None);
        let name = format!("start {pods} pods");
        let drivers = Drivers { context, target, cluster: &cluster, count };
        let mut start = drivers.run(&mut nodes, &name, budget, 0).await?;
        start.growth_per_item("memory per pod", pods);
        context.push(start);

        let (operations, time) = context.options.bounds();
        let budget = Budget::new(operations, time);
        let name = format!("replace pods on {} nodes", self.nodes);
        let drivers = Drivers { context, target, cluster: &cluster, count };
        let replace = drivers.run(&mut nodes, &name, budget, pods).await?;
        context.push(replace);
        Ok(())
    }

    async fn deploy(
        &self,
        context: &mut Context,
        target: &Arc<Target>,
        workspace: &mut Workspace,
        parts: Option<&mut ControlPlane>,
    ) -> Result<()> {
        let nodes = self.nodes(context, target, workspace).await?;
        let deployments = &self.deployments;
        let run = deployments::Run::prepare(deployments, context, target, workspace, nodes, parts)
            .await?;
        run.measure(context).await
    }

    /// The nodes, and the secrets that their pods will mount.
    async fn nodes(
        &self,
        context: &mut Context,
        target: &Arc<Target>,
        workspace: &mut Workspace,
    ) -> Result<(Arc<Cluster>, Nodes)> {
        workspace.simulated = true;
        workspace.ensure_default_account().await?;
        let secrets = Secrets::new(&workspace.namespace, "churn", context);
        secrets.populate(context, target, 0..self.secrets()).await?;
        let cluster = Arc::new(Cluster::new(workspace, secrets, self.layout()));
        let (nodes, phase) = Nodes::register(context, target, &cluster).await?;
        context.push(phase);
        Ok((cluster, nodes))
    }

    fn secrets(&self) -> u64 {
        if self.deployments.wanted() { self.deployments.count() } else { self.secrets.get() }
    }

    fn layout(&self) -> Layout {
        let nodes = u64::from(self.nodes);
        // While a pod is replaced its node has both.
        let pods = u64::from(self.pods).div_ceil(nodes).max(deployments::PODS_PER_NODE) + 64;
        let deployed = self.deployments.wanted();
        Layout {
            nodes,
            pods_per_node: if deployed { deployments::PODS_PER_NODE } else { pods },
            secrets: self.secrets(),
            lease_every: Duration::from_secs(self.lease_seconds.get()),
            schedule: self.schedule,
        }
    }
}
