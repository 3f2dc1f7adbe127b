//! The kernel's side of volumes: what is mounted, and tmpfs that appear whole. Knows no pods.

pub(crate) mod mountinfo;
pub(crate) mod tmpfs;
