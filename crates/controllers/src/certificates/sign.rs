//! Signing with the cluster's authority, each signer by its own rules.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use super::approve::KUBELET_CLIENT;
use super::asked::{Asked, has_usages};

/// Certificates that open the API.
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Certificates that kubelets serve with.
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// The signers that this one is.
pub const SIGNERS: [&str; 3] = [CLIENT, KUBELET_CLIENT, KUBELET_SERVING];
/// How long a certificate is good for that asks for no time, and the longest that any is, where
/// nothing else is said.
const VALIDITY: Duration = Duration::days(365);
/// Clocks may be this late.
const BACKDATE: Duration = Duration::minutes(5);

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The request does not fit its signer; told to whoever asked.
    #[error("{0}")]
    Refused(String),
    /// The authority cannot sign now.
    #[error("{0}")]
    Failed(String),
}

/// An authority's certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the cluster signing {what} cannot be used")]
pub struct SignerError {
    what: &'static str,
}

/// The cluster's authority.
pub struct Signer {
    issuer: Issuer<'static, KeyPair>,
    not_after: OffsetDateTime,
    validity: Duration,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(..)")
    }
}

impl Signer {
    /// An authority from its certificate and key, PEM.
    ///
    /// # Errors
    /// Says which of the two cannot be used, and nothing of what is in it.
    pub fn new(cert_pem: &str, key_pem: &str) -> Result<Self, SignerError> {
        let bad_certificate = SignerError { what: "certificate" };
        let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()) else {
            return Err(bad_certificate);
        };
        let not_after = match pem.parse_x509() {
            Ok(certificate) => certificate.validity().not_after.to_datetime(),
            Err(_) => return Err(bad_certificate),
        };
        let key = KeyPair::from_pem(key_pem).map_err(|_| SignerError { what: "key" })?;
        let issuer = Issuer::from_ca_cert_pem(cert_pem, key).map_err(|_| bad_certificate)?;
        Ok(Self { issuer, not_after, validity: VALIDITY })
    }

    /// The same with another time that certificates are good for at most.
    #[must_use]
    pub fn lasting(self, validity: Duration) -> Self {
        Self { validity, ..self }
    }

    /// The certificate that a request is for.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn sign(
        &self,
        request: &CertificateSigningRequest,
        now: jiff::Timestamp,
    ) -> Result<String, SigningError> {
        check(request)?;
        let pem = std::str::from_utf8(&request.spec.request.0)
            .map_err(|_| SigningError::Refused("the request is not PEM".to_owned()))?;
        // The asker's key has signed the request, or it does not parse.
        let mut asked = CertificateSigningRequestParams::from_pem(pem)
            .map_err(|error| SigningError::Refused(error.to_string()))?;
        let now = OffsetDateTime::from_unix_timestamp(now.as_second())
            .map_err(|error| SigningError::Failed(error.to_string()))?;
        let params = &mut asked.params;
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = now - BACKDATE;
        let wanted = request.spec.expiration_seconds.map(|it| Duration::seconds(it.into()));
        params.not_after =
            (now + wanted.unwrap_or(self.validity).min(self.validity)).min(self.not_after);
        params.use_authority_key_identifier_extension = true;
        params.serial_number = None;
        params.key_usages = Vec::new();
        params.extended_key_usages = Vec::new();
        for usage in request.spec.usages.iter().flatten() {
            match usage.as_str() {
                "digital signature" => {
                    params.key_usages.push(KeyUsagePurpose::DigitalSignature);
                }
                "key encipherment" => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
                "client auth" => {
                    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
                }
                "server auth" => {
                    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
                }
                other => {
                    let why = format!("usage {other:?} is not signed by this signer");
                    return Err(SigningError::Refused(why));
                }
            }
        }
        let signed = asked.signed_by(&self.issuer);
        signed.map(|it| it.pem()).map_err(|error| SigningError::Failed(error.to_string()))
    }
}

