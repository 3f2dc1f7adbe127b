//! Authentication and authorization through the API: real HTTPS, real certificates and tokens.

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/mod.rs"]
mod support;

mod certificates;
mod escalation;
mod matrix;
mod oidc;
mod pods;
mod reviews;
mod stolen_node;
mod tokens;
