//! The objects Coffer serves: kinds, defaulting, validation, names, patches, Status errors.
//!
//! Pure: no I/O, no async, no clock. Types come from `k8s-openapi`, except [`secret::Secret`],
//! whose payload erases itself and never prints.

pub mod apply;
pub mod continue_token;
pub mod demand;
pub mod document;
pub mod field;
pub mod go;
pub mod host_paths;
pub mod kinds;
pub mod names;
pub mod patch;
pub mod pod_security;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod schema;
pub mod secret;
pub mod selector;
pub mod status;
pub mod table;
pub mod yaml;

pub use document::Document;
pub use k8s_openapi;
