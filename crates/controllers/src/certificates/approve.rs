//! Which requests are approved automatically: those for a node's client certificate, the first one and its
//! renewals. Pure.

use coffer_api::names::dns1123_subdomain;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::certificate_request::{CertificateRequest, SanCounts, has_usages};

/// The signer of nodes' client certificates.
pub const KUBELET_CLIENT: &str = coffer_api::well_known::signer::KUBE_APISERVER_CLIENT_KUBELET;

/// A kind of request that is approved automatically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecognizedRequest {
    /// The subresource of `certificatesigningrequests` that the requester must be allowed to create.
    pub(crate) subresource: &'static str,
    /// The message of the approval.
    pub(crate) message: &'static str,
}

/// The kinds that a request is of, the most specific first.
pub(crate) fn recognize(request: &CertificateSigningRequest) -> Vec<RecognizedRequest> {
    let client = has_usages(request, ["digital signature", "client auth"]);
    let Some(parsed) = CertificateRequest::of(request).filter(|parsed| {
        client
            && request.spec.signer_name == KUBELET_CLIENT
            && parsed.is_of_nodes()
            // A Node cannot have any other name.
            && parsed.node().is_some_and(|node| dns1123_subdomain(node).is_empty())
            && parsed.names == SanCounts::default()
    }) else {
        return Vec::new();
    };
    let node = RecognizedRequest {
        subresource: "nodeclient",
        message: "Auto approving kubelet client certificate after SubjectAccessReview.",
    };
    let own = RecognizedRequest {
        subresource: "selfnodeclient",
        message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
    };
    if request.spec.username.as_deref() == Some(&parsed.common_name) {
        vec![own, node]
    } else {
        vec![node]
    }
}

#[cfg(test)]
mod tests {
    use super::super::sign::tests::{request, subject};
    use super::*;

    #[test]
    fn only_a_nodes_client_certificate_is_recognized() {
        let node = subject("system:node:a", &["system:nodes"]);
        let good = request(node.clone(), KUBELET_CLIENT, &["digital signature", "client auth"]);
        let kinds = |request: &CertificateSigningRequest| -> Vec<&str> {
            recognize(request).iter().map(|it| it.subresource).collect()
        };
        assert_eq!(kinds(&good), ["nodeclient"]);
        let mut own = good.clone();
        own.spec.username = Some("system:node:a".to_owned());
        assert_eq!(kinds(&own), ["selfnodeclient", "nodeclient"]);
        let mut with_name = node.clone();
        with_name.subject_alt_names =
            vec![rcgen::SanType::DnsName("a.example".try_into().unwrap())];
        let client = ["digital signature", "client auth"];
        for bad in [
            request(with_name, KUBELET_CLIENT, &client),
            request(node.clone(), "kubernetes.io/kube-apiserver-client", &client),
            request(node.clone(), KUBELET_CLIENT, &["digital signature", "server auth"]),
            request(
                node.clone(),
                KUBELET_CLIENT,
                &["digital signature", "client auth", "cert sign"],
            ),
            request(subject("system:node:", &["system:nodes"]), KUBELET_CLIENT, &client),
            request(subject("system:node:A", &["system:nodes"]), KUBELET_CLIENT, &client),
            request(subject("system:node:a ", &["system:nodes"]), KUBELET_CLIENT, &client),
            request(subject("admin", &["system:nodes"]), KUBELET_CLIENT, &client),
            request(
                subject("system:node:a", &["system:nodes", "system:masters"]),
                KUBELET_CLIENT,
                &client,
            ),
        ] {
            assert!(recognize(&bad).is_empty(), "{:?}", CertificateRequest::of(&bad));
        }
    }
}
