//! The limit of durable writes: records appended to a file, one fdatasync for those that arrive
//! together. A store that promises durability can at best be this fast.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::load::clients::{Clients, clients_text};
use crate::measure::budget::Budget;
use crate::measure::progress;
use crate::measure::report::Phase;
use crate::measure::stats::Tally;
use crate::options::Options;

/// Records that share an fdatasync at most.
const BATCH_MAX: usize = 256;

#[derive(Debug, Args)]
pub(crate) struct Disk {
    #[command(flatten)]
    clients: Clients,
    /// A directory on the disk to be measured.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

/// A record and who waits for it to be durable.
struct Append {
    bytes: Vec<u8>,
    durable: oneshot::Sender<std::io::Result<()>>,
}

impl Disk {
    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        vec![format!(
            "append records of {} bytes to a file in {} with {} clients, each {}; remove the file",
            options.size,
            self.dir.display(),
            self.clients.text(),
            options.bounds_text()
        )]
    }

    pub(super) async fn measure(&self, context: &mut Context) -> Result<()> {
        for clients in self.clients.each() {
            let file = tempfile::tempfile_in(&self.dir)
                .with_context(|| format!("cannot make a file in {}", self.dir.display()))?;
            let phase = appends(context, file, clients).await?;
            context.push(phase);
        }
        Ok(())
    }
}

async fn appends(context: &Context, file: File, clients: usize) -> Result<Phase> {
    let name = format!("append and fdatasync, {}", clients_text(clients));
    let (count, time) = context.options.bounds();
    let budget = Arc::new(Budget::new(count, time));
    let tally = Arc::new(Tally::new(&["append"]));
    let (queue, records) = mpsc::channel();
    let writer = std::thread::Builder::new().name("append".to_owned());
    let writer = writer.spawn(move || write(file, &records))?;
    let metering = context.meter.start();
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let (queue, budget, tally) = (queue.clone(), budget.clone(), tally.clone());
        let record = vec![0x5a; context.options.size as usize];
        running.spawn(async move {
            while budget.take().is_some() {
                let start = Instant::now();
                let (durable, wait) = oneshot::channel();
                if queue.send(Append { bytes: record.clone(), durable }).is_err() {
                    return;
                }
                match wait.await {
                    Ok(Ok(())) => tally.record(0, start.elapsed()),
                    _ => return,
                }
            }
        });
    }
    drop(queue);
    let mut ticks = tokio::time::interval(progress::EVERY);
    while !running.is_empty() {
        tokio::select! {
            _ = running.join_next() => {}
            _ = ticks.tick() => context.progress.draw(&name, budget.spent(), ""),
        }
    }
    context.progress.clear();
    let mut phase = Phase::new(name, &tally, metering.stop());
    let Ok(syncs) = writer.join() else { bail!("the writing thread panicked") };
    let syncs = syncs.context("the disk refused a record")?;
    phase.fact("records in each fdatasync", phase.operations as f64 / syncs.max(1) as f64, "");
    Ok(phase)
}

/// Writes what comes until all senders are dropped; returns how often it synced.
fn write(mut file: File, records: &mpsc::Receiver<Append>) -> std::io::Result<u64> {
    let mut syncs = 0;
    while let Ok(first) = records.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX {
            let Ok(next) = records.try_recv() else { break };
            batch.push(next);
        }
        let bytes: Vec<u8> = batch.iter().flat_map(|append| &append.bytes).copied().collect();
        file.write_all(&bytes)?;
        file.sync_data()?;
        syncs += 1;
        for append in batch {
            // Who does not wait any more has been stopped.
            let _ = append.durable.send(Ok(()));
        }
    }
    Ok(syncs)
}
