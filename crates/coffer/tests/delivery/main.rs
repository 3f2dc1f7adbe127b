//! What the guide promises about secrets in containers, on real containers: its use cases with its
//! manifests as written, the exact bytes, the ways to ask for them, and several nodes.

mod cluster;
mod files;
mod host_paths;
mod nodes;
mod quoted;
mod stage;
mod statics;
mod use_cases;
mod waiting;
