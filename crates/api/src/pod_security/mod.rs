//! The Pod Security Standards: what a pod may ask of its node at the levels `baseline` and
//! `restricted`, as the labels of its namespace say.
//!
//! [`policy`] reads the labels, [`checks`] is the table of checks by version, and the modules below
//! judge one pod each. All is pure: admission decides what comes of a [`Violation`]. Messages are
//! upstream's (`k8s.io/pod-security-admission`) byte for byte.

mod checks;
mod policy;
mod violation;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use checks::NEWEST_MINOR;
pub use policy::{ENFORCE, Level, LevelVersion, Policy, Version};
pub use violation::{Violation, details, reasons};

/// Everything in a pod that a level of a version forbids, in upstream's order.
pub fn violations(of: LevelVersion, meta: &ObjectMeta, spec: &PodSpec) -> Vec<Violation> {
    checks::active(of).into_iter().filter_map(|judge| judge(meta, spec)).collect()
}

#[cfg(test)]
mod tests;
