//! Creates: each returns after it is durable, as the API promises.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;

use super::run::Run;
use crate::load::clients::{Clients, clients_text};
use crate::load::secrets;
use crate::options::Options;

#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    clients: Clients,
}

/// Phases are this far apart in the numbers of their secrets: none makes more.
const NUMBERS_PER_PHASE: u64 = 1_000_000_000;

impl Create {
    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        vec![format!(
            "create secrets of {} bytes with {} clients, each {}",
            options.size,
            self.clients.text(),
            options.bounds_text()
        )]
    }

    pub(super) async fn measure(&self, run: &mut Run<'_>) -> Result<()> {
        let secrets = run.secrets("create");
        for (nth, clients) in self.clients.each().enumerate() {
            let before = run.context.meter.rss_bytes();
            let first = nth as u64 * NUMBERS_PER_PHASE;
            let work = Arc::new(secrets::Create { secrets: secrets.clone(), first });
            let name = format!("create, {}", clients_text(clients));
            let mut phase = run.phase(&name, clients, work).await?;
            if let (Some(before), Some(after)) = (before, run.context.meter.rss_bytes()) {
                let grown = after.saturating_sub(before) as f64;
                phase.fact("memory per secret", grown / phase.operations.max(1) as f64, "bytes");
            }
            run.context.push(phase);
        }
        Ok(())
    }
}
