//! CertificateSigningRequest rows.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::CertificateSigningRequest;
use crate::condition::{self, ConditionType};
use crate::table::{Column, age, human_duration, name, or_none};

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::AGE,
    Column::string("SignerName", SIGNER),
    Column::string("Requestor", REQUEST),
    Column::string("RequestedDuration", DURATION),
    Column::string("Condition", CONDITIONS),
];

pub(super) fn cells(csr: &CertificateSigningRequest, now: Timestamp) -> Vec<Value> {
    let duration = match csr.spec.expiration_seconds {
        Some(seconds) => human_duration(SignedDuration::from_secs(seconds.into())),
        None => "<none>".to_owned(),
    };
    vec![
        name(csr),
        age(csr, now),
        or_none(&csr.spec.signer_name).into(),
        csr.spec.username.clone().unwrap_or_default().into(),
        duration.into(),
        condition(csr).into(),
    ]
}

/// Denied goes before Approved, and both may be followed by how it ended.
fn condition(csr: &CertificateSigningRequest) -> String {
    let status = csr.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let has = |type_| condition::find(&conditions, type_).is_some();
    let mut shown = match (has(ConditionType::Denied), has(ConditionType::Approved)) {
        (true, _) => ConditionType::Denied.as_str(),
        (false, true) => ConditionType::Approved.as_str(),
        (false, false) => "Pending",
    }
    .to_owned();
    if has(ConditionType::Failed) {
        shown.push_str(",Failed");
    }
    if status.certificate.is_some_and(|certificate| !certificate.0.is_empty()) {
        shown.push_str(",Issued");
    }
    shown
}

const SIGNER: &str = "Requested signer for the request. It is a qualified name in the form: `scope-hostname.io/name`. If empty, it will be defaulted:\n 1. If it's a kubelet client certificate, it is assigned\n    \"kubernetes.io/kube-apiserver-client-kubelet\".\n 2. If it's a kubelet serving certificate, it is assigned\n    \"kubernetes.io/kubelet-serving\".\n 3. Otherwise, it is assigned \"kubernetes.io/legacy-unknown\".\nDistribution of trust for signers happens out of band. You can select on this field using `spec.signerName`.";
const REQUEST: &str = "Base64-encoded PKCS#10 CSR data";
const DURATION: &str = "expirationSeconds is the requested duration of validity of the issued certificate. The certificate signer may issue a certificate with a different validity duration so a client must check the delta between the notBefore and and notAfter fields in the issued certificate to determine the actual duration.\n\nThe v1.22+ in-tree implementations of the well-known Kubernetes signers will honor this field as long as the requested duration is not greater than the maximum duration they will honor per the --cluster-signing-duration CLI flag to the Kubernetes controller manager.\n\nCertificate signers may not honor this field for various reasons:\n\n  1. Old signer that is unaware of the field (such as the in-tree\n     implementations prior to v1.22)\n  2. Signer whose configured maximum is shorter than the requested duration\n  3. Signer whose configured minimum is longer than the requested duration\n\nThe minimum valid value for expirationSeconds is 600, i.e. 10 minutes.";
const CONDITIONS: &str = "Conditions applied to the request, such as approval or denial.";
