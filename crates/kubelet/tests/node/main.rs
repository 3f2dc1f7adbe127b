//! A whole kubelet between a real API server and a fake container runtime, without root.
//!
//! Each test runs in a mount namespace of its own, in which anyone is root: see
//! `coffer_testkit::in_namespace`. What only a real runtime shows is in `crates/coffer/tests`.

mod backoff;
mod outage;
mod restart;
mod start;
mod stop;
mod support;
mod volumes;