/// The rules of a request's signer.
fn check(request: &CertificateSigningRequest) -> Result<(), SigningError> {
    let refused = |why: &str| Err(SigningError::Refused(why.to_owned()));
    let Some(asked) = Asked::of(request) else {
        return refused("the request cannot be read, or its subject has an attribute twice");
    };
    let client = has_usages(request, ["digital signature", "client auth"]);
    match request.spec.signer_name.as_str() {
        KUBELET_CLIENT => {
            if !asked.is_node() {
                return refused(
                    "subject organization is not system:nodes, or common name is no node",
                );
            }
            if (asked.hosts, asked.others) != (0, 0) {
                return refused("subject alternative names are not allowed");
            }
            if !client {
                return refused("usages did not match");
            }
        }
        KUBELET_SERVING => {
            if !asked.is_node() {
                return refused(
                    "subject organization is not system:nodes, or common name is no node",
                );
            }
            if request.spec.username.as_deref() != Some(&asked.common_name) {
                return refused("requested certificate is not the asking node's");
            }
            if asked.hosts == 0 || asked.others > 0 {
                return refused("only DNS names and IP addresses are allowed, and at least one");
            }
            if !has_usages(request, ["digital signature", "server auth"]) {
                return refused("usages did not match");
            }
        }
        CLIENT if !request.spec.usages.iter().flatten().any(|usage| usage == "client auth") => {
            return refused("usages did not match");
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::ByteString;
    use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType};

    use super::*;

    pub(in super::super) fn subject(name: &str, groups: &[&str]) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params
    }

    pub(in super::super) fn request(
        params: CertificateParams,
        signer: &str,
        usages: &[&str],
    ) -> CertificateSigningRequest {
        let key = KeyPair::generate().unwrap();
        let mut request = CertificateSigningRequest::default();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        request.spec.request = ByteString(pem.into_bytes());
        request.spec.signer_name = signer.to_owned();
        request.spec.usages = Some(usages.iter().map(|&usage| usage.to_owned()).collect());
        request
    }

    fn authority() -> Signer {
        let mut params = subject("ca", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Signer::new(&certificate.pem(), &key.serialize_pem()).unwrap()
    }

    #[test]
    fn a_certificate_says_what_was_asked_and_no_more() {
        let mut asked = subject("system:node:a", &["system:nodes"]);
        // Nobody becomes an authority by asking.
        asked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        asked.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let mut request = request(asked, KUBELET_CLIENT, &["digital signature", "client auth"]);
        request.spec.expiration_seconds = Some(3600);
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let pem = authority().sign(&request, now).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(certificate.subject().to_string(), "CN=system:node:a, O=system:nodes");
        assert!(!certificate.is_ca());
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_cert_sign());
        let extended = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.client_auth && !extended.server_auth && !extended.any);
        let end = certificate.validity().not_after.timestamp();
        assert_eq!(end, now.as_second() + 3600);
    }

    #[test]
    fn what_does_not_fit_its_signer_is_refused() {
        let client = ["digital signature", "client auth"];
        let server = ["digital signature", "server auth"];
        let node = || subject("system:node:a", &["system:nodes"]);
        let mut with_host = node();
        with_host.subject_alt_names = vec![rcgen::SanType::DnsName("a".try_into().unwrap())];
        let authority = authority();
        let sign =
            |request: &CertificateSigningRequest| authority.sign(request, jiff::Timestamp::now());
        for bad in [
            request(subject("admin", &["system:masters"]), KUBELET_CLIENT, &client),
            request(with_host.clone(), KUBELET_CLIENT, &client),
            request(node(), KUBELET_CLIENT, &server),
            request(node(), KUBELET_SERVING, &server),
            // Another node's name, or nobody's.
            request(with_host.clone(), KUBELET_SERVING, &server),
            request(node(), CLIENT, &["digital signature", "cert sign", "client auth"]),
        ] {
            assert!(matches!(sign(&bad), Err(SigningError::Refused(_))), "{:?}", Asked::of(&bad));
        }
        let mut own = request(with_host, KUBELET_SERVING, &server);
        own.spec.username = Some("system:node:a".to_owned());
        sign(&own).unwrap();
        let mut forged = request(node(), KUBELET_CLIENT, &client);
        let other = request(node(), KUBELET_CLIENT, &client);
        // Somebody else's public key under one's own signature.
        let (own_pem, other_pem) = (&mut forged.spec.request.0, &other.spec.request.0);
        let length = own_pem.len().min(other_pem.len());
        own_pem[60..length / 2].copy_from_slice(&other_pem[60..length / 2]);
        assert!(sign(&forged).is_err());
    }
}
