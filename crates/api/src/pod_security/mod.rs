//! The Pod Security Standards: what a pod may ask of its node at the levels `baseline` and
//! `restricted`, as the labels of its namespace say.
//!
//! [`policy`] reads the labels, [`checks`] is the table of checks by version, and the modules below
//! judge one pod each. All is pure: admission decides what comes of a [`Violation`]. Messages are
//! upstream's (`k8s.io/pod-security-admission`) byte for byte.

mod checks;
mod policy;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use checks::NEWEST_MINOR;
pub use policy::{ENFORCE, Level, LevelVersion, Policy, Version};

/// A check that a pod does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong, without values of the pod's.
    pub reason: &'static str,
    /// Which containers, volumes and values, where that says more.
    pub detail: String,
}

/// Everything in a pod that a level of a version forbids, in upstream's order.
pub fn violations(of: LevelVersion, meta: &ObjectMeta, spec: &PodSpec) -> Vec<Violation> {
    checks::active(of).into_iter().filter_map(|judge| judge(meta, spec)).collect()
}

/// The violations with their details, as a refusal and a warning tell them.
pub fn details(violations: &[Violation]) -> String {
    let told = violations.iter().map(|Violation { reason, detail }| {
        if detail.is_empty() { (*reason).to_owned() } else { format!("{reason} ({detail})") }
    });
    told.collect::<Vec<_>>().join(", ")
}

/// The violations without details, as pods with the same ones are counted.
pub fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
