//! Kinds whose row is two or three fields: Namespace, Secret, ServiceAccount, ConfigMap, Lease,
//! RuntimeClass.

use coffer_api::secret::Secret;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::Value;

use super::{Column, Printed, age, doc, name};

impl Printed for Namespace {
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::string("Status", "The status of the namespace"), Column::AGE];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let phase = self.status.as_ref().and_then(|status| status.phase.clone());
        vec![name(self), phase.unwrap_or_default().into(), age(self, now)]
    }
}

impl Printed for Secret {
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::string("Type", doc::SECRET_TYPE),
        Column::string("Data", doc::SECRET_DATA),
        Column::AGE,
    ];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let type_ = self.type_.clone().unwrap_or_default();
        vec![name(self), type_.into(), self.data.len().into(), age(self, now)]
    }
}

impl Printed for ServiceAccount {
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::string("Secrets", doc::ACCOUNT_SECRETS), Column::AGE];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let secrets = self.secrets.as_deref().map_or(0, <[_]>::len);
        vec![name(self), secrets.into(), age(self, now)]
    }
}

impl Printed for ConfigMap {
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::string("Data", doc::CONFIG_MAP_DATA), Column::AGE];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let text = self.data.as_ref().map_or(0, |data| data.len());
        let binary = self.binary_data.as_ref().map_or(0, |data| data.len());
        vec![name(self), (text + binary).into(), age(self, now)]
    }
}

impl Printed for Lease {
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::string("Holder", doc::LEASE_HOLDER), Column::AGE];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let holder = self.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        vec![name(self), holder.unwrap_or_default().into(), age(self, now)]
    }
}

impl Printed for RuntimeClass {
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::string("Handler", doc::RUNTIME_HANDLER), Column::AGE];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![name(self), self.handler.clone().into(), age(self, now)]
    }
}
