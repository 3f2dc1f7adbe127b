//! Who may do what. [`Authorizer::check`] takes an [`Identity`] and yields a [`Permit`]; whatever
//! handles a request starts from the permit and cannot be reached without one.
//!
//! The chain is upstream's: `system:masters`, then the Node authorizer, then RBAC; the first that
//! allows decides, and where none does, the reasons of all are told.

pub(crate) mod attributes;
pub(crate) mod node;
pub(crate) mod rbac;
pub(crate) mod references;
mod standing;

use std::collections::HashSet;
use std::sync::Arc;

use coffer_api::status::Failure;

pub(crate) use self::standing::Standing;

use self::attributes::Attributes;
use self::node::NodeAuthorizer;
use self::node::graph::{Graph, PodFollower};
use self::rbac::{Follower, RbacKind, Roles};
use crate::authn::{AUTHENTICATED, Identity, MASTERS};
use crate::cache::Cache;
use crate::object::Resources;
use crate::request::RequestInfo;

/// Proof that this caller may make this request.
#[derive(Clone, Debug)]
pub(crate) struct Permit {
    identity: Arc<Identity>,
    subresource: String,
}

impl Permit {
    /// Who was allowed.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The subresource that the request is for; empty for the object itself.
    pub(crate) fn subresource(&self) -> &str {
        &self.subresource
    }

    /// What the server does on its own behalf: making the namespaces every cluster has.
    pub(crate) fn server_itself() -> Self {
        let groups = vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()];
        let user = "system:apiserver".to_owned();
        let identity = Arc::new(Identity { user, groups, ..Identity::default() });
        Self { identity, subresource: String::new() }
    }
}

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow,
    /// Not allowed by this one; why, where it knows.
    NoOpinion(String),
}

impl Decision {
    fn no_opinion() -> Self {
        Self::NoOpinion(String::new())
    }

    fn no(reason: impl Into<String>) -> Self {
        Self::NoOpinion(reason.into())
    }
}

/// Decides on requests.
pub(crate) struct Authorizer {
    pub(crate) roles: Arc<Roles>,
    nodes: NodeAuthorizer,
    cache: Arc<Cache>,
}

impl Authorizer {
    /// An authorizer that follows the cache.
    pub(crate) fn new(resources: &Resources, cache: Arc<Cache>) -> Self {
        let (roles, graph) = (Arc::new(Roles::default()), Arc::new(Graph::default()));
        for (kind, plural) in RbacKind::ALL {
            if let Some(resource) = resources.find(rbac::GROUP, "v1", plural) {
                resource.shard().observe(Arc::new(Follower { roles: roles.clone(), kind }));
            }
        }
        if let Some(pods) = resources.find("", "v1", "pods") {
            pods.shard().observe(Arc::new(PodFollower(graph.clone())));
        }
        Self { roles, nodes: NodeAuthorizer::new(graph), cache }
    }

    /// Allows or denies one request.
    ///
    /// # Errors
    /// 403 worded as upstream's.
    pub(crate) async fn check(
        &self,
        identity: Arc<Identity>,
        info: &RequestInfo,
    ) -> Result<Permit, Failure> {
        let asked = Attributes::of(info);
        match self.decide_fresh(&identity, &asked).await {
            Decision::Allow => {
                let subresource = info.resource.as_ref().map(|(_, path)| path.subresource.clone());
                Ok(Permit { identity, subresource: subresource.unwrap_or_default() })
            }
            Decision::NoOpinion(reason) => Err(asked.denial(&identity, &reason)),
        }
    }

    /// Decides by what the cache has and, before a denial, by everything written before: whoever
    /// has just made a binding may count on it.
    pub(crate) async fn decide_fresh(
        &self,
        identity: &Identity,
        asked: &Attributes<'_>,
    ) -> Decision {
        let seen = self.cache.revision();
        let first = self.decide(identity, asked);
        if first == Decision::Allow {
            return first;
        }
        match self.cache.fresh().await {
            Ok(revision) if revision > seen => self.decide(identity, asked),
            // Whoever cannot be shown to be allowed is not.
            _ => first,
        }
    }

    /// Decides by what the cache has.
    pub(crate) fn decide(&self, identity: &Identity, asked: &Attributes<'_>) -> Decision {
        if identity.in_group(MASTERS) {
            return Decision::Allow;
        }
        let mut reasons = Vec::new();
        match self.nodes.decide(identity, asked) {
            Decision::Allow => return Decision::Allow,
            Decision::NoOpinion(reason) => reasons.push(reason),
        }
        match self.roles.authorize(identity, asked) {
            Ok(()) => return Decision::Allow,
            Err(errors) if errors.is_empty() => {}
            Err(errors) => reasons.push(format!("RBAC: {}", aggregate(&errors))),
        }
        reasons.retain(|reason| !reason.is_empty());
        Decision::NoOpinion(reasons.join("\n"))
    }
}

/// Several errors as Go's aggregate prints them: one bare, more in brackets, each once.
pub(crate) fn aggregate<E: std::fmt::Display>(errors: &[E]) -> String {
    let (mut texts, mut seen): (Vec<String>, HashSet<String>) = Default::default();
    for text in errors.iter().map(ToString::to_string) {
        if seen.insert(text.clone()) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [only] => only.clone(),
        all => format!("[{}]", all.join(", ")),
    }
}
