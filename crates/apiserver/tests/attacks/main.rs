//! What attackers tried, as tests: each group is a row of the table in SECURITY.md.

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/mod.rs"]
mod support;

mod host_paths;
mod payload_answers;
mod secret_use;
