//! Gets of one secret, as fresh as the last write.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use http::Method;

use super::run::Run;
use crate::load::clients::Clients;
use crate::load::secrets::{self, Secrets};
use crate::load::{Failed, Work, in_row};
use crate::measure::stats::Tally;
use crate::options::Options;
use crate::transport::client::Client;

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

    pub(super) async fn measure(&self, run: &mut Run<'_>) -> Result<()> {
        let objects = self.objects.get();
        let secrets = run.populate("get", objects).await?;
        let one = run.client().await?.call(Method::GET, &secrets.path_of(0), None).await?.len();
        let work = Arc::new(Gets { secrets, objects });
        run.for_each(&self.clients, "get", work, |phase| {
            phase.fact("bytes of an answer", one as f64, "");
        })
        .await
    }
}
