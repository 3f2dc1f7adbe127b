//! Load: a number of clients, each of which does the next thing when the last one has completed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use crate::context::Context;
use crate::measure::budget::Budget;
use crate::measure::progress;
use crate::measure::report::Phase;
use crate::measure::stats::Tally;
use crate::transport::client::{self, CallError, Client};
use crate::transport::target::Target;

/// A client that fails this often without a success in between has nothing left to measure.
const FAILURES_IN_A_ROW_MAX: u32 = 50;

/// What clients do.
pub(crate) trait Work: Send + Sync + 'static {
    /// The operations it counts.
    const ROWS: &'static [&'static str];

    /// Does the operation of this number, and records what of it counts. An error is counted by
    /// the caller, in the row it names.
    fn step(
        &self,
        client: &mut Client,
        number: u64,
        tally: &Tally,
    ) -> impl Future<Output = Result<(), Failed>> + Send;
}

/// An operation that failed, and the row it belongs to.
pub(crate) struct Failed(pub(crate) usize, pub(crate) CallError);

/// Makes an error one of a row.
pub(crate) fn in_row(row: usize) -> impl FnOnce(CallError) -> Failed {
    move |error| Failed(row, error)
}

/// Runs a phase: so many clients, within a budget that begins when all are connected.
pub(crate) async fn run<W: Work>(
    context: &Context,
    target: &Arc<Target>,
    name: &str,
    clients: usize,
    bounds: (Option<u64>, Option<Duration>),
    work: Arc<W>,
) -> Result<Phase> {
    let options = &context.options;
    let clients =
        client::connect(target, options.for_requests(), clients, options.streams.get()).await?;
    let budget = Arc::new(Budget::new(bounds.0, bounds.1));
    let tally = Arc::new(Tally::new(W::ROWS));
    let metering = context.meter.start();
    let mut running = JoinSet::new();
    for client in clients {
        running.spawn(one(client, work.clone(), budget.clone(), tally.clone()));
    }
    wait(context, name, &budget, &tally, &mut running).await?;
    context.progress.clear();
    Ok(Phase::new(name, &tally, metering.stop()))
}

async fn wait(
    context: &Context,
    name: &str,
    budget: &Budget,
    tally: &Tally,
    running: &mut JoinSet<()>,
) -> Result<()> {
    let mut ticks = tokio::time::interval(progress::EVERY);
    loop {
        tokio::select! {
            ended = running.join_next() => match ended {
                None => return Ok(()),
                Some(Ok(())) => {}
                Some(Err(stopped)) => bail!("a client stopped: {stopped}"),
            },
            _ = ticks.tick() => {
                context.progress.draw(name, budget.spent(), &format!("{} done", tally.total()));
            }
        }
    }
}

async fn one<W: Work>(mut client: Client, work: Arc<W>, budget: Arc<Budget>, tally: Arc<Tally>) {
    let mut failures = 0;
    while let Some(number) = budget.take() {
        let Err(Failed(row, error)) = work.step(&mut client, number, &tally).await else {
            failures = 0;
            continue;
        };
        tally.fail(row, &error.label());
        failures += 1;
        if failures >= FAILURES_IN_A_ROW_MAX {
            return;
        }
        if let Some(pause) = error.retry_after() {
            tokio::time::sleep(pause).await;
        }
    }
}
