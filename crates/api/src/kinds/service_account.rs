//! ServiceAccount: an identity for pods, with the secrets that go with it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
pub use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::Value;

use super::info::{Deletion, KindInfo, Subresource};
use super::kind::Kind;
use super::merge::{Rules, keyed};
use super::meta;
use super::roles::{Grant, Role};
use crate::field::ErrorList;
use crate::protobuf::tables::core;
use crate::subresource::SubresourceName;
use crate::table::{self, Column};
use crate::well_known::api_group;

static INFO: KindInfo = KindInfo {
    short_names: &["sa"],
    subresources: &[Subresource {
        name: SubresourceName::Token,
        group: api_group::AUTHENTICATION,
        version: "v1",
        kind: "TokenRequest",
        verbs: &["create"],
    }],
    rules: &Rules {
        lists: &[("core.v1.ServiceAccount", "secrets", keyed(&["name"], "name"))],
        ..Rules::NONE
    },
    columns: &[Column::NAME, Column::string("Secrets", SECRETS_COLUMN), Column::AGE],
    roles: &[
        Grant::view(&[""]),
        Grant::edit(&[""]),
        Grant { role: Role::Edit, verbs: &["impersonate"], of: &[""] },
        Grant { role: Role::Edit, verbs: &["create"], of: &["/token"] },
    ],
    deletion: Deletion { returns_object: true, ..Deletion::DEFAULT },
    ..KindInfo::of::<ServiceAccount>("serviceaccount", &core::SERVICE_ACCOUNT)
};

impl Kind for ServiceAccount {
    const INFO: &'static KindInfo = &INFO;

    /// References are kept as names only: what else a client wrote about a secret is dropped.
    fn prepare_for_create(&mut self) {
        clean_references(self);
    }

    fn prepare_for_update(&mut self, _old: &Self, _sub: Option<SubresourceName>) {
        clean_references(self);
    }

    fn validate(&self) -> ErrorList {
        meta::validate(&self.metadata, &INFO)
    }

    fn validate_update(&self, old: &Self, _sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(self.validate());
        errors
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let secrets = self.secrets.as_deref().map_or(0, <[_]>::len);
        vec![table::name(self), secrets.into(), table::age(self, now)]
    }
}

fn clean_references(account: &mut ServiceAccount) {
    for reference in account.secrets.iter_mut().flatten() {
        let name = reference.name.take();
        *reference = k8s_openapi::api::core::v1::ObjectReference { name, ..Default::default() };
    }
}

const SECRETS_COLUMN: &str = "Secrets is a list of the secrets in the same namespace that pods running using this ServiceAccount are allowed to use. Pods are only limited to this list if this service account has a \"kubernetes.io/enforce-mountable-secrets\" annotation set to \"true\". The \"kubernetes.io/enforce-mountable-secrets\" annotation is deprecated since v1.32. Prefer separate namespaces to isolate access to mounted secrets. This field should not be used to find auto-generated service account token secrets for use outside of pods. Instead, tokens can be requested directly using the TokenRequest API, or service account token secrets can be manually created. More info: https://kubernetes.io/docs/concepts/configuration/secret";

#[cfg(test)]
mod tests;
