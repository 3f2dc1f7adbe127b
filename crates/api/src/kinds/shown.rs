//! Values that are not scalars, as upstream prints them inside an error: the JSON of its Go types,
//! in their order of fields. Types of core/v1 are printed in their internal form, whose fields
//! have no JSON names of their own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeAddress, NodeSelectorRequirement, NodeSelectorTerm, PodResourceClaim, SeccompProfile,
    SecurityContext, Taint,
};
use k8s_openapi::api::rbac::v1::RoleRef;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use serde::Serialize;

use super::optional::{list, text};

/// An owner, in Go's order.
pub(super) fn owner(owner: &OwnerReference) -> impl Serialize + '_ {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Owner<'a> {
        api_version: &'a str,
        kind: &'a str,
        name: &'a str,
        uid: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        controller: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        block_owner_deletion: Option<bool>,
    }
    Owner {
        api_version: &owner.api_version,
        kind: &owner.kind,
        name: &owner.name,
        uid: &owner.uid,
        controller: owner.controller,
        block_owner_deletion: owner.block_owner_deletion,
    }
}

/// A selector, in Go's order; what is empty is left out.
pub(super) fn selector(selector: &LabelSelector) -> impl Serialize + '_ {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Selector<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        match_labels: Option<&'a BTreeMap<String, String>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        match_expressions: Vec<Expression<'a>>,
    }
    #[derive(Serialize)]
    struct Expression<'a> {
        key: &'a str,
        operator: &'a str,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        values: &'a [String],
    }
    Selector {
        match_labels: selector.match_labels.as_ref().filter(|labels| !labels.is_empty()),
        match_expressions: list(&selector.match_expressions)
            .iter()
            .map(|it| Expression { key: &it.key, operator: &it.operator, values: list(&it.values) })
            .collect(),
    }
}

/// A reference to a role.
pub(super) fn role(role: &RoleRef) -> impl Serialize + '_ {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Role<'a> {
        #[serde(rename = "APIGroup")]
        api_group: &'a str,
        kind: &'a str,
        name: &'a str,
    }
    Role { api_group: &role.api_group, kind: &role.kind, name: &role.name }
}

/// A taint.
pub(super) fn taint(taint: &Taint) -> impl Serialize + '_ {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Shown<'a> {
        key: &'a str,
        value: &'a str,
        effect: &'a str,
        time_added: Option<&'a k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    }
    Shown {
        key: &taint.key,
        value: text(&taint.value),
        effect: &taint.effect,
        time_added: taint.time_added.as_ref(),
    }
}

/// An address of a node.
pub(super) fn address(address: &NodeAddress) -> impl Serialize + '_ {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Address<'a> {
        r#type: &'a str,
        address: &'a str,
    }
    Address { r#type: &address.type_, address: &address.address }
}

/// Addresses of a pod or of its host.
pub(super) fn ips<'a>(ips: &[&'a str]) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    struct Ip<'a> {
        #[serde(rename = "IP")]
        ip: &'a str,
    }
    ips.iter().map(|ip| Ip { ip }).collect::<Vec<_>>()
}

/// A claim of a pod.
pub(super) fn claim(claim: &PodResourceClaim) -> impl Serialize + '_ {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Claim<'a> {
        name: &'a str,
        resource_claim_name: Option<&'a str>,
        resource_claim_template_name: Option<&'a str>,
    }
    Claim {
        name: &claim.name,
        resource_claim_name: claim.resource_claim_name.as_deref(),
        resource_claim_template_name: claim.resource_claim_template_name.as_deref(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Profile<'a> {
    r#type: &'a str,
    localhost_profile: Option<&'a str>,
}

/// A seccomp profile.
pub(super) fn seccomp(profile: &SeccompProfile) -> impl Serialize + '_ {
    Profile { r#type: &profile.type_, localhost_profile: profile.localhost_profile.as_deref() }
}

/// A container's security context.
pub(super) fn security_context(context: &SecurityContext) -> impl Serialize + '_ {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Capabilities<'a> {
        add: Option<&'a Vec<String>>,
        drop: Option<&'a Vec<String>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Context<'a> {
        capabilities: Option<Capabilities<'a>>,
        privileged: Option<bool>,
        #[serde(rename = "SELinuxOptions")]
        se_linux_options: Option<&'a k8s_openapi::api::core::v1::SELinuxOptions>,
        windows_options: Option<&'a k8s_openapi::api::core::v1::WindowsSecurityContextOptions>,
        run_as_user: Option<i64>,
        run_as_group: Option<i64>,
        run_as_non_root: Option<bool>,
        read_only_root_filesystem: Option<bool>,
        allow_privilege_escalation: Option<bool>,
        proc_mount: Option<&'a str>,
        seccomp_profile: Option<Profile<'a>>,
        app_armor_profile: Option<Profile<'a>>,
    }
    Context {
        capabilities: context.capabilities.as_ref().map(|capabilities| Capabilities {
            add: capabilities.add.as_ref(),
            drop: capabilities.drop.as_ref(),
        }),
        privileged: context.privileged,
        se_linux_options: context.se_linux_options.as_ref(),
        windows_options: context.windows_options.as_ref(),
        run_as_user: context.run_as_user,
        run_as_group: context.run_as_group,
        run_as_non_root: context.run_as_non_root,
        read_only_root_filesystem: context.read_only_root_filesystem,
        allow_privilege_escalation: context.allow_privilege_escalation,
        proc_mount: context.proc_mount.as_deref(),
        seccomp_profile: context.seccomp_profile.as_ref().map(|profile| Profile {
            r#type: &profile.type_,
            localhost_profile: profile.localhost_profile.as_deref(),
        }),
        app_armor_profile: context.app_armor_profile.as_ref().map(|profile| Profile {
            r#type: &profile.type_,
            localhost_profile: profile.localhost_profile.as_deref(),
        }),
    }
}

/// One term of a node selector.
pub(super) fn term(term: &NodeSelectorTerm) -> impl Serialize + '_ {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Term<'a> {
        match_expressions: Option<Vec<Requirement<'a>>>,
        match_fields: Option<Vec<Requirement<'a>>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Requirement<'a> {
        key: &'a str,
        operator: &'a str,
        values: Option<&'a Vec<String>>,
    }
    fn all(requirements: &Option<Vec<NodeSelectorRequirement>>) -> Option<Vec<Requirement<'_>>> {
        let each = requirements.as_ref()?.iter().map(|it| Requirement {
            key: &it.key,
            operator: &it.operator,
            values: it.values.as_ref(),
        });
        Some(each.collect())
    }
    Term { match_expressions: all(&term.match_expressions), match_fields: all(&term.match_fields) }
}
