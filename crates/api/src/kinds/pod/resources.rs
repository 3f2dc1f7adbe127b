//! Amounts of resources in a container, a pod, a node and a quota: names, quantities, and how
//! requests and limits belong together.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::field::{Error, ErrorList, Path};
use crate::kinds::meta::invalid_each;
use crate::kinds::optional::list;
use crate::names;
use crate::quantity::Quantity;

/// Resource names and their amounts.
pub(crate) type Amounts = BTreeMap<String, Text>;

/// Rewrites amounts in canonical form, in thousandths at the finest. What cannot be parsed stays
/// for validation to refuse.
pub(crate) fn canonicalize(amounts: &mut Amounts) {
    for text in amounts.values_mut() {
        if let Ok(mut quantity) = Quantity::of(text) {
            quantity.round_up_to(-3);
            *text = quantity.to_text();
        }
    }
}

/// [`canonicalize`] for limits and requests.
pub(super) fn canonicalize_both(requirements: &mut ResourceRequirements) {
    let both = [&mut requirements.limits, &mut requirements.requests];
    both.into_iter().flatten().for_each(canonicalize);
}

/// A caller that states a limit and no request means that the request is the limit.
pub(super) fn requests_from_limits(requirements: &mut ResourceRequirements) {
    let Some(limits) = &requirements.limits else { return };
    let requests = requirements.requests.get_or_insert_default();
    for (name, limit) in limits {
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

/// A downward API divisor is always written: `0` where the client left it out.
pub(super) fn default_divisor(divisor: &mut Option<Text>) {
    let text = divisor.get_or_insert_with(|| Text("0".to_owned()));
    if let Ok(quantity) = Quantity::of(text) {
        *text = quantity.to_text();
    }
}

/// Whose names are checked.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    Container,
    Pod,
}

/// Everything wrong with limits, requests and claims.
pub(super) fn validate(
    requirements: &ResourceRequirements,
    owner: Owner,
    claims: &BTreeSet<&str>,
    path: &Path,
) -> ErrorList {
    let empty = Amounts::new();
    let limits = requirements.limits.as_ref().unwrap_or(&empty);
    let requests = requirements.requests.as_ref().unwrap_or(&empty);
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    let mut errors = ErrorList::new();
    for (name, limit) in limits {
        errors.extend(validate_amount(name, limit, owner, &limits_path.key(name)));
    }
    for (name, request) in requests {
        errors.extend(validate_amount(name, request, owner, &requests_path.key(name)));
        match limits.get(name) {
            Some(limit) => errors.extend(validate_pair(name, request, limit, &requests_path)),
            None if !overcommits(name) => errors.push(Error::required(
                &limits_path,
                "Limit must be set for non overcommitable resources",
            )),
            None => {}
        }
    }
    let mut names = limits.keys().chain(requests.keys());
    let compute = names.clone().any(|name| matches!(name.as_str(), "cpu" | "memory"));
    if !compute && names.any(|name| is_huge_page(name)) {
        errors.push(Error::forbidden(path, "HugePages require cpu or memory"));
    }
    errors.extend(validate_claims(requirements, claims, &path.child("claims")));
    errors
}

fn validate_amount(name: &str, text: &Text, owner: Owner, path: &Path) -> ErrorList {
    let mut errors = match owner {
        Owner::Container => validate_container_name(name, path),
        Owner::Pod => validate_pod_level_name(name, path),
    };
    errors.extend(validate_quantity(name, text, path));
    if let (Some(size), Ok(quantity)) = (huge_page_size(name), Quantity::of(text)) {
        let (size, value) = (size.units(), quantity.units());
        if size <= 0 || value % size != 0 {
            let detail = format!("{quantity} is not positive integer multiple of {name}");
            errors.push(Error::invalid(path, &quantity.to_string(), detail));
        }
    }
    errors
}

fn validate_pair(name: &str, request: &Text, limit: &Text, path: &Path) -> Option<Error> {
    let (request, limit) = (Quantity::of(request).ok()?, Quantity::of(limit).ok()?);
    let relation = if request != limit && !overcommits(name) {
        "must be equal to"
    } else if request > limit {
        "must be less than or equal to"
    } else {
        return None;
    };
    let detail = format!("{relation} {name} limit of {limit}");
    Some(Error::invalid(path, &request.to_string(), detail))
}

/// A quantity that parses, is not negative, and is whole where halves make no sense.
pub(crate) fn validate_quantity(name: &str, text: &Text, path: &Path) -> ErrorList {
    let quantity = match Quantity::of(text) {
        Ok(quantity) => quantity,
        Err(error) => return vec![Error::invalid(path, &text.0, error.to_string())],
    };
    let shown = quantity.to_string();
    let mut errors = ErrorList::new();
    if quantity.is_negative() {
        errors.push(Error::invalid(path, &shown, "must be greater than or equal to 0"));
    }
    if (is_counted(name) || is_extended(name)) && !quantity.is_whole() {
        errors.push(Error::invalid(path, &shown, "must be an integer"));
    }
    errors
}

fn validate_claims(
    requirements: &ResourceRequirements,
    known: &BTreeSet<&str>,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for (at, claim) in list(&requirements.claims).iter().enumerate() {
        let path = path.index(at);
        if claim.name.is_empty() {
            errors.push(Error::required(&path, ""));
            continue;
        }
        let request = claim.request.as_deref().unwrap_or_default();
        if !seen.insert((claim.name.as_str(), request)) {
            errors.push(Error::duplicate(&path, &claim.name));
        }
        if !known.contains(claim.name.as_str()) {
            let mut error = Error::not_found(&path, &claim.name);
            error.detail = "must be one of the names in pod.spec.resourceClaims".to_owned();
            error.detail += &match known.iter().copied().collect::<Vec<_>>().as_slice() {
                [] => " which is empty".to_owned(),
                names => format!(": {}", names.join(", ")),
            };
            errors.push(error);
        }
    }
    errors
}

const COUNTED: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

const MEASURED: &[&str] = &[
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
];

/// Objects that are counted, and therefore whole.
fn is_counted(name: &str) -> bool {
    COUNTED.contains(&name)
}

pub(super) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn huge_page_size(name: &str) -> Option<Quantity> {
    Quantity::parse(name.strip_prefix("hugepages-")?).ok()
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether a container may have a limit above its request.
pub(crate) fn overcommits(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Whether a quota may name it without a prefix.
pub(crate) fn is_standard_quota_name(name: &str) -> bool {
    is_counted(name)
        || MEASURED.contains(&name)
        || is_huge_page(name)
        || name.starts_with("requests.hugepages-")
}

/// The name of any resource.
pub(crate) fn validate_name(name: &str, path: &Path) -> ErrorList {
    let errors = invalid_each(path, name, names::qualified_name(name));
    let standard = is_standard_quota_name(name) || name == "storage";
    if errors.is_empty() && !name.contains('/') && !standard {
        let detail = "must be a standard resource type or fully qualified";
        return vec![Error::invalid(path, name, detail)];
    }
    errors
}

/// The name of a resource that a container asks for.
pub(crate) fn validate_container_name(name: &str, path: &Path) -> ErrorList {
    let mut errors = validate_name(name, path);
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name);
    if !name.contains('/') && !standard {
        errors.push(Error::invalid(path, name, "must be a standard resource for containers"));
    } else if !is_native(name) && !is_extended(name) {
        errors.push(Error::invalid(path, name, "doesn't follow extended resource name standard"));
    }
    errors
}

fn validate_pod_level_name(name: &str, path: &Path) -> ErrorList {
    let errors = validate_name(name, path);
    if errors.is_empty() && !matches!(name, "cpu" | "memory") && !is_huge_page(name) {
        return vec![Error::not_supported(path, name, &["cpu", "hugepages-", "memory"])];
    }
    errors
}

/// The name of a resource in a quota's `hard` and `used`.
pub(crate) fn validate_quota_name(name: &str, path: &Path) -> ErrorList {
    let mut errors = validate_name(name, path);
    if !name.contains('/') && !is_standard_quota_name(name) {
        errors.push(Error::invalid(path, name, "must be a standard resource for quota"));
    }
    errors
}
