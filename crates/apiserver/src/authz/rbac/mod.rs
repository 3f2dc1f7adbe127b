//! Role-based access control: roles and bindings as the cache has them, and what follows from them.
//!
//! [`Roles`] is kept current by the cache itself, under the same lock that lets a watcher see a
//! change, so nobody can see a binding that does not hold yet. Evaluation is pure and reads it.

pub(crate) mod aggregate;
pub(crate) mod bootstrap;
mod controllers;
pub(crate) mod cover;
pub(crate) mod policy;
pub(crate) mod rule;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use coffer_api::status::GroupResource;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use serde::de::DeserializeOwned;

use super::attributes::{Attributes, Target};
use crate::authn::Identity;
use crate::cache::{CacheEvent, CachedObject, Observer};

/// The API group of roles and bindings.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

/// A role that is referred to and not there (or of no kind that is known).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RoleError {
    #[error("{} {name:?} not found", GroupResource { group: GROUP, resource })]
    NotFound { resource: &'static str, name: String },
    #[error("unsupported role reference kind: {0:?}")]
    Kind(String),
}

/// Who a role is given to.
struct Binding {
    role: RoleRef,
    subjects: Vec<Subject>,
}

#[derive(Default)]
struct State {
    /// By namespace (empty for cluster roles) and name.
    roles: HashMap<(String, String), Arc<[PolicyRule]>>,
    /// Counts changes.
    generation: u64,
    /// By namespace (empty for cluster role bindings), then name.
    bindings: HashMap<String, BTreeMap<String, Binding>>,
}

/// All roles and bindings there are.
#[derive(Default)]
pub(crate) struct Roles(RwLock<State>);

impl Roles {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().expect("no panic happens under this lock")
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().expect("no panic happens under this lock")
    }

    /// Whether some rule that this caller has allows what is asked; else why it was hard to tell.
    pub(crate) fn authorize(
        &self,
        identity: &Identity,
        asked: &Attributes<'_>,
    ) -> Result<(), Vec<RoleError>> {
        let namespace = match &asked.target {
            Target::Resource(target) => &*target.namespace,
            Target::Path(_) => "",
        };
        let (mut allowed, mut errors) = (false, Vec::new());
        self.visit(identity, namespace, |found| {
            match found {
                Ok(rules) => allowed = rules.iter().any(|rule| rule::allows(rule, asked)),
                Err(error) => errors.push(error),
            }
            !allowed
        });
        if allowed { Ok(()) } else { Err(errors) }
    }

    /// Counts changes of roles and bindings: while it stays, so do the answers.
    pub(crate) fn generation(&self) -> u64 {
        self.read().generation
    }

    /// All rules a caller has in a namespace (or, where that is empty, everywhere).
    pub(crate) fn rules_for(
        &self,
        identity: &Identity,
        namespace: &str,
    ) -> (Vec<PolicyRule>, Vec<RoleError>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        self.visit(identity, namespace, |found| {
            match found {
                Ok(found) => rules.extend_from_slice(found),
                Err(error) => errors.push(error),
            }
            true
        });
        (rules, errors)
    }

    /// The rules behind a binding's reference.
    pub(crate) fn rules_of(
        &self,
        role: &RoleRef,
        namespace: &str,
    ) -> Result<Arc<[PolicyRule]>, RoleError> {
        self.read().rules_of(role, namespace).cloned()
    }

    /// Shows the rules of every binding that applies, cluster-wide ones first, until told to stop.
    fn visit(
        &self,
        identity: &Identity,
        namespace: &str,
        mut visitor: impl FnMut(Result<&[PolicyRule], RoleError>) -> bool,
    ) {
        let state = self.read();
        let scopes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for scope in scopes {
            for binding in state.bindings.get(*scope).into_iter().flat_map(BTreeMap::values) {
                if !binding.subjects.iter().any(|subject| applies(identity, subject, scope)) {
                    continue;
                }
                let rules = state.rules_of(&binding.role, scope).map(|rules| &**rules);
                if !visitor(rules) {
                    return;
                }
            }
        }
    }
}

