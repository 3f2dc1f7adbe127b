//! CertificateSigningRequest: asking for a certificate, and the three endpoints that write one. The
//! object is its asker's, `approval` its approver's, `status` its signer's; none writes through
//! another's endpoint. Who asks is the server's to fill in, and no client's.

use std::collections::HashSet;

use jiff::Timestamp;
pub use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::certificates::v1::CertificateSigningRequestCondition;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::info::{KindInfo, Subresource};
use super::kind::Kind;
use super::merge::{Rules, apply_keyed};
use super::meta;
use super::optional::list;
use crate::condition::{self, ConditionStatus, ConditionType};
use crate::field::{Error, ErrorList, Path};
use crate::names;
use crate::protobuf::tables::certificates;
use crate::subresource::SubresourceName;
use crate::well_known::{api_group, signer};

mod printer;

/// The conditions that a request gets once and keeps, and whose only status is True.
const FINAL: [ConditionType; 3] =
    [ConditionType::Approved, ConditionType::Denied, ConditionType::Failed];
/// The only status of a final condition.
const FINAL_STATUS: [&str; 1] = [ConditionStatus::True.as_str()];
/// Shortest life that can be asked for, in seconds.
const EXPIRATION_MIN_S: i32 = 600;
const PEM_BEGIN: &[u8] = b"-----BEGIN CERTIFICATE REQUEST-----";

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

const STATUS: Subresource =
    Subresource::status(api_group::CERTIFICATES, "CertificateSigningRequest");

static INFO: KindInfo = KindInfo {
    namespaced: false,
    short_names: &["csr"],
    subresources: &[Subresource { name: SubresourceName::Approval, ..STATUS }, STATUS],
    field_labels: &["spec.signerName"],
    rules: &Rules {
        lists: &[(
            "certificates.v1.CertificateSigningRequestStatus",
            "conditions",
            apply_keyed(&["type"]),
        )],
        ..Rules::NONE
    },
    columns: printer::COLUMNS,
    ..KindInfo::of::<CertificateSigningRequest>(
        "certificatesigningrequest",
        &certificates::CERTIFICATE_SIGNING_REQUEST,
    )
};

impl Kind for CertificateSigningRequest {
    const INFO: &'static KindInfo = &INFO;

    fn prepare_for_create(&mut self) {
        self.status = None;
    }

    fn prepare_for_update(&mut self, old: &Self, sub: Option<SubresourceName>) {
        self.spec = old.spec.clone();
        match sub {
            Some(SubresourceName::Approval) => {
                let conditions = self.status.take().and_then(|status| status.conditions);
                self.status.clone_from(&old.status);
                if conditions.is_some() || self.status.is_some() {
                    self.status.get_or_insert_default().conditions = conditions;
                }
            }
            Some(SubresourceName::Status) => {}
            _ => self.status.clone_from(&old.status),
        }
    }

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        errors.extend(validate_spec(self));
        errors.extend(validate_conditions(conditions(self)));
        errors
    }

    fn validate_update(&self, old: &Self, sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = self.validate();
        errors.extend(meta::validate_update(&self.metadata, &old.metadata));
        match sub {
            Some(SubresourceName::Approval) => {
                errors.extend(keeps(self, old, &FINAL, false));
                errors.extend(adds_none(self, old, &[ConditionType::Failed]));
            }
            Some(SubresourceName::Status) => {
                let decisions = [ConditionType::Approved, ConditionType::Denied];
                errors.extend(keeps(self, old, &decisions, true));
                errors.extend(adds_none(self, old, &decisions));
                errors.extend(keeps(self, old, &[ConditionType::Failed], false));
                errors.extend(validate_certificate(self, old));
            }
            _ => {}
        }
        errors
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", self.spec.signer_name.clone())]
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        printer::cells(self, now)
    }
}

fn conditions(csr: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    csr.status.as_ref().map(|status| list(&status.conditions)).unwrap_or_default()
}

fn validate_spec(csr: &CertificateSigningRequest) -> ErrorList {
    let (path, spec) = (Path::new("spec"), &csr.spec);
    let mut errors = ErrorList::new();
    if !spec.request.0.trim_ascii_start().starts_with(PEM_BEGIN) {
        // What the asker sent is not quoted: it may have been a key.
        let why = "PEM block type must be CERTIFICATE REQUEST";
        errors.push(Error::invalid_redacted(&path.child("request"), why));
    }
    let usages = path.child("usages");
    if list(&spec.usages).is_empty() {
        errors.push(Error::required(&usages, ""));
    }
    for (at, usage) in list(&spec.usages).iter().enumerate() {
        if !USAGES.contains(&usage.as_str()) {
            errors.push(Error::not_supported(&usages.index(at), usage, &USAGES));
        } else if list(&spec.usages)[..at].contains(usage) {
            errors.push(Error::duplicate(&usages.index(at), usage));
        }
    }
    errors.extend(validate_signer(&spec.signer_name, &path.child("signerName")));
    if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < EXPIRATION_MIN_S) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(Error::invalid(&path.child("expirationSeconds"), seconds, why));
    }
    errors
}

