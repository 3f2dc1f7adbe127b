//! Signing with the cluster's certificate authorities. Each signer name has its rules, which are upstream's.
//!
//! Client certificates and kubelets' serving certificates are signed by two authorities, so that no client
//! certificate, whatever its request contains, is accepted as a server's. A certificate contains only those
//! parts of a request that were checked.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use super::approve::KUBELET_CLIENT;
use super::certificate_request::{CertificateRequest, has_usages};

/// The signer of API clients' certificates.
const CLIENT: &str = coffer_api::well_known::signer::KUBE_APISERVER_CLIENT;
/// The signer of kubelets' serving certificates.
const KUBELET_SERVING: &str = coffer_api::well_known::signer::KUBELET_SERVING;
/// Validity of a certificate whose request names none, and the maximum, unless configured otherwise.
const VALIDITY: Duration = Duration::days(365);
/// Minimum validity, unless the maximum is shorter.
const VALIDITY_MIN: Duration = Duration::minutes(10);
/// How long before now a certificate becomes valid, for clients whose clocks are slow.
const BACKDATE: Duration = Duration::minutes(5);
/// Upstream's message for a subject that is not a node's user.
const NO_NODE: &str = "subject common name does not begin with system:node:";

/// Why a request was not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SigningError {
    /// The request breaks a rule of its signer. The reason is written into its status.
    #[error("{0}")]
    Refused(String),
    /// The authority cannot sign now.
    #[error("{0}")]
    Failed(String),
}

/// An authority whose certificate or key cannot be used, or two authorities with the same key.
#[derive(Debug, thiserror::Error)]
#[error("the cluster signing {what} cannot be used")]
pub struct SignerError {
    what: &'static str,
}

/// A certificate with its key, to sign with.
pub struct SigningAuthority {
    issuer: Issuer<'static, KeyPair>,
    public_key: Vec<u8>,
    not_after: OffsetDateTime,
}

impl std::fmt::Debug for SigningAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningAuthority(..)")
    }
}

impl SigningAuthority {
    /// An authority from its certificate and key, PEM.
    ///
    /// # Errors
    /// Which of the two cannot be used. Their contents are not quoted.
    pub fn new(cert_pem: &str, key_pem: &str) -> Result<Self, SignerError> {
        let bad_certificate = || SignerError { what: "certificate" };
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()).map_err(|_| bad_certificate())?;
        let certificate = pem.parse_x509().map_err(|_| bad_certificate())?;
        let not_after = certificate.validity().not_after.to_datetime();
        let public_key = certificate.public_key().raw.to_vec();
        let key = KeyPair::from_pem(key_pem).map_err(|_| SignerError { what: "key" })?;
        let issuer = Issuer::from_ca_cert_pem(cert_pem, key).map_err(|_| bad_certificate())?;
        Ok(Self { issuer, public_key, not_after })
    }
}

/// The cluster's authorities.
#[derive(Debug)]
pub struct Signer {
    clients: SigningAuthority,
    kubelet_serving: Option<SigningAuthority>,
    validity: Duration,
}

impl Signer {
    /// Signs client certificates with one authority and kubelets' serving certificates with the other;
    /// without `kubelet_serving` it does not sign serving certificates.
    ///
    /// # Errors
    /// The authorities have the same key.
    pub fn new(
        clients: SigningAuthority,
        kubelet_serving: Option<SigningAuthority>,
    ) -> Result<Self, SignerError> {
        if kubelet_serving.as_ref().is_some_and(|it| it.public_key == clients.public_key) {
            return Err(SignerError { what: "authority of clients for kubelets' servers" });
        }
        Ok(Self { clients, kubelet_serving, validity: VALIDITY })
    }

    /// The same with another maximum validity.
    #[must_use]
    pub fn lasting(self, validity: Duration) -> Self {
        Self { validity, ..self }
    }

    /// Whether it signs requests with this signer name.
    pub(crate) fn signs(&self, signer: &str) -> bool {
        self.authority(signer).is_some()
    }

    fn authority(&self, signer: &str) -> Option<&SigningAuthority> {
        match signer {
            CLIENT | KUBELET_CLIENT => Some(&self.clients),
            KUBELET_SERVING => self.kubelet_serving.as_ref(),
            _ => None,
        }
    }

