//! ConfigMap: what Secret is for what need not be secret, under the same rules for keys and size.

use jiff::Timestamp;
pub use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::info::KindInfo;
use super::kind::Kind;
use super::meta;
use super::roles::Grant;
use crate::field::{Error, ErrorList, Path};
use crate::names;
use crate::protobuf::tables::core;
use crate::subresource::SubresourceName;
use crate::table::{self, Column};

/// Bytes of all values together; the same for Secret.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;

static INFO: KindInfo = KindInfo {
    short_names: &["cm"],
    columns: &[Column::NAME, Column::string("Data", DATA_COLUMN), Column::AGE],
    roles: &[Grant::view(&[""]), Grant::edit(&[""])],
    ..KindInfo::of::<ConfigMap>("configmap", &core::CONFIG_MAP)
};

impl Kind for ConfigMap {
    const INFO: &'static KindInfo = &INFO;

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        errors.extend(validate_data(self));
        errors
    }

    fn validate_update(&self, old: &Self, _sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        if old.immutable == Some(true) {
            let frozen = "field is immutable when `immutable` is set";
            let changed = [
                ("immutable", self.immutable != Some(true)),
                ("data", self.data.iter().flatten().ne(old.data.iter().flatten())),
                (
                    "binaryData",
                    self.binary_data.iter().flatten().ne(old.binary_data.iter().flatten()),
                ),
            ];
            for (name, _) in changed.iter().filter(|(_, changed)| *changed) {
                errors.push(Error::forbidden(&Path::new(name), frozen));
            }
        }
        errors.extend(meta::validate(&self.metadata, &INFO));
        errors.extend(validate_data(self));
        errors
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let text = self.data.as_ref().map_or(0, |data| data.len());
        let binary = self.binary_data.as_ref().map_or(0, |data| data.len());
        vec![table::name(self), (text + binary).into(), table::age(self, now)]
    }
}

fn validate_data(map: &ConfigMap) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut bytes = 0;
    for (key, value) in map.data.iter().flatten() {
        let path = Path::new("data").key(key);
        errors.extend(meta::invalid_each(&path, key, names::config_map_key(key)));
        if map.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
            errors.push(Error::invalid(&path, key, "duplicate of key present in binaryData"));
        }
        bytes += value.len();
    }
    for (key, value) in map.binary_data.iter().flatten() {
        let path = Path::new("binaryData").key(key);
        errors.extend(meta::invalid_each(&path, key, names::config_map_key(key)));
        bytes += value.0.len();
    }
    if bytes > DATA_BYTES_MAX {
        errors.push(Error::too_long(&meta::whole_object(), DATA_BYTES_MAX));
    }
    errors
}

const DATA_COLUMN: &str = "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. Values with non-UTF-8 byte sequences must use the BinaryData field. The keys stored in Data must not overlap with the keys in the BinaryData field, this is enforced during validation process.";

#[cfg(test)]
mod tests;
