//! Nobody gives rights that they do not have: RBAC's escalation checks.
//!
//! A role may hold what its writer may do (or the writer has `escalate` on it); a binding may give
//! a role whose rules its writer has (or the writer has `bind` on that role).

use std::borrow::Cow;

use coffer_api::status::Failure;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef,
};

use crate::authn::{Identity, MASTERS};
use crate::authz::attributes::{Attributes, ResourceTarget};
use crate::authz::rbac::{GROUP, RoleError, cover};
use crate::authz::{Authorizer, Decision, aggregate};
use crate::object::{Object, Resource};

/// Judges a new role or binding, or (with `old`) a changed one; other kinds pass.
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
    let (new, before) = (object.as_any(), old.map(Object::as_any));
    if let Some(role) = new.downcast_ref::<ClusterRole>() {
        let same = before.and_then(|old| old.downcast_ref::<ClusterRole>()).is_some_and(|old| {
            old.rules == role.rules && old.aggregation_rule == role.aggregation_rule
        });
        return if same { Ok(()) } else { writer.cluster_role(role) };
    }
    if let Some(role) = new.downcast_ref::<Role>() {
        let same = before
            .and_then(|old| old.downcast_ref::<Role>())
            .is_some_and(|old| old.rules == role.rules);
        return if same { Ok(()) } else { writer.role(role.rules.as_deref(), "roles") };
    }
    if let Some(binding) = new.downcast_ref::<ClusterRoleBinding>() {
        let same =
            before.and_then(|old| old.downcast_ref::<ClusterRoleBinding>()).is_some_and(|old| {
                (&old.role_ref, &old.subjects) == (&binding.role_ref, &binding.subjects)
            });
        return if same { Ok(()) } else { writer.binding(&binding.role_ref) };
    }
    if let Some(binding) = new.downcast_ref::<RoleBinding>() {
        let same = before.and_then(|old| old.downcast_ref::<RoleBinding>()).is_some_and(|old| {
            (&old.role_ref, &old.subjects) == (&binding.role_ref, &binding.subjects)
        });
        return if same { Ok(()) } else { writer.binding(&binding.role_ref) };
    }
    Ok(())
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

    fn no(&self, why: &str) -> Failure {
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

    fn cluster_role(&self, role: &ClusterRole) -> Result<(), Failure> {
        let name = role.metadata.name.as_deref().unwrap_or_default();
        if self.may("escalate", "clusterroles", name) {
            return Ok(());
        }
        self.covered(role.rules.as_deref().unwrap_or_default())?;
        let aggregates = role.aggregation_rule.as_ref();
        let aggregates = aggregates.and_then(|rule| rule.cluster_role_selectors.as_ref());
        // An aggregated role can gather anything.
        if aggregates.is_some_and(|all| !all.is_empty()) && self.covered(&everything()).is_err() {
            return Err(self.no("must have cluster-admin privileges to use the aggregationRule"));
        }
        Ok(())
    }

    fn role(&self, rules: Option<&[PolicyRule]>, plural: &str) -> Result<(), Failure> {
        let name = self.object.meta().name.as_deref().unwrap_or_default();
        if self.may("escalate", plural, name) {
            return Ok(());
        }
        self.covered(rules.unwrap_or_default())
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
        self.covered(&rules)
    }

    /// Whether the writer has all of these rules.
    fn covered(&self, rules: &[PolicyRule]) -> Result<(), Failure> {
        let (own, errors) = self.authorizer.roles.rules_for(self.identity, self.namespace());
        let missing = cover::missing(&own, rules);
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
        Err(self.no(&why))
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
