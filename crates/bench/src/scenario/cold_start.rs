//! Cold starts: from the start of a process to /readyz, on nothing and on what it has written.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::cluster::launch::Launched;
use crate::context::Context;
use crate::measure::meter::{Meter, Metered};
use crate::measure::report::Phase;
use crate::measure::stats::Tally;
use crate::options::Options;

#[derive(Debug, Args)]
pub(crate) struct ColdStart {
    /// The command line that starts the server. {dir} in it, and in --kubeconfig, stands for a
    /// directory that is new at each cold start and kept for the restart that follows.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

const COLD: usize = 0;
const AGAIN: usize = 1;
const ROWS: &[&str] = &["ready on a new directory", "ready on a used directory"];

impl ColdStart {
    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        vec![format!(
            "{} times: start {:?} on a new directory, wait for /readyz, end it with SIGTERM; start it \
             again on the same, and end it",
            options.count_or(5),
            self.command.join(" ")
        )]
    }

    pub(super) async fn measure(&self, context: &mut Context) -> Result<()> {
        let tally = Tally::new(ROWS);
        let count = context.options.count_or(5);
        let (mut took, mut rss) = (Duration::ZERO, Vec::new());
        for number in 0..count {
            context.progress.draw("cold start", number as f64 / count as f64, "");
            let directory = tempfile::Builder::new()
                .prefix("coffer-bench-")
                .tempdir()
                .context("no directory")?;
            for row in [COLD, AGAIN] {
                let mut server =
                    Launched::start(&self.command, directory.path(), &context.options)?;
                let target = server.ready().await?;
                let ready = server.at().elapsed();
                tally.record(row, ready);
                took += ready;
                if let (COLD, Some(pid)) = (row, server.pid()) {
                    rss.extend(Meter::new(&[pid])?.rss_bytes());
                }
                context.ask_version(&target).await?;
                server.end().await?;
            }
        }
        let metered = Metered { took, ..Default::default() };
        let mut phase = Phase::new("from the start of the process", &tally, metered);
        rss.sort_unstable();
        if let Some(median) = rss.get(rss.len() / 2) {
            phase.fact("memory when ready, of the process started", *median as f64, "bytes");
        }
        context.push(phase);
        Ok(())
    }
}
