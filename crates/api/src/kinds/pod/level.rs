//! What a pod asks for as a whole (`spec.resources`): what it gets where it says only limits, and how it belongs
//! together with what its containers ask for.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};

use super::resources::{self, Amounts, Owner};
use crate::demand::{self, is_of_pods};
use crate::field::{Error, ErrorList, Path};
use crate::quantity::Quantity;

/// Whether anything is stated that a pod may state as a whole.
pub(super) fn states_any(whole: &ResourceRequirements) -> bool {
    let both = [&whole.requests, &whole.limits];
    both.into_iter().flatten().flat_map(Amounts::keys).any(|name| is_of_pods(name))
}

/// A pod with limits as a whole requests what its containers request together, and of what they do not request
/// as much as the limit.
pub(super) fn set_requests(spec: &mut PodSpec) {
    let limits = spec.resources.as_ref().and_then(|whole| whole.limits.clone());
    let Some(limits) = limits.filter(|limits| !limits.is_empty()) else { return };
    let asked = demand::stated_by_containers(spec);
    let whole = spec.resources.get_or_insert_default();
    let mut requests = whole.requests.take().unwrap_or_default();
    for (name, amount) in asked.iter() {
        if is_of_pods(name) && resources::overcommits(name) {
            requests.entry(name.to_owned()).or_insert_with(|| amount.to_text());
        }
    }
    for (name, limit) in limits.into_iter().filter(|(name, _)| is_of_pods(name)) {
        requests.entry(name).or_insert(limit);
    }
    whole.requests = (!requests.is_empty()).then_some(requests);
}

/// Everything wrong with what a pod asks for as a whole.
pub(super) fn validate(spec: &PodSpec, path: &Path) -> ErrorList {
    let Some(whole) = &spec.resources else { return ErrorList::new() };
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return vec![Error::forbidden(path, "may not be set for a windows pod")];
    }
    let mut errors = ErrorList::new();
    if whole.claims.is_some() {
        let detail = "claims cannot be set for Resources at pod-level";
        errors.push(Error::forbidden(&path.child("claims"), detail));
    }
    errors.extend(resources::validate(whole, Owner::Pod, &BTreeSet::new(), path));
    errors.extend(validate_containers(spec, whole, path));
    errors
}

/// The containers together request no more than the pod, none has a higher limit, and huge pages, of which
/// limits are requests, are limited together.
fn validate_containers(spec: &PodSpec, whole: &ResourceRequirements, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let stated = |amounts: &Option<Amounts>, name: &str| {
        amounts.as_ref()?.get(name).and_then(|text| Quantity::of(text).ok())
    };
    for (name, together) in demand::stated_by_containers(spec).iter() {
        if let Some(request) = stated(&whole.requests, name).filter(|it| together > it) {
            let path = path.child("requests").key(name);
            let detail = format!(
                "must be greater than or equal to aggregate container requests of {together}"
            );
            errors.push(Error::invalid(&path, &request.to_string(), detail));
        }
    }
    for (name, together) in demand::limited_by_containers(spec).iter() {
        let limit = stated(&whole.limits, name).filter(|it| together > it);
        if let Some(limit) = limit.filter(|_| resources::is_huge_page(name)) {
            let path = path.child("limits").key(name);
            let detail = format!(
                "must be greater than or equal to aggregate container limits of {together}"
            );
            errors.push(Error::invalid(&path, &limit.to_string(), detail));
        }
    }
    for (at, container) in spec.containers.iter().enumerate() {
        let limits = container.resources.iter().flat_map(|own| own.limits.iter().flatten());
        for (name, limit) in demand::Resources::exact(limits).iter() {
            let Some(most) = stated(&whole.limits, name).filter(|most| limit > most) else {
                continue;
            };
            // Upstream's path, which is below the pod's own resources.
            let path = path.child("containers").index(at).key(name).child("limits");
            let detail = format!("must be less than or equal to pod limits of {most}");
            errors.push(Error::invalid(&path, &limit.to_string(), detail));
        }
    }
    errors
}
