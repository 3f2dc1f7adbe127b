//! The PKCS#10 certificate request in `spec.request` of a CertificateSigningRequest.

use std::collections::HashSet;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// The user of a node, before its name.
const NODE_PREFIX: &str = coffer_api::well_known::user::NODE_PREFIX;
const NODES: &str = coffer_api::well_known::group::NODES;

/// Subject, names and key of a requested certificate.
///
/// A request whose subject has an attribute twice is not parsed: the signing library keeps only the last
/// value of an attribute, and the subject that is checked must be the subject that is signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CertificateRequest {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
    pub(super) names: SanCounts,
    /// The public key, DER.
    pub(super) public_key: Vec<u8>,
}

/// The number of subject alternative names of each type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SanCounts {
    pub(super) dns: usize,
    pub(super) ip: usize,
    pub(super) email: usize,
    pub(super) uri: usize,
    pub(super) other: usize,
}

impl CertificateRequest {
    /// Parses the request; `None` where it is not a valid certificate request.
    pub(super) fn of(request: &CertificateSigningRequest) -> Option<Self> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(&request.spec.request.0).ok()?;
        let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).ok()?;
        let subject = &parsed.certification_request_info.subject;
        let kinds: Vec<_> = subject.iter_attributes().map(|it| it.attr_type()).collect();
        let distinct: HashSet<_> = kinds.iter().map(|kind| kind.as_bytes()).collect();
        if distinct.len() != kinds.len() {
            return None;
        }
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().map(str::to_owned).ok()
        };
        let name = subject.iter_common_name().map(text).next();
        let mut contents = Self {
            common_name: name.unwrap_or_else(|| Some(String::new()))?,
            organizations: subject.iter_organization().map(text).collect::<Option<_>>()?,
            names: SanCounts::default(),
            public_key: parsed.certification_request_info.subject_pki.raw.to_vec(),
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                let count = match name {
                    GeneralName::DNSName(_) => &mut contents.names.dns,
                    GeneralName::IPAddress(_) => &mut contents.names.ip,
                    GeneralName::RFC822Name(_) => &mut contents.names.email,
                    GeneralName::URI(_) => &mut contents.names.uri,
                    _ => &mut contents.names.other,
                };
                *count += 1;
            }
        }
        Some(contents)
    }

    /// Whether the only requested group is that of nodes.
    pub(super) fn is_of_nodes(&self) -> bool {
        self.organizations == [NODES]
    }

    /// The node whose user name is requested.
    pub(super) fn node(&self) -> Option<&str> {
        self.common_name.strip_prefix(NODE_PREFIX).filter(|name| !name.is_empty())
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

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};

    use super::*;

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let mut out = vec![tag];
        match u8::try_from(content.len()).expect("short") {
            length @ 0..128 => out.push(length),
            length => out.extend([0x81, length]),
        }
        [out, content].concat()
    }

    /// A request, signed, for a subject of these attributes: the last byte of 2.5.4.N, and the text.
    fn request(subject: &[(u8, &str)]) -> CertificateSigningRequest {
        let key = KeyPair::generate().unwrap();
        let attributes: Vec<Vec<u8>> = subject
            .iter()
            .map(|(kind, text)| {
                let oid = der(0x06, &[&[0x55, 0x04, *kind]]);
                der(0x31, &[&der(0x30, &[&oid, &der(0x0c, &[text.as_bytes()])])])
            })
            .collect();
        let name = der(0x30, &[&attributes.concat()]);
        let public = key.subject_public_key_info();
        let info = der(0x30, &[&[2, 1, 0], &name, &public, &[0xa0, 0]]);
        // ecdsa-with-SHA256
        let algorithm = der(0x30, &[&der(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]])]);
        let signature = der(0x03, &[&[0], &key.sign(&info).unwrap()]);
        let body = [info, algorithm, signature].concat();
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        let whole = [&[0x30, 0x82], length.as_slice(), &body].concat();
        let pem = pem_of(&whole);
        let mut request = CertificateSigningRequest::default();
        request.spec.request = ByteString(pem.into_bytes());
        request
    }

    fn pem_of(der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
    }

    const NAME: u8 = 3;
    const ORGANIZATION: u8 = 10;

    /// The first name would be checked, the last one would be signed.
    #[test]
    fn a_subject_with_a_repeated_attribute_is_not_parsed() {
        let one = request(&[(ORGANIZATION, NODES), (NAME, "system:node:a")]);
        let parsed = CertificateRequest::of(&one).unwrap();
        assert_eq!((parsed.is_of_nodes(), parsed.node()), (true, Some("a")));
        rcgen::CertificateSigningRequestParams::from_pem(
            std::str::from_utf8(&one.spec.request.0).unwrap(),
        )
        .unwrap();
        let two = [(ORGANIZATION, NODES), (NAME, "system:node:a"), (NAME, "system:node:b")];
        assert_eq!(CertificateRequest::of(&request(&two)), None);
        let groups = [(ORGANIZATION, NODES), (ORGANIZATION, "x"), (NAME, "system:node:a")];
        assert_eq!(CertificateRequest::of(&request(&groups)), None);
    }
}
