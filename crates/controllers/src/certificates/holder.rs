//! Whether a node's name is in use already, when a client requests a certificate for it. Pure.
//!
//! A certificate cannot be taken back: the client that holds one is the node until it expires. So a name that a
//! Node object has, that a node's pods or lease still have, or that a certificate was given out for, is
//! not given to another key unless an administrator approves it. The node itself, which requests it under its
//! own name, always gets its next certificate.

use coffer_api::condition::ConditionType;
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::approve::KUBELET_CLIENT;
use super::asked::Asked;
use super::{has, issued};

/// The node that a request would make its requester, unless the requester is that node.
pub(super) fn becoming(request: &CertificateSigningRequest) -> Option<String> {
    let asked = Asked::of(request)?;
    let itself = request.spec.username.as_deref() == Some(&asked.common_name);
    asked.node().filter(|_| !itself).map(str::to_owned)
}

/// What the API server has under a node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trace {
    /// A Node.
    Node,
    /// Pods that are bound to it, though it is not there: who becomes it gets their secrets.
    Pods,
    /// A lease, though it is not there.
    Lease,
}

/// Why a request to become `node` is a person's to approve: what holds the name. `trace` is what there
/// is of it, `others` are all requests there are.
pub(super) fn held<'a>(
    request: &CertificateSigningRequest,
    node: &str,
    trace: Option<Trace>,
    others: impl IntoIterator<Item = &'a CertificateSigningRequest>,
    now: Timestamp,
) -> Option<String> {
    let what = match trace {
        Some(Trace::Node) => format!("node {node:?} exists"),
        Some(Trace::Pods) => format!("pods are bound to node {node:?}"),
        Some(Trace::Lease) => format!("node {node:?} has a lease"),
        None => {
            let mut holding = others.into_iter().filter(|other| holds(other, request, now));
            let name = holding.next()?.metadata.name.as_deref().unwrap_or_default();
            format!("certificate request {name:?} was approved for node {node:?}")
        }
    };
    let name = request.metadata.name.as_deref().unwrap_or_default();
    Some(format!(
        "not approved automatically: {what}, and the request does not come from it. If this is the same machine, which has lost its key, run `kubectl certificate approve {name}`"
    ))
}

/// Whether an earlier request's certificate is, or will be, good for the name that `request` asks
/// for, and for another key.
fn holds(
    other: &CertificateSigningRequest,
    request: &CertificateSigningRequest,
    now: Timestamp,
) -> bool {
    let given = other.metadata.uid != request.metadata.uid
        && other.spec.signer_name == KUBELET_CLIENT
        && has(other, ConditionType::Approved)
        && !has(other, ConditionType::Denied)
        && !has(other, ConditionType::Failed);
    if !given {
        return false;
    }
    // Neither is approved here, nor signed, if it cannot be read.
    let (Some(theirs), Some(ours)) = (Asked::of(other), Asked::of(request)) else { return false };
    // Who asks again, with the same key, has nothing more by it.
    let same_key =
        theirs.public_key == ours.public_key && other.spec.username == request.spec.username;
    let ended = issued(other).is_some_and(|pem| has_ended(pem, now));
    theirs.common_name == ours.common_name && !same_key && !ended
}

/// Whether a certificate's time is over; not if it cannot be read.
fn has_ended(pem: &[u8], now: Timestamp) -> bool {
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
    fn a_name_with_a_node_or_a_good_certificate_is_a_persons_to_give() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let ours = asking("new", "a", "system:bootstrap:x");
        assert_eq!(becoming(&ours).as_deref(), Some("a"));
        assert_eq!(becoming(&asking("own", "a", "system:node:a")), None);
        assert_eq!(becoming(&asking("other", "a", "system:node:b")).as_deref(), Some("a"));

        let held = |others: &[&CertificateSigningRequest], now| {
            held(&ours, "a", None, others.iter().copied(), now)
        };
        assert_eq!(held(&[&ours], now), None);
        for (trace, text) in [
            (Trace::Node, "node \"a\" exists"),
            (Trace::Pods, "pods are bound to node \"a\""),
            (Trace::Lease, "node \"a\" has a lease"),
        ] {
            let why = super::held(&ours, "a", Some(trace), [], now).unwrap();
            assert!(why.contains(text) && why.contains("approve new"), "{why}");
        }

        let mut earlier = asking("earlier", "a", "system:bootstrap:x");
        assert_eq!(held(&[&earlier], now), None, "it has not been approved");
        add_condition(&mut earlier, ConditionType::Approved, "AutoApproved", String::new());
        let why = held(&[&ours, &earlier], now).unwrap();
        assert!(why.contains("request \"earlier\" was approved"), "{why}");
        let pem = authority().sign(&earlier, now).unwrap();
        earlier.status.as_mut().unwrap().certificate =
            Some(k8s_openapi::ByteString(pem.into_bytes()));
        assert!(held(&[&earlier], now).is_some());
        let later: Timestamp = "2027-02-01T00:00:00Z".parse().unwrap();
        assert_eq!(held(&[&earlier], later), None, "it has ended");

        let mut denied = earlier.clone();
        add_condition(&mut denied, ConditionType::Denied, "", String::new());
        let mut same_key = ours.clone();
        same_key.metadata.uid = Some("before".to_owned());
        add_condition(&mut same_key, ConditionType::Approved, "", String::new());
        let mut of_another = asking("b", "b", "system:bootstrap:x");
        add_condition(&mut of_another, ConditionType::Approved, "", String::new());
        assert_eq!(held(&[&denied, &same_key, &of_another], now), None);
    }
}
