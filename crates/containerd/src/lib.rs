//! A containerd of Coffer's own, for machines where no CRI runtime is running.
//!
//! It answers for the daemon's configuration, its network, its pause image, its life and its
//! remains: everything is below one data directory and one runtime directory, so that a containerd
//! the system already has is neither used nor disturbed. It knows nothing of Kubernetes objects;
//! the kubelet talks to the socket that comes out of here as it would to any other.
//!
//! [`Containerd::start`] writes what the daemon needs ([`Layout`], `config`, `network`), starts or
//! adopts it, and imports the [`image`] that holds pods' namespaces. Pods outlive the daemon and
//! this process; [`stop_with_pods`] is the way to end all of it.

mod config;
pub mod cri;
mod daemon;
mod error;
pub mod image;
mod layout;
pub mod mounts;
mod network;
mod oci;
mod pause;
mod programs;
mod state;
mod sweep;

pub use config::{ParseMirrorError, RUNTIME_HANDLER, RegistryMirror};
pub use daemon::{Containerd, Inherited, LogFilter, Settings, stop_with_pods};
pub use error::Error;
pub use layout::Layout;
pub use network::{PodNetwork, pod_network};
pub use oci::OciRuntime;
