//! The controllers: programs that read what people asked for from the API, compare it with what
//! is there, and write the difference.
//!
//! Every one is a client of the API server through `kube`, over TLS, with no shortcut in memory, so
//! that `coffer up` on one machine and `coffer controller-manager` on another run the same code.
//! Each controller is three layers: a pure plan (`plan.rs`: what is observed goes in, actions come
//! out), a reconciler at the edge that applies the plan, and the machinery all share: [`informer`]
//! (one watch per kind and process), [`queue`] (deduplicated, with back-off), [`events`].

pub mod accounts;
pub mod certificates;
pub mod deployment;
pub mod error;
pub mod events;
pub mod garbage;
pub mod informer;
pub mod inventory;
pub mod key;
pub mod manager;
pub mod namespace;
pub mod node_lifecycle;
pub mod owner;
pub mod pod;
pub mod pod_gc;
pub mod queue;
pub mod quota;
pub mod replication;
pub mod scheduler;

pub use error::Error;
pub use manager::Manager;

use kube::Client;
use tokio_util::sync::CancellationToken;

pub use accounts::Options;

/// Runs every controller but the scheduler until `shutdown`: what `coffer controller-manager` is.
pub async fn run_all(client: Client, options: Options, shutdown: CancellationToken) {
    let mut manager = Manager::new(client);
    register_all(&mut manager, &options);
    manager.run(shutdown).await;
}

/// Adds every controller but the scheduler to a manager.
pub fn register_all(manager: &mut Manager, options: &Options) {
    namespace::register(manager);
    replication::register(manager);
    garbage::register(manager);
    deployment::register(manager);
    accounts::register(manager, options);
    node_lifecycle::register(manager);
    pod_gc::register(manager);
    quota::register(manager);
}
