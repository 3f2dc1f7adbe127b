//! Role-based access control: roles and bindings as the cache has them, and what follows from them.
//!
//! [`Roles`] is kept current by the cache itself, under the same lock that lets a watcher see a
//! change, so a client cannot see a binding that does not hold yet. Evaluation is pure and reads it.

pub(crate) mod aggregate;
mod controllers;
pub(crate) mod cover;
mod index;
pub(crate) mod policy;
pub(crate) mod reconcile;
pub(crate) mod rule;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use coffer_api::status::GroupResource;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use serde::de::DeserializeOwned;

use self::index::Index;
use super::attributes::{Attributes, Target};
use crate::cache::{CacheEvent, CachedObject, Facts, Observer};
use crate::identity::Identity;
use crate::object::{Resource, Resources};

/// The API group of roles and bindings.
pub(crate) const GROUP: &str = coffer_api::well_known::api_group::RBAC;

/// Annotation of default roles and bindings: `true` lets the server add to them what they lack.
pub(crate) const AUTO_UPDATE: &str = coffer_api::well_known::annotation::RBAC_AUTO_UPDATE;

/// Missing roles that a denial names.
const ERRORS_MAX: usize = 100;

/// A role that a binding references and that does not exist, or whose kind is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RoleError {
    #[error("{} {name:?} not found", GroupResource { group: GROUP, resource })]
    NotFound { resource: &'static str, name: String },
    #[error("unsupported role reference kind: {0:?}")]
    Kind(String),
}

/// A role as it was written, and in the form that decides.
pub(crate) struct Rules {
    pub(crate) rules: Vec<PolicyRule>,
    index: Index,
    /// Of the object as it is stored.
    bytes: usize,
}

/// The subjects that a role is bound to.
struct Binding {
    role: Arc<Reference>,
    subjects: Vec<SubjectKey>,
}

/// A role by kind and name, as a binding of some scope refers to it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    kind: String,
    name: String,
}

/// A subject of a binding; a service account is the user that it logs in as.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum SubjectKey {
    User(String),
    Group(String),
}

/// The bindings of a namespace, or those without one.
#[derive(Default)]
struct Bindings {
    by_name: HashMap<String, Arc<Binding>>,
    /// What each subject is given, with how many subjects of bindings give it: a role counts once,
    /// however often it is bound.
    given: HashMap<SubjectKey, BTreeMap<Arc<Reference>, usize>>,
}

#[derive(Default)]
struct State {
    /// By namespace (empty for cluster roles) and name.
    roles: HashMap<String, HashMap<String, Arc<Rules>>>,
    /// Counts changes.
    generation: u64,
    /// By namespace (empty for cluster role bindings).
    bindings: HashMap<String, Bindings>,
}

/// All roles and bindings there are.
#[derive(Default)]
pub(crate) struct Roles(RwLock<State>);

