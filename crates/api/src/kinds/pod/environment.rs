//! Environment variables: names, and where their values come from. A value itself is never shown:
//! people put secrets there.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, ObjectFieldSelector, ResourceFieldSelector,
};

use crate::field::{Error, ErrorList, Path};
use crate::kinds::meta::invalid_each;
use crate::kinds::optional::{list, text};
use crate::names;
use crate::quantity::Quantity;

pub(super) fn validate(variables: &[EnvVar], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (at, variable) in variables.iter().enumerate() {
        let path = path.index(at);
        if variable.name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else {
            let found = names::env_var_name(&variable.name);
            errors.extend(invalid_each(&path.child("name"), &variable.name, found));
        }
        errors.extend(validate_source(variable, &path.child("valueFrom")));
    }
    errors
}

fn validate_source(variable: &EnvVar, path: &Path) -> ErrorList {
    let Some(source) = &variable.value_from else { return ErrorList::new() };
    let mut errors = ErrorList::new();
    let mut sources = 0;
    if let Some(field) = &source.field_ref {
        sources += 1;
        errors.extend(validate_field(field, ENVIRONMENT_FIELDS, &path.child("fieldRef")));
    }
    if let Some(resource) = &source.resource_field_ref {
        sources += 1;
        let path = path.child("resourceFieldRef");
        errors.extend(validate_resource_field(resource, &path, false));
    }
    if let Some(key) = &source.config_map_key_ref {
        sources += 1;
        errors.extend(validate_key(&key.name, &key.key, &path.child("configMapKeyRef")));
    }
    if let Some(key) = &source.secret_key_ref {
        sources += 1;
        errors.extend(validate_key(&key.name, &key.key, &path.child("secretKeyRef")));
    }
    let detail = match (sources, text(&variable.value).is_empty()) {
        (0, _) => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        }
        (_, false) => "may not be specified when `value` is not empty",
        (2.., _) => "may not have more than one field specified at a time",
        _ => return errors,
    };
    errors.push(Error::invalid(path, "", detail));
    errors
}

fn validate_key(name: &str, key: &str, path: &Path) -> ErrorList {
    let mut errors = invalid_each(&path.child("name"), name, names::subdomain_name(name, false));
    if key.is_empty() {
        errors.push(Error::required(&path.child("key"), ""));
    } else {
        errors.extend(invalid_each(&path.child("key"), key, names::config_map_key(key)));
    }
    errors
}

pub(super) fn validate_from(sources: &[EnvFromSource], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (at, source) in sources.iter().enumerate() {
        let item = path.index(at);
        let prefix = text(&source.prefix);
        if !prefix.is_empty() {
            errors.extend(invalid_each(&item.child("prefix"), prefix, names::env_var_name(prefix)));
        }
        if let Some(map) = &source.config_map_ref {
            errors.extend(validate_reference(&map.name, &item.child("configMapRef")));
        }
        if let Some(secret) = &source.secret_ref {
            errors.extend(validate_reference(&secret.name, &item.child("secretRef")));
        }
        let detail = match (source.config_map_ref.is_some(), source.secret_ref.is_some()) {
            (false, false) => "must specify one of: `configMapRef` or `secretRef`",
            (true, true) => "may not have more than one field specified at a time",
            _ => continue,
        };
        errors.push(Error::invalid(path, "", detail));
    }
    errors
}

fn validate_reference(name: &str, path: &Path) -> ErrorList {
    let path = path.child("name");
    if name.is_empty() {
        return vec![Error::required(&path, "")];
    }
    // Upstream takes a trailing dash here, as if a suffix were to follow.
    invalid_each(&path, name, names::subdomain_name(name, true))
}

const ENVIRONMENT_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields a downward API volume can show; labels and annotations as a whole, too.
pub(super) const VOLUME_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// All that the downward API knows, wherever it is shown.
const KNOWN_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];