    /// Signs a request. Returns the certificate, PEM.
    ///
    /// # Errors
    /// [`SigningError`].
    pub(crate) fn sign(
        &self,
        request: &CertificateSigningRequest,
        now: jiff::Timestamp,
    ) -> Result<String, SigningError> {
        let signer = request.spec.signer_name.as_str();
        let authority = self
            .authority(signer)
            .ok_or_else(|| SigningError::Refused(format!("unrecognized signerName: {signer:?}")))?;
        check(request)?;
        let pem = std::str::from_utf8(&request.spec.request.0)
            .map_err(|_| SigningError::Refused("the request is not PEM".to_owned()))?;
        // This also verifies the request's signature.
        let mut request_params = CertificateSigningRequestParams::from_pem(pem)
            .map_err(|error| SigningError::Refused(error.to_string()))?;
        let now = OffsetDateTime::from_unix_timestamp(now.as_second())
            .map_err(|error| SigningError::Failed(error.to_string()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = std::mem::take(&mut request_params.params.distinguished_name);
        if signer == KUBELET_SERVING {
            params.subject_alt_names = std::mem::take(&mut request_params.params.subject_alt_names);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = now - BACKDATE;
        params.not_after = (now + self.validity_of(request)).min(authority.not_after);
        params.use_authority_key_identifier_extension = true;
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
        request_params.params = params;
        let signed = request_params.signed_by(&authority.issuer);
        signed.map(|it| it.pem()).map_err(|error| SigningError::Failed(error.to_string()))
    }

    /// The validity of the certificate for a request.
    fn validity_of(&self, request: &CertificateSigningRequest) -> Duration {
        match request.spec.expiration_seconds.map(|it| Duration::seconds(it.into())) {
            Some(wanted) if wanted < self.validity => wanted.max(VALIDITY_MIN).min(self.validity),
            _ => self.validity,
        }
    }
}

/// Checks the rules of a request's signer. Messages are upstream's where upstream has the rule.
fn check(request: &CertificateSigningRequest) -> Result<(), SigningError> {
    let refused = |why: &str| Err(SigningError::Refused(why.to_owned()));
    let Some(parsed) = CertificateRequest::of(request) else {
        return refused("the request cannot be read, or its subject has an attribute twice");
    };
    let names = parsed.names;
    match request.spec.signer_name.as_str() {
        KUBELET_CLIENT | KUBELET_SERVING if !parsed.is_of_nodes() => {
            refused("subject organization is not system:nodes")
        }
        KUBELET_CLIENT if names.dns > 0 => refused("DNS subjectAltNames are not allowed"),
        KUBELET_SERVING if (names.dns, names.ip) == (0, 0) => {
            refused("DNS or IP subjectAltName is required")
        }
        KUBELET_CLIENT | KUBELET_SERVING if names.email > 0 => {
            refused("Email subjectAltNames are not allowed")
        }
        KUBELET_CLIENT if names.ip > 0 => refused("IP subjectAltNames are not allowed"),
        KUBELET_CLIENT | KUBELET_SERVING if names.uri > 0 => {
            refused("URI subjectAltNames are not allowed")
        }
        KUBELET_CLIENT | KUBELET_SERVING if names.other > 0 => {
            refused("subjectAltNames of this kind are not allowed")
        }
        KUBELET_CLIENT if parsed.node().is_none() => refused(NO_NODE),
        KUBELET_CLIENT if !has_usages(request, ["digital signature", "client auth"]) => {
            refused("usages did not match [client auth digital signature key encipherment]")
        }
        KUBELET_SERVING if !has_usages(request, ["digital signature", "server auth"]) => {
            refused("usages did not match [digital signature key encipherment server auth]")
        }
        KUBELET_SERVING if parsed.node().is_none() => refused(NO_NODE),
        KUBELET_SERVING if request.spec.username.as_deref() != Some(&parsed.common_name) => {
            refused("requested certificate is not the asking node's")
        }
        KUBELET_CLIENT | KUBELET_SERVING => Ok(()),
        CLIENT => client_usages(request.spec.usages.as_deref().unwrap_or_default()),
        other => Err(SigningError::Refused(format!("unrecognized signerName: {other:?}"))),
    }
}

fn client_usages(usages: &[String]) -> Result<(), SigningError> {
    let allowed = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !allowed.contains(&usage.as_str())) {
        let why = format!("invalid usage for client certificate: {other}");
        return Err(SigningError::Refused(why));
    }
    if !usages.iter().any(|usage| usage == "client auth") {
        let why = "missing required usage for client certificate: client auth";
        return Err(SigningError::Refused(why.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
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

    fn signing_authority(name: &str) -> SigningAuthority {
        let mut params = subject(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        SigningAuthority::new(&certificate.pem(), &key.serialize_pem()).unwrap()
    }

    pub(crate) fn authority() -> Signer {
        Signer::new(signing_authority("clients"), Some(signing_authority("kubelets"))).unwrap()
    }

    #[test]
    fn a_certificate_contains_only_what_was_checked() {
        let mut params = subject("system:node:a", &["system:nodes"]);
        // A request for a CA certificate gets one that is not.
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let mut request = request(params, KUBELET_CLIENT, &["digital signature", "client auth"]);
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

    const CLIENT_USAGES: [&str; 2] = ["digital signature", "client auth"];
    const SERVER_USAGES: [&str; 2] = ["digital signature", "server auth"];

    /// A node's request for its own serving certificate.
    fn serving(names: Vec<rcgen::SanType>) -> CertificateSigningRequest {
        let mut params = subject("system:node:a", &["system:nodes"]);
        params.subject_alt_names = names;
        let mut made = request(params, KUBELET_SERVING, &SERVER_USAGES);
        made.spec.username = Some("system:node:a".to_owned());
        made
    }

    fn dns(name: &str) -> rcgen::SanType {
        rcgen::SanType::DnsName(name.try_into().unwrap())
    }

    #[test]
    fn a_request_that_breaks_a_rule_of_its_signer_is_refused_with_upstreams_message() {
        let authority = authority();
        let refusal = |request: &CertificateSigningRequest| match authority
            .sign(request, jiff::Timestamp::now())
        {
            Err(SigningError::Refused(why)) => why,
            other => panic!("{:?}: {other:?}", CertificateRequest::of(request)),
        };
        let node = || subject("system:node:a", &["system:nodes"]);
        let named = |name: rcgen::SanType| {
            let mut params = node();
            params.subject_alt_names = vec![name];
            params
        };
        let email = || rcgen::SanType::Rfc822Name("a@example.com".try_into().unwrap());
        let uri = || rcgen::SanType::URI("https://example.com".try_into().unwrap());
        let ip = || rcgen::SanType::IpAddress([127, 0, 0, 1].into());
        let client = |params| request(params, KUBELET_CLIENT, &CLIENT_USAGES);
        let (organization, name) = ("subject organization is not system:nodes", NO_NODE);
        let usages = "usages did not match [client auth digital signature key encipherment]";
        for (bad, why) in [
            (client(subject("admin", &["system:masters"])), organization),
            (client(subject("system:node:a", &["system:nodes", "dev"])), organization),
            (client(subject("system:node:a", &[])), organization),
            (client(subject("admin", &["system:nodes"])), name),
            (client(subject("system:node:", &["system:nodes"])), name),
            (client(named(dns("a"))), "DNS subjectAltNames are not allowed"),
            (client(named(ip())), "IP subjectAltNames are not allowed"),
            (client(named(email())), "Email subjectAltNames are not allowed"),
            (client(named(uri())), "URI subjectAltNames are not allowed"),
            (request(node(), KUBELET_CLIENT, &SERVER_USAGES), usages),
            (request(node(), KUBELET_CLIENT, &["client auth"]), usages),
            (
                request(
                    node(),
                    KUBELET_CLIENT,
                    &["digital signature", "client auth", "server auth"],
                ),
                usages,
            ),
        ] {
            assert_eq!(refusal(&bad), why);
        }

        let mut of_another_node = serving(vec![dns("a")]);
        of_another_node.spec.username = Some("system:node:b".to_owned());
        let mut without_user = serving(vec![dns("a")]);
        without_user.spec.username = None;
        let with_usages = |usages: &[&str]| {
            let mut made = serving(vec![dns("a")]);
            made.spec.usages = Some(usages.iter().map(|&usage| usage.to_owned()).collect());
            made
        };
        let usages = "usages did not match [digital signature key encipherment server auth]";
        for (bad, why) in [
            (serving(vec![]), "DNS or IP subjectAltName is required"),
            (serving(vec![dns("a"), email()]), "Email subjectAltNames are not allowed"),
            (serving(vec![ip(), uri()]), "URI subjectAltNames are not allowed"),
            (with_usages(&CLIENT_USAGES), usages),
            (with_usages(&["digital signature", "client auth", "server auth"]), usages),
            (of_another_node, "requested certificate is not the asking node's"),
            (without_user, "requested certificate is not the asking node's"),
        ] {
            assert_eq!(refusal(&bad), why);
        }
        authority.sign(&serving(vec![dns("a"), ip()]), jiff::Timestamp::now()).unwrap();

        for (usages, why) in [
            (
                &["client auth", "server auth"][..],
                "invalid usage for client certificate: server auth",
            ),
            (&["cert sign", "client auth"], "invalid usage for client certificate: cert sign"),
            (&["any"], "invalid usage for client certificate: any"),
            (&["digital signature"], "missing required usage for client certificate: client auth"),
        ] {
            assert_eq!(refusal(&request(subject("alice", &["dev"]), CLIENT, usages)), why);
        }
        for other in ["kubernetes.io/legacy-unknown", "example.com/own", ""] {
            assert!(!authority.signs(other));
            let why = refusal(&request(subject("alice", &[]), other, &CLIENT_USAGES));
            assert!(why.starts_with("unrecognized signerName"), "{why}");
        }
    }

    #[test]
    fn a_request_with_anothers_public_key_is_refused() {
        let node = || subject("system:node:a", &["system:nodes"]);
        let mut forged = request(node(), KUBELET_CLIENT, &CLIENT_USAGES);
        let other = request(node(), KUBELET_CLIENT, &CLIENT_USAGES);
        let (own_pem, other_pem) = (&mut forged.spec.request.0, &other.spec.request.0);
        let length = own_pem.len().min(other_pem.len());
        own_pem[60..length / 2].copy_from_slice(&other_pem[60..length / 2]);
        assert!(authority().sign(&forged, jiff::Timestamp::now()).is_err());
    }

    /// As upstream: the configured validity at most, ten minutes at least.
    #[test]
    fn the_requested_validity_is_kept_within_bounds() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let seconds_valid = |requested: Option<i32>, validity: Duration| {
            let mut made = request(subject("alice", &[]), CLIENT, &["client auth"]);
            made.spec.expiration_seconds = requested;
            let pem = authority().lasting(validity).sign(&made, now).unwrap();
            let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
            pem.parse_x509().unwrap().validity().not_after.timestamp() - now.as_second()
        };
        let day = Duration::days(1);
        for (requested, seconds) in [
            (None, 86_400),
            (Some(3600), 3600),
            (Some(60), 600),
            (Some(-1), 600),
            (Some(i32::MAX), 86_400),
        ] {
            assert_eq!(seconds_valid(requested, day), seconds, "{requested:?}");
        }
        assert_eq!(seconds_valid(Some(3600), Duration::seconds(20)), 20);
        assert_eq!(seconds_valid(Some(5), Duration::seconds(20)), 20);
    }

    /// With DNS names a client certificate could be used by a server.
    #[test]
    fn a_client_certificate_has_neither_names_nor_server_usage() {
        let mut params = subject("alice", &["dev"]);
        params.subject_alt_names = vec![
            dns("localhost"),
            dns("kubernetes.default.svc"),
            rcgen::SanType::IpAddress([127, 0, 0, 1].into()),
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let made = request(params, CLIENT, &CLIENT_USAGES);
        let pem = authority().sign(&made, jiff::Timestamp::now()).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        assert!(certificate.subject_alternative_name().unwrap().is_none());
        let extended = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.client_auth && !extended.server_auth && !extended.any);
    }

    #[test]
    fn two_authorities_with_the_same_key_are_refused() {
        let mut params = subject("both", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let authority = || SigningAuthority::new(&pem, &key.serialize_pem()).unwrap();
        assert!(Signer::new(authority(), Some(authority())).is_err());
        let alone = Signer::new(authority(), None).unwrap();
        assert!(alone.signs(CLIENT) && !alone.signs(KUBELET_SERVING));
    }
}
