//! The one place where a [`Permit`] is made: from an [`Identity`] and what it asks for.

use std::sync::Arc;

use coffer_api::kinds::Pod;
use coffer_api::status::Failure;
use coffer_api::subresource::SubresourceName;

use super::attributes::Attributes;
use super::decision::{Decision, aggregate};
use super::node::NodeAuthorizer;
use super::node::graph::{Graph, PodFollower};
use super::rbac::{Follower, RbacKind, Roles};
use crate::cache::Cache;
use crate::identity::{AUTHENTICATED, Identity, MASTERS};
use crate::object::Resources;
use crate::request::RequestInfo;

/// Proof that this caller may make this request.
#[derive(Clone, Debug)]
pub(crate) struct Permit {
    identity: Arc<Identity>,
    subresource: String,
    internal: bool,
}

impl Permit {
    /// The caller that was allowed.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The subresource that the request is for; empty for the object itself.
    pub(crate) fn subresource(&self) -> &str {
        &self.subresource
    }

    /// Whether the request may write what pods run: the object itself, a subresource that does, or one
    /// that is not known.
    pub(crate) fn writes_spec(&self) -> bool {
        let name = SubresourceName::parse(&self.subresource);
        self.subresource.is_empty() || name.is_none_or(SubresourceName::writes_spec)
    }

    /// Whether this is the server's own permit. A caller of the same name has another.
    pub(crate) fn is_internal(&self) -> bool {
        self.internal
    }
}

/// The permit of what the server does on its own behalf, such as making the default namespaces.
///
/// It comes into being with its [`Authorizer`], cannot be copied, and goes to `core::internal`, which
/// keeps it to itself: that module is the one place where a write is the server's own.
pub(crate) struct InternalPermit(Permit);

impl InternalPermit {
    fn new() -> Self {
        let groups = vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()];
        let user = coffer_api::well_known::user::API_SERVER.to_owned();
        let identity = Arc::new(Identity { user, groups, ..Identity::default() });
        Self(Permit { identity, subresource: String::new(), internal: true })
    }

    /// The permit, to be lent to admission.
    pub(crate) fn get(&self) -> &Permit {
        &self.0
    }
}

/// Decides on requests.
pub(crate) struct Authorizer {
    pub(crate) roles: Arc<Roles>,
    nodes: NodeAuthorizer,
    cache: Arc<Cache>,
}

impl Authorizer {
    /// An authorizer that follows the cache, and the one permit that no request has to ask it for.
    pub(crate) fn new(resources: &Resources, cache: Arc<Cache>) -> (Self, InternalPermit) {
        let (roles, graph) = (Arc::new(Roles::default()), Arc::new(Graph::default()));
        for kind in RbacKind::ALL {
            let follower = Follower { roles: roles.clone(), kind };
            kind.resource(resources).shard().observe(Arc::new(follower));
        }
        resources.of::<Pod>().shard().observe(Arc::new(PodFollower(graph.clone())));
        let authorizer = Self { roles, nodes: NodeAuthorizer::new(graph), cache };
        (authorizer, InternalPermit::new())
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
                let subresource = subresource.unwrap_or_default();
                Ok(Permit { identity, subresource, internal: false })
            }
            Decision::NoOpinion(reason) => Err(asked.denial(&identity, &reason)),
        }
    }

    /// Decides by what the cache has and, before a denial, by everything written before: a
    /// client that has just made a binding may count on it.
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
            // What cannot be shown to be allowed is not.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subresource_that_is_not_known_may_write_the_spec() {
        let writes = |subresource: &str| {
            let identity = Arc::new(Identity::anonymous());
            let subresource = subresource.to_owned();
            Permit { identity, subresource, internal: false }.writes_spec()
        };
        for sub in ["", "ephemeralcontainers", "resize", "some-day"] {
            assert!(writes(sub), "{sub:?}");
        }
        for sub in ["status", "scale", "binding", "finalize", "approval"] {
            assert!(!writes(sub), "{sub:?}");
        }
    }
}
