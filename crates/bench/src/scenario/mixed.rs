//! All operations concurrently, in the proportions of a busy cluster: mostly reads, some writes, some watches.
//!
//! Creates and deletes keep in balance, so that over a long time memory should not grow.

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use http::Method;

use super::run::Run;
use crate::load::clients::clients_text;
use crate::load::secrets::{self, Secrets};
use crate::load::watchers::{Ignore, Watchers};
use crate::load::{Failed, Work, in_row};
use crate::measure::stats::Tally;
use crate::options::Options;
use crate::transport::client::{APPLICATION_JSON, Client};

#[derive(Debug, Args)]
pub(crate) struct Mixed {
    /// Clients with one request under way each.
    #[arg(long, value_name = "NUMBER", default_value = "64")]
    clients: NonZeroUsize,
    /// Secrets that are there from the beginning.
    #[arg(long, value_name = "NUMBER", default_value = "1000")]
    objects: NonZeroU64,
    /// Watchers of the whole collection at the same time.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    watchers: usize,
}

const GET: usize = 0;
const LIST: usize = 1;
const UPDATE: usize = 2;
const CREATE: usize = 3;
const DELETE: usize = 4;
/// Of a hundred operations: these many gets, lists, updates and creates; the rest deletes.
const SHARES: [u64; 4] = [70, 5, 15, 5];

struct Mix {
    secrets: Secrets,
    objects: u64,
    /// Secrets that the run created and can delete.
    made: Mutex<Vec<u64>>,
}

/// The operation that a number from 0 to 99 stands for.
fn operation(mut number: u64) -> usize {
    for (operation, share) in SHARES.iter().enumerate() {
        if number < *share {
            return operation;
        }
        number -= share;
    }
    DELETE
}

impl Mix {
    fn made(&self) -> std::sync::MutexGuard<'_, Vec<u64>> {
        self.made.lock().expect("nothing panics while it holds the numbers")
    }
}

impl Work for Mix {
    const ROWS: &'static [&'static str] = &["get", "list 100", "update", "create", "delete"];

    async fn step(&self, client: &mut Client, number: u64, tally: &Tally) -> Result<(), Failed> {
        let secrets = &self.secrets;
        let wanted = operation(secrets::random() % 100);
        let victim = (wanted == DELETE).then(|| self.made().pop()).flatten();
        // With nothing to delete yet, there is something to create.
        let operation = if wanted == DELETE && victim.is_none() { CREATE } else { wanted };
        let one = secrets::random() % self.objects;
        let new = self.objects + number;
        let json = |body| Some((APPLICATION_JSON, body));
        let (method, path, body) = match operation {
            GET => (Method::GET, secrets.path_of(one), None),
            LIST => (Method::GET, format!("{}?limit=100", secrets.path), None),
            UPDATE => (Method::PUT, secrets.path_of(one), json(secrets.body(one))),
            CREATE => (Method::POST, secrets.path.clone(), json(secrets.body(new))),
            _ => (Method::DELETE, secrets.path_of(victim.unwrap_or_default()), None),
        };
        let start = Instant::now();
        client.call(method, &path, body).await.map_err(in_row(operation))?;
        tally.record(operation, start.elapsed());
        if operation == CREATE {
            self.made().push(new);
        }
        Ok(())
    }
}

impl Mixed {
    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        let [get, list, update, create] = SHARES;
        vec![
            format!("create {} secrets of {} bytes", self.objects, options.size),
            format!("watch the collection {} times", self.watchers),
            format!(
                "get ({get} %), list 100 ({list} %), update ({update} %), create ({create} %), delete \
                 (the rest) with {} clients, {}",
                self.clients,
                options.bounds_text()
            ),
        ]
    }

    pub(super) async fn measure(&self, run: &mut Run<'_>) -> Result<()> {
        let objects = self.objects.get();
        let secrets = run.populate("mixed", objects).await?;
        let revision = run.revision(&secrets.path).await?;
        let path = format!("{}?watch=1&resourceVersion={revision}", secrets.path);
        let paths = vec![path; self.watchers];
        let watchers =
            Watchers::open(run.context, run.target, "watchers", &paths, Arc::new(Ignore)).await?;
        let clients = self.clients.get();
        let name = format!("mixed, {}, {} watchers", clients_text(clients), self.watchers);
        let work = Arc::new(Mix { secrets, objects, made: Mutex::default() });
        let mut phase = run.phase(&name, clients, work).await?;
        let growth = phase.server.iter().filter_map(|usage| usage.rss_growth_bytes);
        let growth: Vec<_> = growth.collect();
        if !growth.is_empty() {
            let kib = growth.iter().sum::<i64>() as f64 / 1024.0;
            phase.fact("memory grown from the second quarter to the last", kib, "KiB");
        }
        phase.fact("watches that the server ended", watchers.lost() as f64, "");
        run.context.push(phase);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_operations_have_the_shares_they_should() {
        let mut counts = [0; 5];
        for number in 0..100 {
            counts[operation(number)] += 1;
        }
        assert_eq!(counts, [70, 5, 15, 5, 5]);
    }
}
