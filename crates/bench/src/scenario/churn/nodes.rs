//! The simulated nodes of a run: registered together, and watched over while anything is measured.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tokio::sync::{Barrier, Semaphore};
use tokio::task::{JoinError, JoinSet};

use super::cluster::{Cluster, RENEWALS_MAX};
use super::kubelet::Kubelet;
use crate::cluster::account::account;
use crate::cluster::workspace::LEASE_NAMESPACE;
use crate::context::Context;
use crate::measure::progress;
use crate::measure::report::Phase;
use crate::options::Protocol;
use crate::transport::client::{self, Client};
use crate::transport::target::Target;

/// Connections that the nodes' requests share; watches have others.
const REQUEST_CONNECTIONS: usize = 8;
/// The same of their status reports.
const HEARTBEAT_CONNECTIONS: usize = 2;
/// Nodes whose leases one account renews. Servers bound how many renewals of one user are under way; the
/// nodes of a real cluster are a user each, so that this does not limit them.
const NODES_PER_ACCOUNT: usize = 250;

/// Nodes and other tasks that must not end before the run does.
pub(super) struct Nodes(JoinSet<Result<()>>);

impl Nodes {
    /// Starts the nodes; returns when all are registered and watch.
    pub(super) async fn register(
        context: &Context,
        target: &Arc<Target>,
        cluster: &Arc<Cluster>,
    ) -> Result<(Self, Phase)> {
        let count = usize::try_from(cluster.layout.nodes)?;
        let name = format!("register {count} nodes");
        let protocol = context.options.for_watches();
        let streams = context.options.streams.get();
        let watches = client::connect(target, protocol, count, streams).await?;
        let shared = count.div_ceil(REQUEST_CONNECTIONS);
        let requests = client::connect(target, protocol, count, shared).await?;
        let shared = count.div_ceil(HEARTBEAT_CONNECTIONS);
        let reports = client::connect(target, protocol, count, shared).await?;
        let renewals = renewals(target, protocol, cluster, count).await?;
        let metering = context.meter.start();
        let ready = Arc::new(Barrier::new(count + 1));
        let mut nodes = Self(JoinSet::new());
        let clients = requests.into_iter().zip(watches).zip(reports.into_iter().zip(renewals));
        for (number, ((requests, watch), (reports, renewals))) in clients.enumerate() {
            let kubelet = Kubelet::new(cluster.clone(), number as u64, requests);
            nodes.0.spawn(kubelet.run(watch, reports, renewals, ready.clone()));
        }
        let all = ready.wait();
        tokio::pin!(all);
        let mut ticks = tokio::time::interval(progress::EVERY);
        loop {
            tokio::select! {
                _ = &mut all => break,
                error = nodes.failed() => return Err(error),
                _ = ticks.tick() => {
                    let done = cluster.registered() as f64 / count as f64;
                    context.progress.draw(&name, done, "nodes");
                }
            }
        }
        context.progress.clear();
        let mut phase = Phase::new(name, &cluster.next_tally(), metering.stop());
        phase.growth_per_item("memory per node with its watch", count as u64);
        Ok((nodes, phase))
    }

    /// Runs another task that must not end.
    pub(super) fn add(&mut self, task: impl Future<Output = Result<()>> + Send + 'static) {
        self.0.spawn(task);
    }

    /// Waits until one has ended, which it must not.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        match self.0.join_next().await {
            None => anyhow::anyhow!("there are no nodes"),
            Some(ended) => ended_early(ended).expect_err("it says how the task ended"),
        }
    }
}

/// A client for each node to renew its lease with, and the places of the account that it belongs to.
async fn renewals(
    target: &Arc<Target>,
    protocol: Protocol,
    cluster: &Cluster,
    count: usize,
) -> Result<Vec<(Client, Arc<Semaphore>)>> {
    let mut admin = Client::connect(target, Protocol::Http1).await?;
    let mut all = Vec::with_capacity(count);
    let rules = json!([{
        "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "patch"],
    }]);
    while all.len() < count {
        let name = format!("coffer-bench-{}-{}", cluster.run, all.len() / NODES_PER_ACCOUNT);
        let token = account(&mut admin, LEASE_NAMESPACE, &cluster.run, &name, rules.clone()).await;
        let token = token.context("no account to renew leases with")?;
        let user = target.with_token(&token).await?;
        let nodes = NODES_PER_ACCOUNT.min(count - all.len());
        let places = Arc::new(Semaphore::new(RENEWALS_MAX));
        let clients = client::connect(&user, protocol, nodes, nodes).await?;
        all.extend(clients.into_iter().map(|client| (client, places.clone())));
    }
    Ok(all)
}

fn ended_early(ended: Result<Result<()>, JoinError>) -> Result<()> {
    match ended {
        Err(stopped) => bail!("a node stopped: {stopped}"),
        Ok(Ok(())) => bail!("the server ended a watch"),
        Ok(Err(error)) => Err(error),
    }
}
