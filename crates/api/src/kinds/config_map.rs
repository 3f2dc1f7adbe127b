//! ConfigMap: what Secret is for what need not be secret, under the same rules for keys and size.

use k8s_openapi::api::core::v1::ConfigMap;

use super::{Kind, KindInfo, equal, meta};
use crate::field::{Error, ErrorList, Path};
use crate::names;

/// Bytes of all values together; the same for Secret.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;

static INFO: KindInfo = KindInfo {
    short_names: &["cm"],
    ..KindInfo::of("", "ConfigMap", "ConfigMapList", "configmaps", "configmap")
};

impl Kind for ConfigMap {
    const INFO: &'static KindInfo = &INFO;

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        errors.extend(validate_data(self));
        errors
    }

    fn validate_update(&self, old: &Self, _sub: Option<&str>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        if old.immutable == Some(true) {
            let frozen = "field is immutable when `immutable` is set";
            let changed = [
                ("immutable", self.immutable != Some(true)),
                ("data", !equal(&self.data, &old.data)),
                ("binaryData", !equal(&self.binary_data, &old.binary_data)),
            ];
            for (name, _) in changed.iter().filter(|(_, changed)| *changed) {
                errors.push(Error::forbidden(&Path::new(name), frozen));
            }
        }
        errors.extend(meta::validate(&self.metadata, &INFO));
        errors.extend(validate_data(self));
        errors
    }
}

fn validate_data(map: &ConfigMap) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut bytes = 0;
    for (key, value) in map.data.iter().flatten() {
        let path = Path::new("data").key(key);
        errors.extend(meta::complaints(&path, key, names::config_map_key(key)));
        if map.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
            errors.push(Error::invalid(&path, key, "duplicate of key present in binaryData"));
        }
        bytes += value.len();
    }
    for (key, value) in map.binary_data.iter().flatten() {
        let path = Path::new("binaryData").key(key);
        errors.extend(meta::complaints(&path, key, names::config_map_key(key)));
        bytes += value.0.len();
    }
    if bytes > DATA_BYTES_MAX {
        errors.push(Error::too_long(&meta::whole_object(), DATA_BYTES_MAX));
    }
    errors
}

#[cfg(test)]
mod tests;
