//! What several parts do alike with bytes, the kernel and other servers: PEM, the mount table, one
//! request on a connection of its own, waits between attempts.
//!
//! It knows nothing of Kubernetes: no kinds, no API, no names.

pub mod backoff;
pub mod http1;
pub mod mountinfo;
pub mod pem;
