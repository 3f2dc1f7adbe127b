//! ServiceAccount: an identity for pods, with the secrets that go with it.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{Kind, KindInfo, Subresource, meta};
use crate::field::ErrorList;

static INFO: KindInfo = KindInfo {
    short_names: &["sa"],
    subresources: &[Subresource {
        name: "token",
        group: "authentication.k8s.io",
        version: "v1",
        kind: "TokenRequest",
        verbs: &["create"],
    }],
    ..KindInfo::of("", "ServiceAccount", "ServiceAccountList", "serviceaccounts", "serviceaccount")
};

impl Kind for ServiceAccount {
    const INFO: &'static KindInfo = &INFO;

    /// References are kept as names only: what else a client wrote about a secret is dropped.
    fn prepare_for_create(&mut self) {
        clean_references(self);
    }

    fn prepare_for_update(&mut self, _old: &Self, _sub: Option<&str>) {
        clean_references(self);
    }

    fn validate(&self) -> ErrorList {
        meta::validate(&self.metadata, &INFO)
    }

    fn validate_update(&self, old: &Self, _sub: Option<&str>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(self.validate());
        errors
    }
}

fn clean_references(account: &mut ServiceAccount) {
    for reference in account.secrets.iter_mut().flatten() {
        let name = reference.name.take();
        *reference = k8s_openapi::api::core::v1::ObjectReference { name, ..Default::default() };
    }
}

#[cfg(test)]
mod tests;
