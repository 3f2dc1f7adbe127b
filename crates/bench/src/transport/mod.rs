//! How requests get to a server: where it is, who the client is there, and its connections.

pub(crate) mod client;
pub(crate) mod echo;
pub(crate) mod target;
pub(crate) mod wire;
