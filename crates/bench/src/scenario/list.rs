//! Lists of large collections: whole as of now, whole from the server's cache, and in pages.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use http::Method;

use super::run::Run;
use crate::load::clients::clients_text;
use crate::load::{Failed, Work, in_row};
use crate::measure::stats::Tally;
use crate::options::Options;
use crate::transport::client::{CallError, Client};

/// Bytes at the beginning of a list in which its metadata is looked for.
const HEAD_BYTES: usize = 4096;

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Sizes of the collection, in growing order; a phase of each kind for each.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_value = "10000,50000")]
    objects: Vec<NonZeroU64>,
    /// Objects in a page; 500 is what kubectl asks for.
    #[arg(long, value_name = "NUMBER", default_value = "500")]
    limit: NonZeroU64,
    /// Clients that list at the same time.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    clients: std::num::NonZeroUsize,
}

/// Lists whole.
struct Whole {
    path: String,
}

impl Work for Whole {
    const ROWS: &'static [&'static str] = &["list"];

    async fn step(&self, client: &mut Client, _: u64, tally: &Tally) -> Result<(), Failed> {
        let start = Instant::now();
        client.drain(&self.path).await.map_err(in_row(0))?;
        tally.record(0, start.elapsed());
        Ok(())
    }
}

/// Lists page by page.
struct Paged {
    path: String,
    limit: u64,
}

impl Work for Paged {
    const ROWS: &'static [&'static str] = &["list, all pages", "page"];

    async fn step(&self, client: &mut Client, _: u64, tally: &Tally) -> Result<(), Failed> {
        let begin = Instant::now();
        let mut path = format!("{}?limit={}", self.path, self.limit);
        loop {
            let start = Instant::now();
            let page = client.call(Method::GET, &path, None).await.map_err(in_row(1))?;
            tally.record(1, start.elapsed());
            match continue_token(&page) {
                Some("") => break,
                Some(token) => {
                    path = format!("{}?limit={}&continue={token}", self.path, self.limit);
                }
                None => {
                    let reason = "a list does not begin with its metadata".to_owned();
                    return Err(Failed(1, CallError::Answer { path, reason }));
                }
            }
        }
        tally.record(0, begin.elapsed());
        Ok(())
    }
}

/// The token for the next page, empty on the last one. It comes before the items, so a megabyte of
/// them need not be parsed; `None` if it does not.
fn continue_token(list: &[u8]) -> Option<&str> {
    let head = &list[..list.len().min(HEAD_BYTES)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // Cut in the middle of a character.
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).ok()?,
    };
    let metadata = text.split_once("\"metadata\":{")?.1;
    let metadata = metadata.split_once('}')?.0;
    Some(match metadata.split_once("\"continue\":\"") {
        Some((_, rest)) => rest.split_once('"')?.0,
        None => "",
    })
}

impl List {
    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        let mut lines = Vec::new();
        for objects in &self.objects {
            lines.push(format!("have {objects} secrets of {} bytes", options.size));
            lines.push(format!(
                "list them whole, whole with resourceVersion=0, and in pages of {}, each {}",
                self.limit,
                options.bounds_text()
            ));
        }
        lines
    }

    pub(super) async fn measure(&self, run: &mut Run<'_>) -> Result<()> {
        let secrets = run.secrets("list");
        let empty = run.context.meter.rss_bytes();
        let mut there = 0;
        for objects in self.objects.iter().map(|objects| objects.get()) {
            if objects > there {
                let mut phase = secrets.populate(run.context, run.target, there..objects).await?;
                there = objects;
                if let (Some(empty), Some(full)) = (empty, run.context.meter.rss_bytes()) {
                    let grown = full.saturating_sub(empty) as f64;
                    phase.fact("memory per secret", grown / objects as f64, "bytes");
                }
                run.context.push(phase);
            }
            self.lists(run, &secrets.path, there).await?;
        }
        Ok(())
    }

    async fn lists(&self, run: &mut Run<'_>, path: &str, objects: u64) -> Result<()> {
        let clients = self.clients.get();
        let of = clients_text(clients);
        let size = run.client().await?.drain(path).await? as f64;
        for (how, query) in [("whole", ""), ("whole, resourceVersion=0", "?resourceVersion=0")] {
            let name = format!("list {objects} {how}, {of}");
            let work = Arc::new(Whole { path: format!("{path}{query}") });
            let mut phase = run.phase(&name, clients, work).await?;
            phase.fact("bytes of a list", size, "bytes");
            let lists = phase.operations as f64 / phase.seconds;
            phase.fact("received", lists * size / 1_048_576.0, "MiB/s");
            phase.fact("objects", lists * objects as f64, "per second");
            run.context.push(phase);
        }
        let limit = self.limit.get();
        let name = format!("list {objects} by {limit}, {of}");
        let work = Arc::new(Paged { path: path.to_owned(), limit });
        let mut phase = run.phase(&name, clients, work).await?;
        phase.uncount(Paged::ROWS[0]);
        run.context.push(phase);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_before_the_items_and_only_there() {
        let list = br#"{"kind":"SecretList","apiVersion":"v1","metadata":{"resourceVersion":"7","continue":"abc","remainingItemCount":5},"items":[{"#;
        assert_eq!(continue_token(list), Some("abc"));
        let last = br#"{"kind":"SecretList","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"annotations":{"x":"\"continue\":\"no\""}}}]}"#;
        assert_eq!(continue_token(last), Some(""));
        assert_eq!(continue_token(b"{\"items\":[]}"), None);
    }

    #[test]
    fn a_list_that_is_cut_within_a_character_is_still_understood() {
        let mut list = br#"{"metadata":{"resourceVersion":"7"},"items":[""#.to_vec();
        while list.len() < HEAD_BYTES + 1 {
            list.extend_from_slice("é".as_bytes());
        }
        assert_eq!(continue_token(&list), Some(""));
    }
}
