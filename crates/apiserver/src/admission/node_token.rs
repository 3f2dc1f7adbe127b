//! NodeRestriction for tokens: which tokens of service accounts a node gets.
//!
//! A node asks for tokens on behalf of its pods. It gets one that is bound to such a pod, for an
//! audience that the pod projects into a volume, and no longer than that volume says; another
//! audience requires `request-serviceaccounts-token-audience` on it, as upstream's
//! ServiceAccountNodeAudienceRestriction has it. CSI drivers, whose token requests upstream counts,
//! are not served.

use std::borrow::Cow;

use coffer_api::kinds::ServiceAccount;
use coffer_api::status::Failure;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};

use super::node_restriction::{Subject, cached, node_of, requesting_node};
use crate::authz::attributes::{Attributes, ResourceTarget};
use crate::authz::{Authorizer, Decision, Permit};
use crate::object::Resources;
use crate::request::ResourcePath;

/// The right to ask for tokens for an audience that no volume of the pod names. The audience is
/// sent as the resource, the account as the name.
const AUDIENCE_VERB: &str = "request-serviceaccounts-token-audience";
/// How long a token lives, in seconds, whose audience comes from a right or whose volume says
/// nothing: what a TokenRequest gets that says nothing.
const LIFETIME_S: i64 = 3600;

/// Checks a request for a token of the account that a path names. For a node: how long, in seconds,
/// the token may live at most.
///
/// # Errors
/// 403 in upstream's words, 404 for a pod that does not exist.
pub(crate) fn check(
    resources: &Resources,
    authorizer: &Authorizer,
    permit: &Permit,
    path: &ResourcePath,
    request: &TokenRequest,
) -> Result<Option<i64>, Failure> {
    let accounts = resources.of::<ServiceAccount>();
    let (namespace, account) = (path.namespace.as_str(), path.name.as_str());
    let Some(node) = requesting_node(permit, accounts.group_resource(), account)? else {
        return Ok(None);
    };
    let subject = Subject { resource: accounts, name: account };
    let pod = bound_pod(resources, node, &subject, namespace, request)?;
    let audience = match request.spec.audiences.as_slice() {
        [] => "",
        [only] => only,
        _ => return subject.refusal("node may only request 0 or 1 audiences"),
    };
    if let Some(lifetime_s) = projected_lifetime_s(&pod, audience) {
        return Ok(Some(lifetime_s));
    }
    let asked = Attributes::resource(
        AUDIENCE_VERB,
        ResourceTarget {
            resource: Cow::Borrowed(audience),
            namespace: Cow::Borrowed(namespace),
            name: Cow::Borrowed(account),
            ..Default::default()
        },
    );
    let identity = permit.identity();
    if !audience.is_empty() && authorizer.decide(identity, &asked) == Decision::Allow {
        return Ok(Some(LIFETIME_S));
    }
    let user = &identity.user;
    subject.refusal(format!(
        "audience {audience:?} not found in pod spec volume, {user} is not authorized to request tokens for this audience"
    ))
}

/// The pod that the token is to be bound to: it must be there, and on this node.
fn bound_pod(
    resources: &Resources,
    node: &str,
    subject: &Subject<'_>,
    namespace: &str,
    request: &TokenRequest,
) -> Result<Pod, Failure> {
    let reference = request.spec.bound_object_ref.clone().unwrap_or_default();
    let (version, kind) = (reference.api_version.as_deref(), reference.kind.as_deref());
    let name = reference.name.unwrap_or_default();
    if (version, kind) != (Some("v1"), Some("Pod")) || name.is_empty() {
        return subject.refusal("node requested token not bound to a pod");
    }
    let uid = reference.uid.unwrap_or_default();
    if uid.is_empty() {
        return subject.refusal("node requested token with a pod binding without a uid");
    }
    let pod: Pod = cached(resources.of::<Pod>(), namespace, &name)?;
    if pod.metadata.uid.as_deref() != Some(&uid) {
        return subject.refusal(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    if node_of(&pod) != node {
        return subject
            .refusal("node requested token bound to a pod scheduled on a different node");
    }
    Ok(pod)
}

/// The longest lifetime, in seconds, that a volume of the pod gives a token for this audience; the empty
/// one is the API server's. `None` where no volume has such a token.
fn projected_lifetime_s(pod: &Pod, audience: &str) -> Option<i64> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let sources = volumes
        .filter_map(|volume| volume.projected.as_ref())
        .flat_map(|projected| projected.sources.iter().flatten());
    let tokens = sources.filter_map(|source| source.service_account_token.as_ref());
    let named = |token: &ServiceAccountTokenProjection| {
        token.audience.as_deref().unwrap_or_default() == audience
    };
    let lifetime_s =
        |token: &ServiceAccountTokenProjection| token.expiration_seconds.unwrap_or(LIFETIME_S);
    tokens.filter(|token| named(token)).map(lifetime_s).max()
}
