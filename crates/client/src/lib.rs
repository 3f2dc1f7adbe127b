//! What all clients of the API do alike: events, names in URLs, and what is said of errors.
//!
//! It knows objects by reference only; what a controller or a kubelet reports is theirs.

pub mod error;
pub mod events;
pub mod path;
