//! Roles and their bindings, within a namespace and across the cluster.

use jiff::Timestamp;
use k8s_openapi::ListableResource;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::api::rbac::v1::{AggregationRule, PolicyRule, RoleRef, Subject};
pub use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde_json::Value;

use super::info::KindInfo;
use super::kind::Kind;
use super::merge::Rules;
use super::optional::{list, list_mut, text};
use super::roles::{self, Grant, READ_WRITE};
use super::{meta, shown};
use crate::field::{Error, ErrorList, Path};
use crate::names;
use crate::protobuf::message::Message;
use crate::protobuf::tables::rbac as tables;
use crate::subresource::SubresourceName;

mod printer;

/// The API group of RBAC, which references and subjects name, too.
pub const GROUP: &str = crate::well_known::api_group::RBAC;

const fn info<T: ListableResource>(
    singular: &'static str,
    message: &'static Message,
    namespaced: bool,
) -> KindInfo {
    KindInfo {
        namespaced,
        create_on_update: true,
        name_rule,
        rules: &Rules {
            atomic_structs: &["rbac.v1.RoleRef", "rbac.v1.Subject"],
            omits_zero: &[("rbac.v1.Subject", &["apiGroup", "namespace"])],
            held: &[
                ("rbac.v1.ClusterRoleBinding", &["roleRef"]),
                ("rbac.v1.RoleBinding", &["roleRef"]),
            ],
            ..Rules::NONE
        },
        ..KindInfo::of::<T>(singular, message)
    }
}

/// Who may give rights in a namespace.
const ADMIN: &[Grant] = &[Grant { role: roles::Role::Admin, verbs: READ_WRITE, of: &[""] }];

/// A path segment; whether a suffix is to follow makes no difference.
fn name_rule(name: &str, _prefix: bool) -> names::Messages {
    names::path_segment(name)
}

static ROLE: KindInfo = KindInfo { roles: ADMIN, ..info::<Role>("role", &tables::ROLE, true) };
static CLUSTER_ROLE: KindInfo = info::<ClusterRole>("clusterrole", &tables::CLUSTER_ROLE, false);
static ROLE_BINDING: KindInfo = KindInfo {
    roles: ADMIN,
    columns: printer::ROLE_BINDING,
    ..info::<RoleBinding>("rolebinding", &tables::ROLE_BINDING, true)
};
static CLUSTER_ROLE_BINDING: KindInfo = KindInfo {
    columns: printer::CLUSTER_ROLE_BINDING,
    ..info::<ClusterRoleBinding>("clusterrolebinding", &tables::CLUSTER_ROLE_BINDING, false)
};

impl Kind for Role {
    const INFO: &'static KindInfo = &ROLE;

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &ROLE);
        errors.extend(validate_rules(list(&self.rules), true));
        errors
    }

    fn validate_update(&self, old: &Self, _sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = self.validate();
        errors.extend(meta::validate_update(&self.metadata, &old.metadata));
        errors
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }
}

impl Kind for ClusterRole {
    const INFO: &'static KindInfo = &CLUSTER_ROLE;

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &CLUSTER_ROLE);
        errors.extend(validate_rules(list(&self.rules), false));
        if let Some(rule) = &self.aggregation_rule {
            errors.extend(validate_aggregation(rule));
        }
        errors
    }

    fn validate_update(&self, old: &Self, _sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = self.validate();
        errors.extend(meta::validate_update(&self.metadata, &old.metadata));
        errors
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }
}

/// The two bindings differ in the roles that they may name, and in whether they are namespaced.
macro_rules! binding {
    ($Binding:ident, $info:ident, $roles:expr) => {
        impl Kind for $Binding {
            const INFO: &'static KindInfo = &$info;

            fn set_defaults(&mut self) {
                set_defaults(&mut self.role_ref, list_mut(&mut self.subjects));
            }

            fn validate(&self) -> ErrorList {
                let mut errors = meta::validate(&self.metadata, &$info);
                errors.extend(validate_reference(&self.role_ref, $roles));
                errors.extend(validate_subjects(list(&self.subjects), $info.namespaced));
                errors
            }

            fn validate_update(&self, old: &Self, _sub: Option<SubresourceName>) -> ErrorList {
                let mut errors = self.validate();
                errors.extend(meta::validate_update(&self.metadata, &old.metadata));
                errors.extend(validate_same_role(&self.role_ref, &old.role_ref));
                errors
            }

            fn pod_template(&self) -> Option<&PodTemplateSpec> {
                None
            }

            fn cells(&self, now: Timestamp) -> Vec<Value> {
                printer::cells(self, &self.role_ref, self.subjects.as_deref(), now)
            }
        }
    };
}

