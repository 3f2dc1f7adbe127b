//! Real parts for tests, the demo and the bench: a containerd, a registry, etcd, kubectl, images.
//!
//! Nothing here imitates anything. Each part is a program of the distribution, started on loopback
//! with its files in a temporary directory, waited for by what it says itself, and ended with all
//! that it made when its handle is dropped. It knows Coffer only as a program to run.

mod attacks;
mod coffer;
mod debian;
mod etcd;
pub mod images;
mod issuer;
mod kubectl;
mod process;
mod registry;
mod runtime;

pub use attacks::Attacks;
pub use coffer::{Coffer, CofferBuilder};
pub use coffer_containerd::image;
pub use coffer_containerd::mounts;
pub use etcd::Etcd;
pub use issuer::OidcIssuer;
pub use kubectl::{Kubectl, Outcome};
pub use process::{Running, free_port};
pub use registry::{
    PrivateCa, Recorder, RecorderBuilder, Registry, Seen, SeenCredential, TokenServer,
};
pub use runtime::Runtime;
