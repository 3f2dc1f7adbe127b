//! The controllers and the scheduler: control loops that compare the actual state with the desired one and
//! write the difference.
//!
//! Each is a client of the API server through `kube`, over TLS, also in the same process, so that `coffer up`
//! on one machine and `coffer controller-manager` on another run the same code.
//!
//! # The pattern
//!
//! A controller has three layers:
//!
//! * **Plan** (`plan.rs`): a pure function from the observed state to actions, without client, clock or cache:
//!   from objects and the present time to an enum of actions. All rules are here, and most tests.
//! * **Act** (`mod.rs`): a struct with the client and the caches that it reads, and its
//!   [`Controller`](controller::Controller) implementation: which changes add which keys to the queue, and a
//!   `reconcile` that reads the caches, plans, and applies the plan.
//! * **Framework**, shared by all: one [`informer`] per kind and process, whose caches have indices;
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
//! In proportion to the objects it is about. A reconcile of a node reads the pods of that node through an
//! index ([`informer::index::ByNode`]), one of a ReplicaSet its pods and the orphans that it might adopt
//! ([`claim::Claimable`]). A cache has no function that returns all objects of a kind, because no controller
//! needs it. A handler runs for every change of its kind and must cost even less: it compares the old and the
//! new object and adds a key only if the difference matters.
//!
//! # What bounds the load on the API server
//!
//! The number of workers of each controller, upstream's where upstream has a flag for it, and not a rate:
//! upstream's default of 20 requests per second would take 40 minutes for 50,000 pods, and a server that is
//! slow slows its clients down by itself, because a worker waits for its request. Where a worker has several
//! requests in flight, a named limit is at the top of its file. Creations of pods, for example, begin with
//! one and double while they succeed.
//!
//! CONTRIBUTING.md, "Add a controller", has an example.

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
pub(crate) mod selection;
#[cfg(test)]
pub(crate) mod testing;

pub use certificates::approve::KUBELET_CLIENT;
pub use certificates::sign::{Signer, SignerError, SigningAuthority};
pub use manager::{Manager, Panicked};
pub use registration::{Options, controller_manager, scheduler};
