//! A collection as it changes: listed, watched, and listed again where the server ends the watch for
//! good.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use http::StatusCode;
use serde::de::DeserializeOwned;

use crate::transport::client::{Client, parse};
use crate::transport::wire::{Event, Lines, List, Meta, is_error_event};

/// An object with metadata.
pub(super) trait Named {
    fn metadata(&self) -> &Meta;
}

/// What has become of an object.
pub(super) enum Change<'a, T> {
    /// It is there, as this.
    Is(&'a T),
    /// The object of this name no longer exists.
    Gone(&'a str),
    /// All that there was at the beginning has been reported.
    Listed,
}

/// Follows the collection at `path` until the server cannot be reached.
pub(super) async fn follow<T: DeserializeOwned + Named>(
    mut client: Client,
    path: &str,
    mut report: impl FnMut(Change<'_, T>),
) -> Result<()> {
    let mut known = HashSet::new();
    let separator = if path.contains('?') { '&' } else { '?' };
    loop {
        let list: List<T> = client.get(path).await?;
        let mut missing = std::mem::take(&mut known);
        for item in &list.items {
            missing.remove(&item.metadata().name);
            known.insert(item.metadata().name.clone());
            report(Change::Is(item));
        }
        missing.iter().for_each(|name| report(Change::Gone(name)));
        report(Change::Listed);
        let mut from = list.metadata.resource_version;
        loop {
            let watch = format!("{path}{separator}watch=1&resourceVersion={from}");
            let body = match client.open(&watch).await {
                Err(error) if error.is(StatusCode::GONE) => break,
                opened => opened.with_context(|| format!("{path} cannot be watched"))?,
            };
            let mut lines = Lines::new(body);
            let mut too_old = false;
            while let Some(line) = lines.next().await {
                too_old = is_error_event(&line);
                if too_old {
                    break;
                }
                let event: Event<T> = parse(path, &line)?;
                let meta = event.object.metadata();
                from.clone_from(&meta.resource_version);
                if event.kind == "DELETED" {
                    known.remove(&meta.name);
                    report(Change::Gone(&meta.name));
                } else {
                    known.insert(meta.name.clone());
                    report(Change::Is(&event.object));
                }
            }
            if too_old {
                break;
            }
        }
    }
}
