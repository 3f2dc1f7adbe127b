//! What a request's PEM asks for.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// The user of a node, before its name.
const NODE_PREFIX: &str = "system:node:";
const NODES: &str = "system:nodes";

/// The subject and the names that a certificate is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
    /// DNS names and addresses.
    pub(super) hosts: usize,
    /// E-mail addresses, URIs and whatever else.
    pub(super) others: usize,
}

impl Asked {
    /// Reads the request; `None` where it is none.
    pub(super) fn of(request: &CertificateSigningRequest) -> Option<Self> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(&request.spec.request.0).ok()?;
        let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).ok()?;
        let subject = &parsed.certification_request_info.subject;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().map(str::to_owned).ok()
        };
        let mut asked = Self {
            common_name: subject.iter_common_name().next().and_then(text).unwrap_or_default(),
            organizations: subject.iter_organization().filter_map(text).collect(),
            ..Self::default()
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(_) | GeneralName::IPAddress(_) => asked.hosts += 1,
                    _ => asked.others += 1,
                }
            }
        }
        Some(asked)
    }

    /// Whether the subject is a node.
    pub(super) fn is_node(&self) -> bool {
        self.organizations == [NODES]
            && self.common_name.strip_prefix(NODE_PREFIX).is_some_and(|name| !name.is_empty())
    }
}

/// Whether the usages are these, with or without key encipherment (which only RSA keys need).
pub(super) fn has_usages(request: &CertificateSigningRequest, wanted: [&str; 2]) -> bool {
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    let mut rest: Vec<&str> = usages.iter().map(String::as_str).collect();
    rest.retain(|usage| *usage != "key encipherment");
    rest.sort_unstable();
    let mut wanted = wanted;
    wanted.sort_unstable();
    rest == wanted
}
