//! ResourceQuota: how much of what a namespace may use.

use std::collections::BTreeSet;
use std::iter::repeat_n;

use jiff::Timestamp;
pub use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::api::core::v1::{PodTemplateSpec, ResourceQuotaSpec, ResourceQuotaStatus};
use serde_json::Value;

use super::info::{Deletion, KindInfo, Subresource};
use super::kind::Kind;
use super::merge::Rules;
use super::meta;
use super::optional::list;
use super::pod::resources::{self, Amounts};
use super::roles::Grant;
use crate::field::{Error, ErrorList, Path};
use crate::protobuf::tables::core;
use crate::subresource::SubresourceName;
use crate::table::{self, Column};

static INFO: KindInfo = KindInfo {
    short_names: &["quota"],
    subresources: &[Subresource::status("", "ResourceQuota")],
    rules: &Rules { atomic_structs: &["core.v1.ScopeSelector"], ..Rules::NONE },
    columns: &[
        Column::NAME,
        Column::string("Request", REQUEST_COLUMN),
        Column::string("Limit", LIMIT_COLUMN),
        Column::AGE,
    ],
    roles: &[Grant::view(&["", "/status"])],
    deletion: Deletion { returns_object: true, ..Deletion::DEFAULT },
    ..KindInfo::of::<ResourceQuota>("resourcequota", &core::RESOURCE_QUOTA)
};

impl Kind for ResourceQuota {
    const INFO: &'static KindInfo = &INFO;

    fn set_defaults(&mut self) {
        if let Some(hard) = self.spec.as_mut().and_then(|spec| spec.hard.as_mut()) {
            resources::canonicalize(hard);
        }
        if let Some(status) = &mut self.status {
            let both = [&mut status.hard, &mut status.used];
            both.into_iter().flatten().for_each(resources::canonicalize);
        }
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(ResourceQuotaStatus::default());
    }

    fn prepare_for_update(&mut self, old: &Self, sub: Option<SubresourceName>) {
        let (spec, status) = ((&mut self.spec, &old.spec), (&mut self.status, &old.status));
        meta::separate_status(sub, spec, status);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        errors.extend(validate_spec(self));
        errors
    }

    fn validate_update(&self, old: &Self, sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        if sub == Some(SubresourceName::Status) {
            let status = self.status.clone().unwrap_or_default();
            let path = Path::new("status");
            errors.extend(validate_amounts(&status.hard, &path.child("hard")));
            errors.extend(validate_amounts(&status.used, &path.child("used")));
            return errors;
        }
        errors.extend(validate_spec(self));
        let (new, old) = (scopes_of(self), scopes_of(old));
        if new.iter().collect::<BTreeSet<_>>() != old.iter().collect::<BTreeSet<_>>() {
            let path = Path::new("spec").child("scopes");
            errors.push(meta::invalid_json(&path, &new, meta::IMMUTABLE));
        }
        errors
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    /// `used/hard` per resource, those named `limits.…` in a column of their own.
    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let used = status.used.unwrap_or_default();
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (resource, hard) in status.hard.iter().flatten() {
            let used = used.get(resource).map_or("0", |used| &used.0);
            let column = if resource.starts_with("limits.") { &mut limits } else { &mut requests };
            column.push(format!("{resource}: {used}/{}", hard.0));
        }
        let (name, age) = (table::name(self), table::age(self, now));
        vec![name, requests.join(", ").into(), limits.join(", ").into(), age]
    }
}

fn scopes_of(quota: &ResourceQuota) -> &[String] {
    quota.spec.as_ref().map(|spec| list(&spec.scopes)).unwrap_or_default()
}

fn validate_amounts(amounts: &Option<Amounts>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (name, amount) in amounts.iter().flatten() {
        let path = path.key(name);
        errors.extend(resources::validate_quota_name(name, &path));
        errors.extend(resources::validate_quantity(name, amount, &path));
    }
    errors
}

fn validate_spec(quota: &ResourceQuota) -> ErrorList {
    let Some(spec) = &quota.spec else { return ErrorList::new() };
    let path = Path::new("spec");
    let mut errors = validate_amounts(&spec.hard, &path.child("hard"));
    errors.extend(validate_scopes(spec, &path.child("scopes")));
    errors.extend(validate_selector(spec, &path.child("scopeSelector")));
    errors
}

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

/// Whether it makes sense to count a resource only among the pods of a scope.
fn applies(scope: &str, resource: &str) -> bool {
    let compute =
        ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        _ if SCOPES.contains(&scope) => resource == "pods" || compute.contains(&resource),
        _ => true,
    }
}

/// How many of the quota's resources are not to be counted in this scope.
fn misapplied(scope: &str, spec: &ResourceQuotaSpec) -> usize {
    let names = spec.hard.iter().flat_map(|hard| hard.keys());
    let standard = names.filter(|name| resources::is_standard_quota_name(name));
    standard.filter(|name| !applies(scope, name)).count()
}

fn conflicts(scopes: &BTreeSet<&str>) -> usize {
    let pairs = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
    pairs.iter().filter(|pair| pair.iter().all(|scope| scopes.contains(scope))).count()
}

fn validate_scopes(spec: &ResourceQuotaSpec, path: &Path) -> ErrorList {
    let scopes = list(&spec.scopes);
    let invalid = |detail| meta::invalid_json(path, &scopes, detail);
    let mut errors = ErrorList::new();
    for scope in scopes {
        if !SCOPES.contains(&scope.as_str()) {
            errors.push(invalid("unsupported scope"));
        }
        let detail = "unsupported scope applied to resource";
        errors.extend(repeat_n(invalid(detail), misapplied(scope, spec)));
    }
    let set = scopes.iter().map(String::as_str).collect();
    errors.extend(repeat_n(invalid("conflicting scopes"), conflicts(&set)));
    errors
}

fn validate_selector(spec: &ResourceQuotaSpec, path: &Path) -> ErrorList {
    let Some(selector) = &spec.scope_selector else { return ErrorList::new() };
    let path = path.child("matchExpressions");
    let mut errors = ErrorList::new();
    let mut set = BTreeSet::new();
    for requirement in list(&selector.match_expressions) {
        let (scope, operator) = (requirement.scope_name.as_str(), requirement.operator.as_str());
        if !SCOPES.contains(&scope) {
            errors.push(Error::invalid(&path.child("scopeName"), scope, "unsupported scope"));
        }
        let detail = "unsupported scope applied to resource";
        let error = meta::invalid_json(&path, selector, detail);
        errors.extend(repeat_n(error, misapplied(scope, spec)));
        let valued = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if SCOPES.contains(&scope) && !valued && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(Error::invalid(&path.child("operator"), operator, detail));
        }
        let values = list(&requirement.values);
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(Error::required(&path.child("values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(meta::invalid_json(&path.child("values"), &values, detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => {
                let detail = "not a valid selector operator";
                errors.push(Error::invalid(&path.child("operator"), operator, detail));
            }
        }
        set.insert(scope);
    }
    let error = meta::invalid_json(&path, &spec.scopes, "conflicting scopes");
    errors.extend(repeat_n(error, conflicts(&set)));
    errors
}

const REQUEST_COLUMN: &str =
    "Request represents a minimum amount of cpu/memory that a container may consume.";
const LIMIT_COLUMN: &str = "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.";

#[cfg(test)]
mod tests;
