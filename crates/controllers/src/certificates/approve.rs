//! Which requests are approved automatically: a node's client certificate, its first one and the
//! ones after it. Pure.

use coffer_api::names::dns1123_subdomain;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::asked::{Asked, Names, has_usages};

/// The signer of nodes' client certificates.
pub const KUBELET_CLIENT: &str = coffer_api::well_known::signer::KUBE_APISERVER_CLIENT_KUBELET;

/// A request of a known sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recognised {
    /// What the requester must be allowed to create, below `certificatesigningrequests`.
    pub(crate) subresource: &'static str,
    /// What the approval says.
    pub(crate) message: &'static str,
}

/// The sorts a request is of, the narrower first.
pub(crate) fn recognise(request: &CertificateSigningRequest) -> Vec<Recognised> {
    let client = has_usages(request, ["digital signature", "client auth"]);
    let Some(asked) = Asked::of(request).filter(|asked| {
        client
            && request.spec.signer_name == KUBELET_CLIENT
            && asked.is_of_nodes()
            // A name that no Node can have is nothing that a kubelet asks for.
            && asked.node().is_some_and(|node| dns1123_subdomain(node).is_empty())
            && asked.names == Names::default()
    }) else {
        return Vec::new();
    };
    let node = Recognised {
        subresource: "nodeclient",
        message: "Auto approving kubelet client certificate after SubjectAccessReview.",
    };
    let own = Recognised {
        subresource: "selfnodeclient",
        message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
    };
    if request.spec.username.as_deref() == Some(&asked.common_name) {
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
    fn a_nodes_client_certificate_is_recognised_and_nothing_like_it() {
        let node = subject("system:node:a", &["system:nodes"]);
        let good = request(node.clone(), KUBELET_CLIENT, &["digital signature", "client auth"]);
        let sorts = |request: &CertificateSigningRequest| -> Vec<&str> {
            recognise(request).iter().map(|it| it.subresource).collect()
        };
        assert_eq!(sorts(&good), ["nodeclient"]);
        let mut own = good.clone();
        own.spec.username = Some("system:node:a".to_owned());
        assert_eq!(sorts(&own), ["selfnodeclient", "nodeclient"]);
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
            assert!(recognise(&bad).is_empty(), "{:?}", Asked::of(&bad));
        }
    }
}