binding!(RoleBinding, ROLE_BINDING, &["Role", "ClusterRole"]);
binding!(ClusterRoleBinding, CLUSTER_ROLE_BINDING, &["ClusterRole"]);

fn set_defaults(role: &mut RoleRef, subjects: &mut [Subject]) {
    if role.api_group.is_empty() {
        role.api_group = GROUP.to_owned();
    }
    for subject in subjects {
        let of_group = matches!(subject.kind.as_str(), "User" | "Group");
        if of_group && text(&subject.api_group).is_empty() {
            subject.api_group = Some(GROUP.to_owned());
        }
    }
}

fn validate_rules(rules: &[PolicyRule], namespaced: bool) -> ErrorList {
    let path = Path::new("rules");
    let each = |(at, rule)| validate_rule(rule, namespaced, &path.index(at));
    rules.iter().enumerate().flat_map(each).collect()
}

fn validate_rule(rule: &PolicyRule, namespaced: bool, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if rule.verbs.is_empty() {
        let detail = "verbs must contain at least one value";
        errors.push(Error::required(&path.child("verbs"), detail));
    }
    let (groups, resources) = (list(&rule.api_groups), list(&rule.resources));
    let (object_names, urls) = (list(&rule.resource_names), list(&rule.non_resource_urls));
    if !urls.is_empty() {
        let path = path.child("nonResourceURLs");
        if namespaced {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            errors.push(meta::invalid_json(&path, &urls, detail));
        }
        if !(groups.is_empty() && resources.is_empty() && object_names.is_empty()) {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(meta::invalid_json(&path, &urls, detail));
        }
        return errors;
    }
    if groups.is_empty() {
        let detail = "resource rules must supply at least one api group";
        errors.push(Error::required(&path.child("apiGroups"), detail));
    }
    if resources.is_empty() {
        let detail = "resource rules must supply at least one resource";
        errors.push(Error::required(&path.child("resources"), detail));
    }
    if !object_names.is_empty() && resources.len() > 1 {
        let detail = "resource names cannot apply to multiple resources";
        errors.push(Error::required(&path.child("resourceNames"), detail));
    }
    errors
}

fn validate_aggregation(rule: &AggregationRule) -> ErrorList {
    let path = Path::new("aggregationRule").child("clusterRoleSelectors");
    let selectors = list(&rule.cluster_role_selectors);
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        return vec![Error::required(&path, detail)];
    }
    let each = |(at, selector)| super::pod::validate_selector(selector, &path.index(at));
    selectors.iter().enumerate().flat_map(each).collect()
}

fn validate_reference(role: &RoleRef, kinds: &[&str]) -> ErrorList {
    let path = Path::new("roleRef");
    let mut errors = ErrorList::new();
    if role.api_group != GROUP {
        let path = path.child("apiGroup");
        errors.push(Error::not_supported(&path, &role.api_group, &[GROUP]));
    }
    if !kinds.contains(&role.kind.as_str()) {
        errors.push(Error::not_supported(&path.child("kind"), &role.kind, kinds));
    }
    let path = path.child("name");
    if role.name.is_empty() {
        errors.push(Error::required(&path, ""));
    } else {
        errors.extend(meta::invalid_each(&path, &role.name, names::path_segment(&role.name)));
    }
    errors
}

/// A binding that could be pointed elsewhere would give away what no one granted.
fn validate_same_role(new: &RoleRef, old: &RoleRef) -> Option<Error> {
    let error =
        meta::invalid_json(&Path::new("roleRef"), &shown::role(new), "cannot change roleRef");
    (new != old).then_some(error)
}

fn validate_subjects(subjects: &[Subject], namespaced: bool) -> ErrorList {
    let path = Path::new("subjects");
    let each = |(at, subject)| validate_subject(subject, namespaced, &path.index(at));
    subjects.iter().enumerate().flat_map(each).collect()
}

fn validate_subject(subject: &Subject, namespaced: bool, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let name = path.child("name");
    if subject.name.is_empty() {
        errors.push(Error::required(&name, ""));
    }
    let group = text(&subject.api_group);
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                let wrong = names::subdomain_name(&subject.name, false);
                errors.extend(meta::invalid_each(&name, &subject.name, wrong));
            }
            if !group.is_empty() {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if !namespaced && text(&subject.namespace).is_empty() {
                errors.push(Error::required(&path.child("namespace"), ""));
            }
        }
        kind @ ("User" | "Group") => {
            if subject.name.is_empty() {
                let detail = format!("{} name cannot be empty", kind.to_lowercase());
                errors.push(Error::invalid(&name, "", detail));
            }
            if group != GROUP {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[GROUP]));
            }
        }
        other => {
            let supported = ["ServiceAccount", "User", "Group"];
            errors.push(Error::not_supported(&path.child("kind"), other, &supported));
        }
    }
    errors
}

#[cfg(test)]
mod tests;