impl Roles {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write()
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
                Ok(rules) => allowed = rules.index.allows(asked),
                Err(error) if errors.len() < ERRORS_MAX => errors.push(error),
                Err(_) => {}
            }
            !allowed
        });
        if allowed { Ok(()) } else { Err(errors) }
    }

    /// Counts changes of roles and bindings: while it stays the same, so do all decisions.
    pub(crate) fn generation(&self) -> u64 {
        self.read().generation
    }

    /// All roles a caller has in a namespace (or, where that is empty, everywhere).
    pub(crate) fn rules_for(
        &self,
        identity: &Identity,
        namespace: &str,
    ) -> (Vec<Arc<Rules>>, Vec<RoleError>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        self.visit(identity, namespace, |found| {
            match found {
                Ok(found) => rules.push(found.clone()),
                Err(error) if errors.len() < ERRORS_MAX => errors.push(error),
                Err(_) => {}
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
    ) -> Result<Arc<Rules>, RoleError> {
        self.read().rules_of(&role.kind, &role.name, namespace).cloned()
    }

    /// How many bytes of roles a check looks at before this caller may give some role in a namespace:
    /// of all that they have, and of the largest that they could give.
    pub(crate) fn bytes_to_evaluate(&self, identity: &Identity, namespace: &str) -> usize {
        let mut bytes: usize = 0;
        self.visit(identity, namespace, |found| {
            bytes = bytes.saturating_add(found.map_or(0, |rules| rules.bytes));
            true
        });
        let state = self.read();
        let roles = ["", namespace].into_iter().filter_map(|scope| state.roles.get(scope));
        let largest = roles.flat_map(HashMap::values).map(|rules| rules.bytes).max();
        bytes.saturating_add(largest.unwrap_or_default())
    }

    /// Shows every role that applies, cluster-wide ones first, each of a scope once, until the
    /// visitor stops.
    fn visit(
        &self,
        identity: &Identity,
        namespace: &str,
        mut visitor: impl FnMut(Result<&Arc<Rules>, RoleError>) -> bool,
    ) {
        let state = self.read();
        let scopes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        let user = SubjectKey::User(identity.user.clone());
        let groups = identity.groups.iter().cloned().map(SubjectKey::Group);
        let all: HashSet<SubjectKey> = groups.chain([user]).collect();
        for scope in scopes {
            let Some(bindings) = state.bindings.get(*scope) else { continue };
            let given = all.iter().filter_map(|who| bindings.given.get(who));
            let given: BTreeSet<&Reference> =
                given.flat_map(BTreeMap::keys).map(|it| &**it).collect();
            for role in given {
                if !visitor(state.rules_of(&role.kind, &role.name, scope)) {
                    return;
                }
            }
        }
    }
}

impl State {
    fn rules_of(&self, kind: &str, name: &str, namespace: &str) -> Result<&Arc<Rules>, RoleError> {
        let (namespace, resource) = match kind {
            "Role" => (namespace, "roles"),
            "ClusterRole" => ("", "clusterroles"),
            other => return Err(RoleError::Kind(other.to_owned())),
        };
        self.roles
            .get(namespace)
            .and_then(|roles| roles.get(name))
            .ok_or_else(|| RoleError::NotFound { resource, name: name.to_owned() })
    }
}

impl SubjectKey {
    /// The user or group that a subject of a binding names; `None` for a subject that is not valid.
    fn of(subject: &Subject, namespace: &str) -> Option<Self> {
        match subject.kind.as_str() {
            "User" => Some(Self::User(subject.name.clone())),
            "Group" => Some(Self::Group(subject.name.clone())),
            "ServiceAccount" => {
                // A binding in a namespace may leave out its own.
                let own = subject.namespace.as_deref().filter(|own| !own.is_empty());
                let namespace = own.unwrap_or(namespace);
                let user =
                    coffer_api::well_known::user::of_service_account(namespace, &subject.name);
                let meant = Identity { user, ..Identity::default() };
                let same = meant.service_account() == Some((namespace, &*subject.name));
                same.then_some(Self::User(meant.user))
            }
            _ => None,
        }
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
    pub(crate) const ALL: [Self; 4] =
        [Self::Role, Self::ClusterRole, Self::RoleBinding, Self::ClusterRoleBinding];

    /// Where the objects of this kind are.
    pub(crate) fn resource(self, resources: &Resources) -> &Resource {
        match self {
            Self::Role => resources.of::<Role>(),
            Self::ClusterRole => resources.of::<ClusterRole>(),
            Self::RoleBinding => resources.of::<RoleBinding>(),
            Self::ClusterRoleBinding => resources.of::<ClusterRoleBinding>(),
        }
    }

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
    fn makes_facts(&self) -> bool {
        true
    }

    fn facts(&self, object: &dyn Any, bytes: usize) -> Option<Facts> {
        self.kind.facts(object, bytes)
    }

    fn reset(&self, objects: &mut dyn Iterator<Item = (&CachedObject, Option<&Facts>)>) {
        let mut state = self.roles.write();
        let ours = |namespace: &str| namespace.is_empty() == self.kind.is_cluster_wide();
        if self.kind.is_role() {
            state.roles.retain(|namespace, _| !ours(namespace));
        } else {
            state.bindings.retain(|namespace, _| !ours(namespace));
        }
        state.generation += 1;
        for (object, facts) in objects {
            state.put(Change::of(self.kind, object, facts));
        }
    }

    fn changed(&self, event: &CacheEvent, facts: Option<&Facts>) {
        let facts = facts.filter(|_| event.new.is_some());
        self.roles.write().put(Change::of(self.kind, event.subject(), facts));
    }
}

impl RbacKind {
    /// What an object of this kind says: [`Rules`], or a [`Binding`]. Of another kind nothing follows.
    fn facts(self, object: &dyn Any, bytes: usize) -> Option<Facts> {
        Some(match self {
            Self::Role => Rules::of(&object.downcast_ref::<Role>()?.rules, bytes),
            Self::ClusterRole => Rules::of(&object.downcast_ref::<ClusterRole>()?.rules, bytes),
            Self::RoleBinding => {
                let it = object.downcast_ref::<RoleBinding>()?;
                Binding::of(&it.metadata, &it.role_ref, &it.subjects)
            }
            Self::ClusterRoleBinding => {
                let it = object.downcast_ref::<ClusterRoleBinding>()?;
                Binding::of(&it.metadata, &it.role_ref, &it.subjects)
            }
        })
    }
}

impl Rules {
    fn of(rules: &Option<Vec<PolicyRule>>, bytes: usize) -> Facts {
        let rules = rules.clone().unwrap_or_default();
        let index = Index::of(&rules);
        Arc::new(Self { rules, index, bytes })
    }
}

impl Binding {
    fn of(meta: &ObjectMeta, role: &RoleRef, subjects: &Option<Vec<Subject>>) -> Facts {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let subjects = subjects.iter().flatten();
        Arc::new(Self {
            role: Arc::new(Reference { kind: role.kind.clone(), name: role.name.clone() }),
            subjects: subjects.filter_map(|it| SubjectKey::of(it, namespace)).collect(),
        })
    }
}

/// What an object of one of the four kinds is now, if it exists. One that cannot be decoded gives no
/// rights.
struct Change<'a> {
    object: &'a CachedObject,
    what: What,
}

enum What {
    Role(Option<Arc<Rules>>),
    Binding(Option<Arc<Binding>>),
}

impl<'a> Change<'a> {
    fn of(kind: RbacKind, object: &'a CachedObject, facts: Option<&Facts>) -> Self {
        let what = if kind.is_role() {
            What::Role(facts.and_then(|facts| facts.clone().downcast().ok()))
        } else {
            What::Binding(facts.and_then(|facts| facts.clone().downcast().ok()))
        };
        Self { object, what }
    }
}

impl State {
    /// Takes in an object, or takes it out.
    fn put(&mut self, change: Change<'_>) {
        self.generation += 1;
        let CachedObject { namespace, name, .. } = change.object;
        match change.what {
            What::Role(rules) => {
                let scope = self.roles.entry(namespace.clone()).or_default();
                match rules {
                    Some(rules) => scope.insert(name.clone(), rules),
                    None => scope.remove(name),
                };
                if scope.is_empty() {
                    self.roles.remove(namespace);
                }
            }
            What::Binding(binding) => {
                let scope = self.bindings.entry(namespace.clone()).or_default();
                scope.remove(name);
                if let Some(binding) = binding {
                    scope.insert(name.clone(), binding);
                }
                if scope.by_name.is_empty() {
                    self.bindings.remove(namespace);
                }
            }
        }
    }
}

impl Bindings {
    fn insert(&mut self, name: String, binding: Arc<Binding>) {
        for who in &binding.subjects {
            let given = self.given.entry(who.clone()).or_default();
            *given.entry(binding.role.clone()).or_default() += 1;
        }
        self.by_name.insert(name, binding);
    }

    fn remove(&mut self, name: &str) {
        let Some(binding) = self.by_name.remove(name) else { return };
        for who in &binding.subjects {
            let Some(given) = self.given.get_mut(who) else { continue };
            if let Some(times) = given.get_mut(&binding.role) {
                *times -= 1;
                if *times == 0 {
                    given.remove(&binding.role);
                }
            }
            if given.is_empty() {
                self.given.remove(who);
            }
        }
    }
}

/// What was stored was typed once; a role that cannot be read gives no rights.
pub(crate) fn parse<T: DeserializeOwned>(object: &CachedObject) -> Option<T> {
    serde_json::from_slice(&object.bytes)
        .inspect_err(
            |error| tracing::error!(key = &*object.key, %error, "cannot decode a stored object"),
        )
        .ok()
}

#[cfg(test)]
mod tests;
