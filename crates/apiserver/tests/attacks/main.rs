//! What attackers tried, as tests: each group is a row of the table in SECURITY.md.

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/mod.rs"]
mod support;

mod heavy;
mod sizes;
mod watches;
