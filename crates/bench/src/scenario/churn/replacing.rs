//! Pods that drivers create and delete one by one, each waiting for the pod it is about.

use std::sync::Arc;

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use super::cluster::{Cluster, ROWS, START};
use super::nodes::Nodes;
use crate::context::Context;
use crate::load::Failed;
use crate::measure::budget::Budget;
use crate::measure::progress;
use crate::measure::report::Phase;
use crate::transport::client::{self, Client};
use crate::transport::target::Target;

/// So many drivers.
pub(super) struct Drivers<'a> {
    pub(super) context: &'a Context,
    pub(super) target: &'a Arc<Target>,
    pub(super) cluster: &'a Arc<Cluster>,
    pub(super) count: usize,
}

impl Drivers<'_> {
    /// Starts pods from number `first` on. Where there are pods already, each takes an old one's place.
    pub(super) async fn run(
        &self,
        nodes: &mut Nodes,
        name: &str,
        budget: Budget,
        first: u64,
    ) -> Result<Phase> {
        let Self { context, target, cluster, count } = *self;
        cluster.next_tally();
        let budget = Arc::new(budget);
        let options = &context.options;
        let drivers =
            client::connect(target, options.for_requests(), count, options.streams.get()).await?;
        let metering = context.meter.start();
        let mut running = JoinSet::new();
        for client in drivers {
            running.spawn(replace(cluster.clone(), client, budget.clone(), first));
        }
        let mut ticks = tokio::time::interval(progress::EVERY);
        while !running.is_empty() {
            tokio::select! {
                ended = running.join_next() => if let Some(ended) = ended { ended?? },
                error = nodes.failed() => return Err(error),
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
