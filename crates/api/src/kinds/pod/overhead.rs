//! What a pod costs in addition to its containers: in the pod, and in the class it is taken from.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ResourceRequirements;

use super::resources::{self, Amounts, Owner};
use crate::field::{ErrorList, Path};

/// Amounts in canonical form.
pub(crate) fn set_defaults(overhead: &mut Amounts) {
    resources::canonicalize(overhead);
}

/// Everything wrong with the amounts, by the rules of a container's limits.
pub(crate) fn validate(overhead: &Amounts, path: &Path) -> ErrorList {
    let requirements =
        ResourceRequirements { limits: Some(overhead.clone()), ..ResourceRequirements::default() };
    resources::validate(&requirements, Owner::Container, &BTreeSet::new(), path)
}
