//! What attackers tried, as tests: each group is a row of the table in SECURITY.md.

#[path = "../support/cluster.rs"]
mod cluster;
mod connections;
#[path = "../support/kubelet.rs"]
mod kubelet;
mod limit_range;
mod pod_security;
mod priority;
mod runtime_class;
#[path = "../support/mod.rs"]
mod support;

mod escalation;
mod heavy;
mod host_paths;
mod node_tokens;
mod payload_responses;
mod quota;
mod rights;
mod secret_use;
mod sizes;
mod subresources;
mod tunnels;
mod undecodable;
mod watches;