/// `example.com/name`: a domain with a dot, and a path below it.
fn validate_signer(signer: &str, path: &Path) -> ErrorList {
    if signer.is_empty() {
        return vec![Error::required(path, "")];
    }
    if signer == signer::LEGACY_UNKNOWN {
        let why = "the legacy signerName is not allowed via this API version";
        return vec![Error::invalid(path, signer, why)];
    }
    let malformed = || {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        vec![Error::invalid(path, signer, why)]
    };
    match signer.split('/').collect::<Vec<_>>().as_slice() {
        [domain, name] if !name.is_empty() => {
            let mut errors = meta::invalid_each(path, domain, names::dns1123_subdomain(domain));
            if !domain.contains('.') {
                let why = "should be a domain with at least two segments separated by dots";
                errors.push(Error::invalid(path, *domain, why));
            }
            errors.extend(meta::invalid_each(path, name, names::dns1123_subdomain(name)));
            errors
        }
        _ => malformed(),
    }
}

fn validate_conditions(all: &[CertificateSigningRequestCondition]) -> ErrorList {
    let path = Path::new("status").child("conditions");
    let mut errors = ErrorList::new();
    let mut seen = HashSet::new();
    for (at, condition) in all.iter().enumerate() {
        let (path, kind) = (path.index(at), condition.type_.as_str());
        if kind.is_empty() {
            errors.push(Error::required(&path.child("type"), ""));
        }
        let type_ = ConditionType::parse(kind);
        let is_final = type_.is_some_and(|type_| FINAL.contains(&type_));
        let status = condition.status.as_str();
        match ConditionStatus::parse(status) {
            Some(ConditionStatus::True) => {}
            Some(_) if !is_final => {}
            None if status.is_empty() => {
                errors.push(Error::required(&path.child("status"), ""));
            }
            _ => {
                let supported: &[&str] =
                    if is_final { &FINAL_STATUS } else { &ConditionStatus::TEXTS };
                errors.push(Error::not_supported(&path.child("status"), status, supported));
            }
        }
        let repeated = !seen.insert(kind);
        if repeated {
            errors.push(Error::duplicate(&path.child("type"), kind));
        }
        let other = match type_ {
            Some(ConditionType::Approved) => ConditionType::Denied,
            Some(ConditionType::Denied) => ConditionType::Approved,
            _ => continue,
        };
        if seen.contains(other.as_str()) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(Error::invalid(&path.child("type"), kind, why));
        }
    }
    errors
}

fn of_type(
    csr: &CertificateSigningRequest,
    type_: ConditionType,
) -> Option<&CertificateSigningRequestCondition> {
    condition::find(conditions(csr), type_)
}

/// Conditions, once there, stay; with `whole` as they are.
fn keeps(
    new: &CertificateSigningRequest,
    old: &CertificateSigningRequest,
    types: &[ConditionType],
    whole: bool,
) -> ErrorList {
    let path = Path::new("status").child("conditions");
    let lost = |type_: &&ConditionType| {
        let (new, old) = (of_type(new, **type_), of_type(old, **type_));
        old.is_some() && (new.is_none() || (whole && new != old))
    };
    let complain = |type_: &ConditionType| {
        let type_ = type_.as_str();
        Error::forbidden(&path, format!("updates may not remove a condition of type {type_:?}"))
    };
    types.iter().filter(lost).map(complain).collect()
}

fn adds_none(
    new: &CertificateSigningRequest,
    old: &CertificateSigningRequest,
    types: &[ConditionType],
) -> ErrorList {
    let path = Path::new("status").child("conditions");
    let added =
        |type_: &&ConditionType| of_type(new, **type_).is_some() && of_type(old, **type_).is_none();
    let complain = |type_: &ConditionType| {
        let type_ = type_.as_str();
        Error::forbidden(&path, format!("updates may not add a condition of type {type_:?}"))
    };
    types.iter().filter(added).map(complain).collect()
}