pub(super) fn validate_field(
    field: &ObjectFieldSelector,
    supported: &[&str],
    path: &Path,
) -> ErrorList {
    if text(&field.api_version).is_empty() {
        return vec![Error::required(&path.child("apiVersion"), "")];
    }
    if field.field_path.is_empty() {
        return vec![Error::required(&path.child("fieldPath"), "")];
    }
    let wanted = if field.field_path == "spec.host" { "spec.nodeName" } else { &field.field_path };
    let subscript = split_subscript(wanted);
    let problem = match subscript {
        _ if text(&field.api_version) != "v1" => {
            format!("unsupported pod version: {}", text(&field.api_version))
        }
        Some(("metadata.annotations", key)) => {
            return invalid_each(path, key, names::qualified_name(&key.to_lowercase()));
        }
        Some(("metadata.labels", key)) => {
            return invalid_each(path, key, names::qualified_name(key));
        }
        Some(_) => format!("field label does not support subscript: {wanted}"),
        None if !KNOWN_FIELDS.contains(&wanted) => format!("field label not supported: {wanted}"),
        None if !supported.contains(&wanted) => {
            return vec![Error::not_supported(&path.child("fieldPath"), wanted, supported)];
        }
        None => return ErrorList::new(),
    };
    let detail = format!("error converting fieldPath: {problem}");
    vec![Error::invalid(&path.child("fieldPath"), &field.field_path, detail)]
}

/// `metadata.labels['key']` is the path and the key.
fn split_subscript(text: &str) -> Option<(&str, &str)> {
    let (path, key) = text.strip_suffix("']")?.split_once("['")?;
    (!path.is_empty()).then_some((path, key))
}

const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub(super) fn validate_resource_field(
    field: &ResourceFieldSelector,
    path: &Path,
    in_volume: bool,
) -> ErrorList {
    let resource = field.resource.as_str();
    let huge = ["limits.hugepages-", "requests.hugepages-"];
    let is_huge = huge.iter().any(|prefix| resource.starts_with(prefix));
    let mut errors = ErrorList::new();
    if in_volume && text(&field.container_name).is_empty() {
        errors.push(Error::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(Error::required(&path.child("resource"), ""));
    } else if !RESOURCE_FIELDS.contains(&resource) && !is_huge {
        errors.push(Error::not_supported(&path.child("resource"), resource, RESOURCE_FIELDS));
    }
    errors.extend(validate_divisor(field, is_huge, &path.child("divisor")));
    errors
}

fn validate_divisor(field: &ResourceFieldSelector, is_huge: bool, path: &Path) -> Option<Error> {
    let divisor = match Quantity::of(field.divisor.as_ref()?) {
        Ok(divisor) if divisor.is_zero() => return None,
        Ok(divisor) => divisor.to_string(),
        Err(error) => {
            let shown = field.divisor.as_ref().map(|text| text.0.clone()).unwrap_or_default();
            return Some(Error::invalid(path, &shown, error.to_string()));
        }
    };
    let sizes = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let resource = field.resource.as_str();
    let (allowed, what): (&[&str], _) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "cpu"),
        "limits.memory" | "requests.memory" => (&sizes, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (&sizes, "local ephemeral storage")
        }
        _ if is_huge => (&sizes, "hugepages"),
        _ => return None,
    };
    if allowed.contains(&divisor.as_str()) {
        return None;
    }
    let values = if what == "cpu" { "1m and 1".to_owned() } else { sizes.join(", ") };
    let detail = format!("only divisor's values {values} are supported with the {what} resource");
    Some(Error::invalid(path, resource, detail))
}

/// Names that are defined twice, where the second definition does not build upon the first.
pub(super) fn hidden(variables: &Option<Vec<EnvVar>>) -> Vec<(usize, &str)> {
    let mut seen = BTreeSet::new();
    let hides = |variable: &EnvVar| {
        let reference = format!("$({})", variable.name);
        let value = text(&variable.value);
        variable.value_from.is_some() || value == reference || !value.contains(&reference)
    };
    let all = list(variables).iter().enumerate();
    all.filter(|(_, variable)| !seen.insert(variable.name.as_str()) && hides(variable))
        .map(|(at, variable)| (at, variable.name.as_str()))
        .collect()
}
