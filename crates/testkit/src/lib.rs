//! Parts for tests, the demo and the bench: a containerd, a registry, etcd, kubectl, images, and for
//! tests alone an API server and a fake container runtime.
//!
//! A real part is a program of the distribution, started on loopback with its files in a temporary
//! directory, waited for by what it says itself, and ended with all that it made when its handle is
//! dropped. The API server (feature `apiserver`) is the product's own, inside the test's process. The
//! one part that imitates is the container runtime (feature `cri`): a real one takes root, and fails
//! when it likes and not when a test asks it to.

#[cfg(feature = "apiserver")]
pub mod apiserver;
mod attacks;
mod coffer;
#[cfg(feature = "cri")]
pub mod cri;
mod debian;
mod etcd;
mod eventually;
pub mod images;
mod issuer;
mod kubectl;
mod namespace;
mod process;
mod registry;
mod runtime;

pub use attacks::Attacks;
pub use coffer::{Coffer, CofferBuilder};
pub use coffer_containerd::image;
pub use coffer_containerd::mounts;
pub use etcd::Etcd;
pub use eventually::{DEADLINE, eventually, eventually_is};
pub use issuer::OidcIssuer;
pub use kubectl::{Kubectl, Outcome};
pub use namespace::{in_namespace, in_namespace_as};
pub use process::{Running, free_port};
pub use registry::{
    PrivateCa, Recorder, RecorderBuilder, Registry, Seen, SeenCredential, TokenServer,
};
pub use runtime::Runtime;
