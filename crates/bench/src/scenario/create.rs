//! Creates: each returns after it is durable, as the API promises.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;

use crate::cluster::workspace::Workspace;
use crate::context::Context;
use crate::load;
use crate::load::clients::{Clients, clients_text};
use crate::load::secrets::{self, Secrets};
use crate::options::Options;
use crate::transport::target::Target;

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

    pub(super) async fn measure(
        &self,
        context: &mut Context,
        target: &Arc<Target>,
        workspace: &Workspace,
    ) -> Result<()> {
        let secrets = Secrets::new(&workspace.namespace, "create", context);
        for (nth, clients) in self.clients.each().enumerate() {
            let before = context.meter.rss_bytes();
            let first = nth as u64 * NUMBERS_PER_PHASE;
            let work = Arc::new(secrets::Create { secrets: secrets.clone(), first });
            let name = format!("create, {}", clients_text(clients));
            let bounds = context.options.bounds();
            let mut phase = load::run(context, target, &name, clients, bounds, work).await?;
            if let (Some(before), Some(after)) = (before, context.meter.rss_bytes()) {
                let grown = after.saturating_sub(before) as f64;
                phase.fact("memory per secret", grown / phase.operations.max(1) as f64, "bytes");
            }
            context.push(phase);
        }
        Ok(())
    }
}
