//! The objects Coffer serves: kinds, defaulting, validation, names, patches, Status errors.
//!
//! Pure: no I/O, no async, no clock. Types come from `k8s-openapi`, except [`secret::Secret`],
//! whose payload erases itself and never prints.

#[macro_use]
mod text_enum;

pub mod apply;
pub mod condition;
pub mod continue_token;
pub mod demand;
pub mod document;
pub mod equality;
pub mod field;
pub mod go;
pub mod host_paths;
pub mod image_name;
pub mod kinds;
pub mod names;
pub mod patch;
pub mod phase;
pub mod pod_security;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod reason;
pub mod redact;
pub mod references;
pub mod schema;
pub mod secret;
pub mod selector;
pub mod share;
pub mod status;
pub mod subresource;
pub mod table;
pub mod well_known;
pub mod yaml;

pub use document::Document;
pub use k8s_openapi;
