//! Gets of one secret, as fresh as the last write.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use http::Method;

use crate::cluster::workspace::Workspace;
use crate::context::Context;
use crate::load::clients::{Clients, clients_text};
use crate::load::secrets::{self, Secrets};
use crate::load::{self, Failed, Work, in_row};
use crate::measure::stats::Tally;
use crate::options::Options;
use crate::transport::client::Client;
use crate::transport::target::Target;

#[derive(Debug, Args)]
pub(crate) struct Get {
    #[command(flatten)]
    clients: Clients,
    /// Secrets to choose from at random.
    #[arg(long, value_name = "NUMBER", default_value = "1000")]
    objects: NonZeroU64,
}

struct Gets {
    secrets: Secrets,
    objects: u64,
}

impl Work for Gets {
    const ROWS: &'static [&'static str] = &["get"];

    async fn step(&self, client: &mut Client, _: u64, tally: &Tally) -> Result<(), Failed> {
        let path = self.secrets.path_of(secrets::random() % self.objects);
        let start = Instant::now();
        client.drain(&path).await.map_err(in_row(0))?;
        tally.record(0, start.elapsed());
        Ok(())
    }
}

impl Get {
    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        vec![
            format!("create {} secrets of {} bytes", self.objects, options.size),
            format!(
                "get them at random with {} clients, each {}",
                self.clients.text(),
                options.bounds_text()
            ),
        ]
    }

    pub(super) async fn measure(
        &self,
        context: &mut Context,
        target: &Arc<Target>,
        workspace: &Workspace,
    ) -> Result<()> {
        let secrets = Secrets::new(&workspace.namespace, "get", context);
        let objects = self.objects.get();
        secrets.populate(context, target, 0..objects).await?;
        let mut client = Client::connect(target, context.options.for_requests()).await?;
        let one = client.call(Method::GET, &secrets.path_of(0), None).await?.len();
        let work = Arc::new(Gets { secrets, objects });
        for clients in self.clients.each() {
            let name = format!("get, {}", clients_text(clients));
            let bounds = context.options.bounds();
            let mut phase =
                load::run(context, target, &name, clients, bounds, work.clone()).await?;
            phase.fact("bytes of an answer", one as f64, "");
            context.push(phase);
        }
        Ok(())
    }
}
