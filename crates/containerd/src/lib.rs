//! A containerd of Coffer's own, for machines where no CRI runtime is running.
//!
//! The crate is responsible for the daemon's configuration, its network, its pause image, its life cycle and
//! its cleanup. Everything is below one data directory and one runtime directory, so that the system's own
//! containerd is neither used nor disturbed. The crate knows nothing of Kubernetes objects; the kubelet uses
//! the socket like that of any other runtime.
//!
//! [`Containerd::start`] writes the daemon's files ([`Layout`], `config`, `network`), starts or adopts it,
//! and imports the [`image`] of the pause container. Pods outlive the daemon and this process;
//! [`stop_with_pods`] stops all of it.

mod config;
pub mod cri;
mod daemon;
mod error;
mod files;
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
