//! Updates of few objects by many clients: read, modify, write, and again after a conflict.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use http::{Method, StatusCode};

use super::run::Run;
use crate::load::clients::Clients;
use crate::load::secrets::{self, Secrets};
use crate::load::{Failed, Work, in_row};
use crate::measure::stats::Tally;
use crate::options::Options;
use crate::transport::client::{APPLICATION_JSON, Client};
use crate::transport::wire::Versioned;

#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    clients: Clients,
    /// Secrets to update: the fewer, the more conflicts.
    #[arg(long, value_name = "NUMBER", default_value = "16")]
    objects: NonZeroU64,
}

struct Updates {
    secrets: Secrets,
    objects: u64,
}

const UPDATE: usize = 0;
const GET: usize = 1;
const PUT: usize = 2;
const CONFLICT: usize = 3;

impl Work for Updates {
    const ROWS: &'static [&'static str] =
        &["update, with its retries", "get", "put", "put refused with 409"];

    async fn step(&self, client: &mut Client, _: u64, tally: &Tally) -> Result<(), Failed> {
        let number = secrets::random() % self.objects;
        let path = self.secrets.path_of(number);
        let begin = Instant::now();
        loop {
            let start = Instant::now();
            let found: Versioned = client.get(&path).await.map_err(in_row(GET))?;
            tally.record(GET, start.elapsed());
            let body = self.secrets.body_at(number, &found.metadata.resource_version);
            let start = Instant::now();
            match client.call(Method::PUT, &path, Some((APPLICATION_JSON, body))).await {
                Ok(_) => {
                    tally.record(PUT, start.elapsed());
                    tally.record(UPDATE, begin.elapsed());
                    return Ok(());
                }
                Err(error) if error.is(StatusCode::CONFLICT) => {
                    tally.record(CONFLICT, start.elapsed());
                }
                Err(error) => return Err(Failed(PUT, error)),
            }
        }
    }
}

impl Update {
    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        vec![
            format!("create {} secrets of {} bytes", self.objects, options.size),
            format!(
                "read, modify and write them at random with {} clients, each {}; after a conflict again",
                self.clients.text(),
                options.bounds_text()
            ),
        ]
    }

    pub(super) async fn measure(&self, run: &mut Run<'_>) -> Result<()> {
        let objects = self.objects.get();
        let secrets = run.populate("update", objects).await?;
        let work = Arc::new(Updates { secrets, objects });
        let what = format!("update {objects} secrets");
        // What is per operation is per request: the update is made of the others.
        run.for_each(&self.clients, &what, work, |phase| phase.uncount(Updates::ROWS[UPDATE])).await
    }
}
