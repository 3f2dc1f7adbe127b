//! The controllers: programs that read what users asked for from the API, compare it with what
//! is there, and write the difference.
//!
//! Every one is a client of the API server through `kube`, over TLS, with no shortcut in memory, so
//! that `coffer up` on one machine and `coffer controller-manager` on another run the same code.
//!
//! # The pattern
//!
//! A controller is three layers, and each has its place:
//!
//! * **Plan** (`plan.rs`): a pure function from what is observed to actions. No client, no clock, no
//!   cache: objects and the present time go in, an enum of actions comes out. All rules are here, and
//!   so are most tests.
//! * **Act** (`mod.rs`): a struct with the client and the caches that it reads, and its
//!   [`Controller`](controller::Controller) implementation: which changes make which keys ready, and a
//!   `reconcile` that reads the caches, plans, and applies the plan.
//! * **Machinery**, which all share: one [`informer`] per kind and process, whose caches have indices;
//!   the [`queue`], with one entry per key and back-off; the [`inventory`] of all kinds; [`events`]; the
//!   [`manager`] that owns the tasks.
//!
//! ```text
//! watch ─▶ informer ─▶ cache, indices ──────────┐
//!              └─▶ handlers ─▶ queue ─▶ worker ─▶ reconcile: read ─▶ plan ─▶ act ─▶ API
//! ```
//!
//! # What a reconcile may cost
//!
//! What it is about, and no more. A reconcile of a node reads the pods of that node through an index
//! ([`informer::index::ByNode`]), one of a ReplicaSet its pods and the orphans that it might adopt
//! ([`claim::Claimable`]); there is no way to read all objects of a kind, because no controller needs
//! one. A handler runs for every change of its kind and must be cheaper still: it compares old and new,
//! and adds a key only if the change makes a difference to it.
//!
//! # What bounds the load on the API server
//!
//! The number of workers of each controller, upstream's where upstream has a flag for it, and not a rate:
//! upstream's default of 20 requests per second would take 40 minutes for 50,000 pods, and a server that
//! is slow slows its clients down by itself, because a worker waits for its request. What a worker sends
//! at once beyond one request has a named limit at the top of its file, as creations of pods do, which
//! begin with one and double while they succeed.
//!
//! CONTRIBUTING.md, "Add a controller", goes through an example.

pub(crate) mod accounts;
pub(crate) mod certificates;
pub(crate) mod claim;
pub(crate) mod controller;
pub(crate) mod deployment;
pub(crate) mod disruption;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod garbage;
pub(crate) mod informer;
pub(crate) mod inventory;
pub(crate) mod key;
pub(crate) mod manager;
pub(crate) mod namespace;
pub(crate) mod node_lifecycle;
pub(crate) mod owner;
pub(crate) mod pod;
pub(crate) mod pod_gc;
pub(crate) mod queue;
pub(crate) mod quota;
pub(crate) mod registration;
pub(crate) mod replication;
pub(crate) mod scheduler;
#[cfg(test)]
pub(crate) mod testing;

pub use certificates::approve::KUBELET_CLIENT;
pub use certificates::sign::{Signer, SignerError, SigningAuthority};
pub use manager::{Manager, Panicked};
pub use registration::{Options, controller_manager, scheduler};