/// A certificate is set once, and is PEM.
fn validate_certificate(
    new: &CertificateSigningRequest,
    old: &CertificateSigningRequest,
) -> Option<Error> {
    let certificate = |csr: &CertificateSigningRequest| {
        let status = csr.status.as_ref();
        status.and_then(|status| status.certificate.clone()).unwrap_or_default().0
    };
    let (new, old) = (certificate(new), certificate(old));
    let path = Path::new("status").child("certificate");
    if !old.is_empty() && new != old {
        let why = "updates may not modify existing certificate content";
        return Some(Error::forbidden(&path, why));
    }
    let pem = new.is_empty() || new.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----");
    (!pem)
        .then(|| Error::invalid_redacted(&path, "must contain at least one CERTIFICATE PEM block"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn csr(status: Value) -> CertificateSigningRequest {
        use base64::Engine as _;
        let pem = "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n";
        serde_json::from_value(json!({
            "metadata": {
                "name": "csr-1", "uid": "u", "resourceVersion": "1",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {
                "request": base64::engine::general_purpose::STANDARD.encode(pem),
                "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
                "usages": ["digital signature", "client auth"],
            },
            "status": status,
        }))
        .unwrap()
    }

    fn condition(kind: &str) -> Value {
        json!({ "type": kind, "status": "True" })
    }

    fn updated(sub: Option<SubresourceName>, old: Value, new: Value) -> (Value, Vec<String>) {
        let (old, mut new) = (csr(old), csr(new));
        new.prepare_for_update(&old, sub);
        let errors = new.validate_update(&old, sub).iter().map(ToString::to_string).collect();
        (serde_json::to_value(new.status).unwrap(), errors)
    }

    #[test]
    fn a_request_is_well_formed_or_says_where_not() {
        assert_eq!(csr(Value::Null).validate(), []);
        let errors = |change: &dyn Fn(&mut CertificateSigningRequest)| -> Vec<String> {
            let mut changed = csr(Value::Null);
            change(&mut changed);
            changed.validate().iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            errors(&|it| it.spec.request.0 = b"-----BEGIN PRIVATE KEY-----".to_vec()),
            [
                "spec.request: Invalid value: \"<redacted>\": PEM block type must be CERTIFICATE REQUEST"
            ]
        );
        assert_eq!(errors(&|it| it.spec.usages = None), ["spec.usages: Required value"]);
        assert_eq!(
            errors(&|it| it.spec.signer_name = "kubelet".into()),
            [
                "spec.signerName: Invalid value: \"kubelet\": must be a fully qualified domain and path of the form 'example.com/signer-name'"
            ]
        );
        assert_eq!(
            errors(&|it| it.spec.signer_name = "localhost/x".into()),
            [
                "spec.signerName: Invalid value: \"localhost\": should be a domain with at least two segments separated by dots"
            ]
        );
        assert_eq!(
            errors(&|it| it.spec.signer_name = signer::LEGACY_UNKNOWN.into()),
            [
                "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version"
            ]
        );
        assert_eq!(
            errors(&|it| it.spec.expiration_seconds = Some(60)),
            [
                "spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 600 seconds (10 minutes)"
            ]
        );
    }

    #[test]
    fn each_endpoint_writes_its_own_part_only() {
        let approved = json!({ "conditions": [condition("Approved")] });
        let certificate = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t";
        let signed = json!({ "conditions": [condition("Approved")], "certificate": certificate });
        // The object's own endpoint writes no status.
        let (status, errors) = updated(None, Value::Null, approved.clone());
        assert_eq!((status, errors.len()), (Value::Null, 0));
        // The approver approves, and sets no certificate.
        let (status, errors) =
            updated(Some(SubresourceName::Approval), Value::Null, signed.clone());
        assert_eq!((status, errors.len()), (approved.clone(), 0));
        // The signer signs what is approved, and approves nothing itself.
        let (status, errors) =
            updated(Some(SubresourceName::Status), approved.clone(), signed.clone());
        assert_eq!((status, errors.len()), (signed.clone(), 0));
        let (_, errors) = updated(Some(SubresourceName::Status), Value::Null, approved.clone());
        assert_eq!(
            errors,
            ["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""]
        );
        let (_, errors) = updated(Some(SubresourceName::Approval), approved.clone(), Value::Null);
        assert_eq!(
            errors,
            [
                "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""
            ]
        );
        let both = json!({ "conditions": [condition("Approved"), condition("Denied")] });
        let (_, errors) = updated(Some(SubresourceName::Approval), approved.clone(), both);
        assert_eq!(
            errors,
            [
                "status.conditions[1].type: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"
            ]
        );
        let none = json!({ "conditions": [condition("Approved")], "certificate": "AA==" });
        let (_, errors) = updated(Some(SubresourceName::Status), approved.clone(), none);
        assert_eq!(
            errors,
            [
                "status.certificate: Invalid value: \"<redacted>\": must contain at least one CERTIFICATE PEM block"
            ]
        );
        let other = json!({ "conditions": [condition("Approved")], "certificate": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tQQ==" });
        let (_, errors) = updated(Some(SubresourceName::Status), signed, other);
        assert_eq!(
            errors,
            ["status.certificate: Forbidden: updates may not modify existing certificate content"]
        );
    }
}
