//! What Kubernetes documents, through the endpoint: each module is one theme, most of them tables.
//!
//! The words and codes are upstream's; where ours differ on purpose, the test says why.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod content;
mod deletion;
mod eviction;
mod garbage;
mod limit_range;
mod listing;
mod load;
mod patches;
mod priority;
mod quota;
mod updates;
mod verbs;
mod watching;
