//! What attackers tried, as tests: each group is a row of the table in SECURITY.md.

#[path = "../support/cluster.rs"]
mod cluster;
mod runtime_class;
#[path = "../support/mod.rs"]
mod support;
