//! CertificateSigningRequest rows.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::Value;

use super::{Column, Printed, age, doc, human_duration, name, or_none};

impl Printed for CertificateSigningRequest {
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::AGE,
        Column::string("SignerName", doc::CSR_SIGNER),
        Column::string("Requestor", doc::CSR_REQUEST),
        Column::string("RequestedDuration", doc::CSR_DURATION),
        Column::string("Condition", doc::CSR_CONDITIONS),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let duration = match self.spec.expiration_seconds {
            Some(seconds) => human_duration(SignedDuration::from_secs(seconds.into())),
            None => "<none>".to_owned(),
        };
        vec![
            name(self),
            age(self, now),
            or_none(&self.spec.signer_name).into(),
            self.spec.username.clone().unwrap_or_default().into(),
            duration.into(),
            condition(self).into(),
        ]
    }
}

/// Denied goes before Approved, and both may be followed by how it ended.
fn condition(csr: &CertificateSigningRequest) -> String {
    let status = csr.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let has = |type_: &str| conditions.iter().any(|condition| condition.type_ == type_);
    let mut shown = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has("Failed") {
        shown.push_str(",Failed");
    }
    if status.certificate.is_some_and(|certificate| !certificate.0.is_empty()) {
        shown.push_str(",Issued");
    }
    shown
}
