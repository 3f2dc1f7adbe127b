//! Clients that other people wrote, as they come: two kubectls thirteen minor versions apart, the
//! Python client, kube-rs. Each does what its users do all day.

#[path = "../support/mod.rs"]
mod support;

mod kube_rs;
mod kubectl;
mod python;