impl State {
    fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<&Arc<[PolicyRule]>, RoleError> {
        let (namespace, resource) = match role.kind.as_str() {
            "Role" => (namespace, "roles"),
            "ClusterRole" => ("", "clusterroles"),
            other => return Err(RoleError::Kind(other.to_owned())),
        };
        let key = (namespace.to_owned(), role.name.clone());
        self.roles
            .get(&key)
            .ok_or_else(|| RoleError::NotFound { resource, name: role.name.clone() })
    }
}

/// Whether a subject of a binding means this caller.
fn applies(identity: &Identity, subject: &Subject, namespace: &str) -> bool {
    match subject.kind.as_str() {
        "User" => identity.user == subject.name,
        "Group" => identity.in_group(&subject.name),
        "ServiceAccount" => {
            // A binding in a namespace may leave out its own.
            let own = subject.namespace.as_deref().filter(|own| !own.is_empty());
            let namespace = own.unwrap_or(namespace);
            let account = identity.service_account();
            !namespace.is_empty() && account == Some((namespace, &*subject.name))
        }
        _ => false,
    }
}

/// The four kinds of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RbacKind {
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
}

impl RbacKind {
    /// Each with its plural.
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::Role, "roles"),
        (Self::ClusterRole, "clusterroles"),
        (Self::RoleBinding, "rolebindings"),
        (Self::ClusterRoleBinding, "clusterrolebindings"),
    ];

    fn is_role(self) -> bool {
        matches!(self, Self::Role | Self::ClusterRole)
    }

    fn is_cluster_wide(self) -> bool {
        matches!(self, Self::ClusterRole | Self::ClusterRoleBinding)
    }
}

/// Keeps [`Roles`] in step with one of the four kinds.
pub(crate) struct Follower {
    pub(crate) roles: Arc<Roles>,
    pub(crate) kind: RbacKind,
}

impl Observer for Follower {
    fn reset(&self, objects: &mut dyn Iterator<Item = &Arc<CachedObject>>) {
        let mut state = self.roles.write();
        let ours = |namespace: &str| namespace.is_empty() == self.kind.is_cluster_wide();
        if self.kind.is_role() {
            state.roles.retain(|(namespace, _), _| !ours(namespace));
        } else {
            state.bindings.retain(|namespace, _| !ours(namespace));
        }
        state.generation += 1;
        for object in objects {
            state.put(self.kind, object, true);
        }
    }

    fn changed(&self, event: &CacheEvent) {
        self.roles.write().put(self.kind, event.subject(), event.new.is_some());
    }
}

impl State {
    /// Takes in an object, or takes it out.
    fn put(&mut self, kind: RbacKind, object: &CachedObject, there: bool) {
        self.generation += 1;
        if kind.is_role() {
            let key = (object.namespace.clone(), object.name.clone());
            match there.then(|| rules(kind, object)).flatten() {
                Some(rules) => self.roles.insert(key, rules.into()),
                None => self.roles.remove(&key),
            };
            return;
        }
        let scope = self.bindings.entry(object.namespace.clone()).or_default();
        match there.then(|| binding(kind, object)).flatten() {
            Some(binding) => scope.insert(object.name.clone(), binding),
            None => scope.remove(&object.name),
        };
        if scope.is_empty() {
            self.bindings.remove(&object.namespace);
        }
    }
}

fn rules(kind: RbacKind, object: &CachedObject) -> Option<Vec<PolicyRule>> {
    Some(match kind {
        RbacKind::ClusterRole => parse::<ClusterRole>(object)?.rules.unwrap_or_default(),
        _ => parse::<Role>(object)?.rules.unwrap_or_default(),
    })
}

fn binding(kind: RbacKind, object: &CachedObject) -> Option<Binding> {
    let (role, subjects) = if kind == RbacKind::ClusterRoleBinding {
        let found = parse::<ClusterRoleBinding>(object)?;
        (found.role_ref, found.subjects)
    } else {
        let found = parse::<RoleBinding>(object)?;
        (found.role_ref, found.subjects)
    };
    Some(Binding { role, subjects: subjects.unwrap_or_default() })
}

/// What was stored was typed once; a role that cannot be read gives no rights.
fn parse<T: DeserializeOwned>(object: &CachedObject) -> Option<T> {
    serde_json::from_slice(&object.bytes)
        .inspect_err(|error| tracing::error!(key = &*object.key, %error, "cannot be read"))
        .ok()
}

#[cfg(test)]
mod tests;
