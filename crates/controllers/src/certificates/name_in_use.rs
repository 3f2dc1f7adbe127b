//! Whether a node's name is in use already, when a client requests a certificate for it. Pure.
//!
//! A certificate cannot be revoked: its holder is the node until it expires. So the name of a Node, a name
//! that pods or a Lease still refer to, and a name for which a certificate was issued are not approved for
//! another key automatically; an administrator has to approve it. The node itself, which requests under its
//! own name, always gets its certificate renewed.

use coffer_api::condition::ConditionType;
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::approve::KUBELET_CLIENT;
use super::certificate_request::CertificateRequest;
use super::{has, issued};

/// The node whose certificate is requested, unless that node is the requester.
pub(super) fn claimed_node(request: &CertificateSigningRequest) -> Option<String> {
    let parsed = CertificateRequest::of(request)?;
    let itself = request.spec.username.as_deref() == Some(&parsed.common_name);
    parsed.node().filter(|_| !itself).map(str::to_owned)
}

/// An object that refers to a node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameUse {
    /// A Node.
    Node,
    /// Pods that are bound to a node that does not exist. The holder of its certificate could read their
    /// secrets.
    Pods,
    /// The Lease of a node that does not exist.
    Lease,
}

/// Why an administrator has to approve a request for the certificate of `node`: what uses the name. `others`
/// are all requests with this name.
pub(super) fn conflict<'a>(
    request: &CertificateSigningRequest,
    node: &str,
    used_by: Option<NameUse>,
    others: impl IntoIterator<Item = &'a CertificateSigningRequest>,
    now: Timestamp,
) -> Option<String> {
    let what = match used_by {
        Some(NameUse::Node) => format!("node {node:?} exists"),
        Some(NameUse::Pods) => format!("pods are bound to node {node:?}"),
        Some(NameUse::Lease) => format!("node {node:?} has a lease"),
        None => {
            let mut conflicting = others.into_iter().filter(|other| uses_name(other, request, now));
            let name = conflicting.next()?.metadata.name.as_deref().unwrap_or_default();
            format!("certificate request {name:?} was approved for node {node:?}")
        }
    };
    let name = request.metadata.name.as_deref().unwrap_or_default();
    Some(format!(
        "not approved automatically: {what}, and the request does not come from it. If this is the same machine, which has lost its key, run `kubectl certificate approve {name}`"
    ))
}

/// Whether an earlier request's certificate is, or will be, valid for the name that `request` asks for, with
/// another key.
fn uses_name(
    other: &CertificateSigningRequest,
    request: &CertificateSigningRequest,
    now: Timestamp,
) -> bool {
    let is_approved = other.metadata.uid != request.metadata.uid
        && other.spec.signer_name == KUBELET_CLIENT
        && has(other, ConditionType::Approved)
        && !has(other, ConditionType::Denied)
        && !has(other, ConditionType::Failed);
    if !is_approved {
        return false;
    }
    // A request that is invalid is neither approved here nor signed.
    let (Some(theirs), Some(ours)) =
        (CertificateRequest::of(other), CertificateRequest::of(request))
    else {
        return false;
    };
    // The same requester with the same key gains nothing.
    let same_key =
        theirs.public_key == ours.public_key && other.spec.username == request.spec.username;
    let expired = issued(other).is_some_and(|pem| has_expired(pem, now));
    theirs.common_name == ours.common_name && !same_key && !expired
}

/// Whether a certificate has expired. An unreadable one has not.
fn has_expired(pem: &[u8], now: Timestamp) -> bool {
    let end = || {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
        Some(pem.parse_x509().ok()?.validity().not_after.timestamp())
    };
    end().is_some_and(|end| end < now.as_second())
}

#[cfg(test)]
mod tests {
    use super::super::add_condition;
    use super::super::sign::tests::{authority, request, subject};
    use super::*;

    fn asking(name: &str, node: &str, user: &str) -> CertificateSigningRequest {
        let params = subject(&format!("system:node:{node}"), &["system:nodes"]);
        let mut made = request(params, KUBELET_CLIENT, &["digital signature", "client auth"]);
        made.metadata.name = Some(name.to_owned());
        made.metadata.uid = Some(name.to_owned());
        made.spec.username = Some(user.to_owned());
        made
    }

    #[test]
    fn a_name_that_is_in_use_needs_an_administrators_approval() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let ours = asking("new", "a", "system:bootstrap:x");
        assert_eq!(claimed_node(&ours).as_deref(), Some("a"));
        assert_eq!(claimed_node(&asking("own", "a", "system:node:a")), None);
        assert_eq!(claimed_node(&asking("other", "a", "system:node:b")).as_deref(), Some("a"));

        let conflict = |others: &[&CertificateSigningRequest], now| {
            super::conflict(&ours, "a", None, others.iter().copied(), now)
        };
        assert_eq!(conflict(&[&ours], now), None);
        for (used_by, text) in [
            (NameUse::Node, "node \"a\" exists"),
            (NameUse::Pods, "pods are bound to node \"a\""),
            (NameUse::Lease, "node \"a\" has a lease"),
        ] {
            let why = super::conflict(&ours, "a", Some(used_by), [], now).unwrap();
            assert!(why.contains(text) && why.contains("approve new"), "{why}");
        }

        let mut earlier = asking("earlier", "a", "system:bootstrap:x");
        assert_eq!(conflict(&[&earlier], now), None, "it has not been approved");
        add_condition(&mut earlier, ConditionType::Approved, "AutoApproved", String::new());
        let why = conflict(&[&ours, &earlier], now).unwrap();
        assert!(why.contains("request \"earlier\" was approved"), "{why}");
        let pem = authority().sign(&earlier, now).unwrap();
        earlier.status.as_mut().unwrap().certificate =
            Some(k8s_openapi::ByteString(pem.into_bytes()));
        assert!(conflict(&[&earlier], now).is_some());
        let later: Timestamp = "2027-02-01T00:00:00Z".parse().unwrap();
        assert_eq!(conflict(&[&earlier], later), None, "it has expired");

        let mut denied = earlier.clone();
        add_condition(&mut denied, ConditionType::Denied, "", String::new());
        let mut same_key = ours.clone();
        same_key.metadata.uid = Some("before".to_owned());
        add_condition(&mut same_key, ConditionType::Approved, "", String::new());
        let mut of_another = asking("b", "b", "system:bootstrap:x");
        add_condition(&mut of_another, ConditionType::Approved, "", String::new());
        assert_eq!(conflict(&[&denied, &same_key, &of_another], now), None);
    }
}
