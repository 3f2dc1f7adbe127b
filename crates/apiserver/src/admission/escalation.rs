//! A user cannot grant permissions that they do not have: RBAC's escalation checks.
//!
//! A role may have the rules that its writer has (or the writer has `escalate` on it); a binding may
//! grant a role whose rules its writer has (or the writer has `bind` on that role).

use std::borrow::Cow;

use coffer_api::equality::equal;
use coffer_api::kinds::Kind;
use coffer_api::status::Failure;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef,
};

use crate::authz::attributes::{Attributes, ResourceTarget};
use crate::authz::rbac::{GROUP, RoleError, cover};
use crate::authz::{Authorizer, Decision, aggregate};
use crate::identity::{Identity, MASTERS};
use crate::object::{Object, Resource};

/// Checks a new role or binding, or (with `old`) a changed one; other kinds pass.
///
/// # Errors
/// 403 in upstream's words.
pub(super) fn check(
    authorizer: &Authorizer,
    identity: &Identity,
    resource: &Resource,
    object: &dyn Object,
    old: Option<&dyn Object>,
) -> Result<(), Failure> {
    if resource.info.group != GROUP || identity.in_group(MASTERS) {
        return Ok(());
    }
    let writer = Writer { authorizer, identity, resource, object };
    if let Some(role) = object.of_kind::<ClusterRole>() {
        let before = old.and_then(|old| old.of_kind());
        return unless_only_gc_fields(role, before, || writer.cluster_role(role, before));
    }
    if let Some(role) = object.of_kind::<Role>() {
        let before = old.and_then(|old| old.of_kind());
        return unless_only_gc_fields(role, before, || writer.role(role.rules.as_deref()));
    }
    if let Some(binding) = object.of_kind::<ClusterRoleBinding>() {
        let before = old.and_then(|old| old.of_kind());
        return unless_only_gc_fields(binding, before, || writer.binding(&binding.role_ref));
    }
    if let Some(binding) = object.of_kind::<RoleBinding>() {
        let before = old.and_then(|old| old.of_kind());
        return unless_only_gc_fields(binding, before, || writer.binding(&binding.role_ref));
    }
    // A kind of this group that is not known here.
    Err(writer.forbidden("no escalation check is known for this kind"))
}

/// Checks a write unless it changes nothing but what lets an object be collected as garbage. Labels
/// and annotations do count: a label makes a cluster role part of an aggregated one.
fn unless_only_gc_fields<T>(
    new: &T,
    old: Option<&T>,
    check: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure>
where
    T: Kind + Clone,
{
    let only_gc_fields = old.is_some_and(|old| {
        let mut copied = new.clone();
        let (meta, before) = (copied.metadata_mut(), old.metadata());
        meta.owner_references.clone_from(&before.owner_references);
        meta.finalizers.clone_from(&before.finalizers);
        meta.managed_fields.clone_from(&before.managed_fields);
        equal(&copied, old)
    });
    if only_gc_fields { Ok(()) } else { check() }
}

fn aggregates(role: &ClusterRole) -> bool {
    let selectors =
        role.aggregation_rule.as_ref().and_then(|rule| rule.cluster_role_selectors.as_ref());
    selectors.is_some_and(|all| !all.is_empty())
}

struct Writer<'a> {
    authorizer: &'a Authorizer,
    identity: &'a Identity,
    resource: &'a Resource,
    object: &'a dyn Object,
}

impl Writer<'_> {
    fn namespace(&self) -> &str {
        self.object.meta().namespace.as_deref().unwrap_or_default()
    }

    fn forbidden(&self, why: &str) -> Failure {
        let name = self.object.meta().name.as_deref().unwrap_or_default();
        Failure::forbidden(self.resource.group_resource(), name, why)
    }

    fn may(&self, verb: &str, resource: &str, name: &str) -> bool {
        let asked = Attributes::resource(
            verb,
            ResourceTarget {
                group: Cow::Borrowed(GROUP),
                resource: Cow::Borrowed(resource),
                namespace: Cow::Borrowed(self.namespace()),
                name: Cow::Borrowed(name),
                ..Default::default()
            },
        );
        self.authorizer.decide(self.identity, &asked) == Decision::Allow
    }

    fn cluster_role(&self, role: &ClusterRole, old: Option<&ClusterRole>) -> Result<(), Failure> {
        if self.may_escalate() {
            return Ok(());
        }
        self.covered(role.rules.as_deref().unwrap_or_default())?;
        // An aggregated role can gather anything; one that no longer does keeps what it has gathered.
        let aggregated = aggregates(role) || old.is_some_and(aggregates);
        if aggregated && self.covered(&everything()).is_err() {
            return Err(
                self.forbidden("must have cluster-admin privileges to use the aggregationRule")
            );
        }
        Ok(())
    }

    fn role(&self, rules: Option<&[PolicyRule]>) -> Result<(), Failure> {
        if self.may_escalate() {
            return Ok(());
        }
        self.covered(rules.unwrap_or_default())
    }

    /// Whether the writer may put into this role what they do not have.
    fn may_escalate(&self) -> bool {
        let name = self.object.meta().name.as_deref().unwrap_or_default();
        self.may("escalate", self.resource.info.plural, name)
    }

    fn binding(&self, role: &RoleRef) -> Result<(), Failure> {
        let plural = match role.kind.as_str() {
            "Role" => "roles",
            "ClusterRole" => "clusterroles",
            // Validation refuses it in its own words.
            _ => return Ok(()),
        };
        if self.may("bind", plural, &role.name) {
            return Ok(());
        }
        let rules =
            self.authorizer.roles.rules_of(role, self.namespace()).map_err(
                |error| match error {
                    RoleError::NotFound { resource, name } => Failure::not_found(
                        coffer_api::status::GroupResource { group: GROUP, resource },
                        &name,
                    ),
                    other @ RoleError::Kind(_) => Failure::internal(other),
                },
            )?;
        self.covered(&rules.rules)
    }

    /// Whether the writer has all of these rules.
    fn covered(&self, rules: &[PolicyRule]) -> Result<(), Failure> {
        let (own, errors) = self.authorizer.roles.rules_for(self.identity, self.namespace());
        let missing = cover::missing(own.iter().flat_map(|role| &role.rules), rules);
        if missing.is_empty() {
            return Ok(());
        }
        let Identity { user, groups, .. } = self.identity;
        let mut why = format!(
            "user {user:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            cover::quoted(groups),
            cover::describe(&missing),
        );
        if !errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", aggregate(&errors)));
        }
        Err(self.forbidden(&why))
    }
}

fn everything() -> [PolicyRule; 2] {
    let all = || Some(vec!["*".to_owned()]);
    let verbs = vec!["*".to_owned()];
    [
        PolicyRule {
            verbs: verbs.clone(),
            api_groups: all(),
            resources: all(),
            ..Default::default()
        },
        PolicyRule { verbs, non_resource_urls: all(), ..Default::default() },
    ]
}
