//! The cluster that is measured: programs that a run starts, the namespace it works in, pods in it.

pub(crate) mod account;
pub(crate) mod control_plane;
pub(crate) mod launch;
pub(crate) mod pods;
mod program;
pub(crate) mod workspace;
