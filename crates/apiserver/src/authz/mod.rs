//! Who may do what. [`Authorizer::check`] takes an [`Identity`] and yields a [`Permit`]; whatever
//! handles a request starts from the permit and cannot be reached without one.

use coffer_api::status::{Failure, GroupResource};

use crate::authn::{AUTHENTICATED, Identity, MASTERS};
use crate::request::{RequestInfo, ResourcePath};

/// Proof that this caller may make this request.
#[derive(Clone, Debug)]
pub(crate) struct Permit {
    identity: Identity,
}

impl Permit {
    /// Who was allowed.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the server does on its own behalf: making the namespaces every cluster has.
    pub(crate) fn server_itself() -> Self {
        let groups = vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()];
        Self { identity: Identity { user: "system:apiserver".into(), uid: String::new(), groups } }
    }
}

/// Paths everyone may read, also without a name.
const PUBLIC: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];
/// Paths that everyone with a name may read.
const DISCOVERY: [&str; 4] = ["/api", "/apis", "/openapi", "/"];
/// Coffer's own parts, by the names in their certificates.
const COMPONENTS: [&str; 2] = ["system:kube-scheduler", "system:kube-controller-manager"];
const NODES: &str = "system:nodes";

/// Decides on requests.
#[derive(Debug, Default)]
pub(crate) struct Authorizer;

impl Authorizer {
    /// Allows or denies one request.
    ///
    /// # Errors
    /// 403 worded as upstream's.
    pub(crate) fn check(&self, identity: Identity, info: &RequestInfo) -> Result<Permit, Failure> {
        let allowed = identity.in_group(MASTERS)
            || match &info.resource {
                None => non_resource_allowed(&identity, &info.path),
                Some(_) => COMPONENTS.contains(&identity.user.as_str()) || identity.in_group(NODES),
            };
        if allowed { Ok(Permit { identity }) } else { Err(denial(&identity, info)) }
    }
}

fn non_resource_allowed(identity: &Identity, path: &str) -> bool {
    let under = |root: &&str| {
        path.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    PUBLIC.iter().any(|root| under(&root))
        || (identity.in_group(AUTHENTICATED) && DISCOVERY.iter().any(|root| under(&root)))
}

fn denial(identity: &Identity, info: &RequestInfo) -> Failure {
    let user = &identity.user;
    match &info.resource {
        None => Failure::forbidden(
            GroupResource { group: "", resource: "" },
            "",
            &format!("User \"{user}\" cannot {} path \"{}\"", info.method, info.path),
        ),
        Some((verb, target)) => {
            let verb = verb.as_str();
            let ResourcePath { group, namespace, resource, name, subresource, .. } = target;
            let shown = match subresource.as_str() {
                "" => resource.clone(),
                sub => format!("{resource}/{sub}"),
            };
            let scope = match namespace.as_str() {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace \"{namespace}\""),
            };
            let why = format!(
                "User \"{user}\" cannot {verb} resource \"{shown}\" in API group \"{group}\" {scope}"
            );
            Failure::forbidden(GroupResource { group, resource }, name, &why)
        }
    }
}
