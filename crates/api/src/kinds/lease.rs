//! Lease: who holds something, and until when; nodes renew one each.

use jiff::Timestamp;
pub use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::info::KindInfo;
use super::kind::Kind;
use super::meta;
use super::optional::text;
use super::roles::{Grant, READ_WRITE, Role};
use crate::field::{Error, ErrorList, Path};
use crate::names;
use crate::protobuf::tables::coordination;
use crate::subresource::SubresourceName;
use crate::table::{self, Column};

static INFO: KindInfo = KindInfo {
    create_on_update: true,
    unconditional_update: false,
    columns: &[Column::NAME, Column::string("Holder", HOLDER_COLUMN), Column::AGE],
    roles: &[Grant { role: Role::Edit, verbs: READ_WRITE, of: &[""] }],
    ..KindInfo::of::<Lease>("lease", &coordination::LEASE)
};

impl Kind for Lease {
    const INFO: &'static KindInfo = &INFO;

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        errors.extend(validate_spec(self));
        errors
    }

    fn validate_update(&self, old: &Self, _sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(validate_spec(self));
        errors
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let holder = self.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        vec![table::name(self), holder.unwrap_or_default().into(), table::age(self, now)]
    }
}

fn validate_spec(lease: &Lease) -> ErrorList {
    let Some(spec) = &lease.spec else { return ErrorList::new() };
    let path = Path::new("spec");
    let mut errors = ErrorList::new();
    if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
        let path = path.child("leaseDurationSeconds");
        errors.push(Error::invalid(&path, seconds, "must be greater than 0"));
    }
    if let Some(count) = spec.lease_transitions.filter(|count| *count < 0) {
        let path = path.child("leaseTransitions");
        errors.push(Error::invalid(&path, count, "must be greater than or equal to 0"));
    }
    if let Some(strategy) = &spec.strategy {
        // Upstream names the field twice.
        let path = path.child("strategy").child("strategy");
        if strategy.contains('/') {
            errors.extend(meta::invalid_each(&path, strategy, names::qualified_name(strategy)));
        } else if strategy != "OldestEmulationVersion" {
            errors.push(Error::not_supported(&path, strategy, &["OldestEmulationVersion"]));
        }
    }
    if !text(&spec.preferred_holder).is_empty() && text(&spec.strategy).is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        errors.push(Error::forbidden(&path.child("preferredHolder"), detail));
    }
    errors
}

const HOLDER_COLUMN: &str = "holderIdentity contains the identity of the holder of a current lease. If Coordinated Leader Election is used, the holder identity must be equal to the elected LeaseCandidate.metadata.name field.";

#[cfg(test)]
mod tests;
