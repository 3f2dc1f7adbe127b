//! Reads of the newest state and of older ones.
//!
//! A read first takes a view of the log, then looks up the revisions in the index, then fetches their values
//! from the view. In this order every row that the index refers to exists: the view keeps what a concurrent
//! compaction removes.

use std::sync::Arc;

use parking_lot::RwLock;

use super::index::{Index, Located, TooOld};
use super::log::View;
use crate::{ListOptions, Page, Revision, StoreError, Versioned};

/// Keys read under one lock of the index, so that a long list does not block the writer.
const HOLD_KEYS: usize = 1024;

pub(super) fn get(
    index: &RwLock<Index>,
    view: &View<'_>,
    key: &str,
) -> Result<Option<Versioned>, StoreError> {
    let located = {
        let index = index.read();
        let at = newest(&index, view);
        index.at(key, at).map_err(|compacted| compacted.at(at))?
    };
    located.map(|revision| fetch(view, (key.into(), revision))).transpose()
}

pub(super) fn list(
    index: &RwLock<Index>,
    view: &View<'_>,
    prefix: &str,
    options: &ListOptions,
) -> Result<Page, StoreError> {
    let at = revision(&index.read(), view, options.revision)?;
    let limit = options.limit.unwrap_or(usize::MAX);
    let mut after: Option<Arc<str>> = options.after.as_deref().map(Into::into);
    let mut items = Vec::new();
    while items.len() < limit {
        let want = HOLD_KEYS.min(limit - items.len());
        let found = index.read().page(prefix, after.as_deref(), at, want);
        let found = found.map_err(|compacted| compacted.at(at))?;
        let more = found.len() == want;
        after = found.last().map(|(key, _)| Arc::clone(key)).or(after);
        for located in found {
            items.push(fetch(view, located)?);
        }
        if !more {
            return Ok(Page { items, revision: at, remaining: 0 });
        }
    }
    let remaining = remaining(index, prefix, after, at)?;
    Ok(Page { items, revision: at, remaining })
}

fn remaining(
    index: &RwLock<Index>,
    prefix: &str,
    after: Option<Arc<str>>,
    at: Revision,
) -> Result<usize, StoreError> {
    let mut remaining = 0;
    let mut next = Some(after);
    while let Some(after) = next {
        let counted = index.read().count(prefix, after.as_deref(), at, HOLD_KEYS);
        let (found, last) = counted.map_err(|compacted| compacted.at(at))?;
        remaining += found;
        next = last.map(Some);
    }
    Ok(remaining)
}

fn revision(
    index: &Index,
    view: &View<'_>,
    requested: Option<Revision>,
) -> Result<Revision, StoreError> {
    let newest = newest(index, view);
    match requested {
        None => Ok(newest),
        Some(requested) if requested > newest => Err(StoreError::Future { requested, newest }),
        Some(requested) => Ok(requested),
    }
}

/// The newest revision that both the index and the view have.
fn newest(index: &Index, view: &View<'_>) -> Revision {
    index.newest().min(view.newest())
}

fn fetch(view: &View<'_>, (key, revision): Located) -> Result<Versioned, StoreError> {
    Ok(Versioned { key: key.as_ref().to_owned(), value: view.value(revision)?, revision })
}

impl TooOld {
    fn at(self, requested: Revision) -> StoreError {
        StoreError::Compacted { requested, oldest: self.0 }
    }
}
