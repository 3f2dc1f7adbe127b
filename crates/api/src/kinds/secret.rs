//! Secret: types and their required keys, size, immutability. No message here quotes a value.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::config_map::DATA_BYTES_MAX;
use super::info::KindInfo;
use super::kind::Kind;
use super::merge::Rules;
use super::meta;
use super::roles::{Grant, READ_WRITE, Role};
use crate::field::{Error, ErrorList, Path};
use crate::protobuf::tables::core;
pub use crate::secret::Secret;
use crate::subresource::SubresourceName;
use crate::table::{self, Column};
use crate::well_known::{annotation, secret_type};
use crate::{go, names};

mod pem;

static INFO: KindInfo = KindInfo {
    field_labels: &["type"],
    extra_verbs: &["use"],
    rules: &Rules { omits_zero: &[("core.v1.Secret", &["type"])], ..Rules::NONE },
    sealed: true,
    columns: &[
        Column::NAME,
        Column::string("Type", TYPE_COLUMN),
        Column::string("Data", DATA_COLUMN),
        Column::AGE,
    ],
    roles: &[
        Grant { role: Role::Edit, verbs: READ_WRITE, of: &[""] },
        // Who may read a secret may let others use it without reading it.
        Grant { role: Role::Edit, verbs: &["use"], of: &[""] },
    ],
    ..KindInfo::of::<Secret>("secret", &core::SECRET)
};

impl Kind for Secret {
    const INFO: &'static KindInfo = &INFO;

    fn set_defaults(&mut self) {
        for (key, text) in std::mem::take(&mut self.string_data) {
            self.data.insert(key, text.into_bytes());
        }
        if self.type_.as_deref().unwrap_or_default().is_empty() {
            self.type_ = Some(secret_type::OPAQUE.to_owned());
        }
    }

    fn prepare_for_create(&mut self) {
        self.set_defaults();
    }

    fn prepare_for_update(&mut self, _old: &Self, _sub: Option<SubresourceName>) {
        self.set_defaults();
    }

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        errors.extend(validate_keys(self));
        errors.extend(validate_type(self));
        errors
    }

    fn validate_update(&self, old: &Self, _sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        if type_of(self) != type_of(old) {
            errors.push(Error::invalid(&Path::new("type"), type_of(self), meta::IMMUTABLE));
        }
        if old.immutable == Some(true) {
            let frozen = "field is immutable when `immutable` is set";
            if self.immutable != Some(true) {
                errors.push(Error::forbidden(&Path::new("immutable"), frozen));
            }
            if self.data != old.data {
                errors.push(Error::forbidden(&Path::new("data"), frozen));
            }
        }
        errors.extend(self.validate());
        errors
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![("type", type_of(self).to_owned())]
    }

    fn warnings(&self) -> Vec<String> {
        let is_tls = type_of(self) == secret_type::TLS;
        is_tls.then(|| pem::warning(self)).flatten().map(str::to_owned).into_iter().collect()
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let type_ = self.type_.clone().unwrap_or_default();
        vec![table::name(self), type_.into(), self.data.len().into(), table::age(self, now)]
    }
}

fn type_of(secret: &Secret) -> &str {
    secret.type_.as_deref().unwrap_or_default()
}

fn validate_keys(secret: &Secret) -> ErrorList {
    let path = Path::new("data");
    let mut errors = ErrorList::new();
    for key in secret.data.keys() {
        errors.extend(meta::invalid_each(&path.key(key), key, names::config_map_key(key)));
    }
    let bytes: usize = secret.data.values().map(|value| value.len()).sum();
    if bytes > DATA_BYTES_MAX {
        errors.push(Error::too_long(&path, DATA_BYTES_MAX));
    }
    errors
}

fn validate_type(secret: &Secret) -> ErrorList {
    match type_of(secret) {
        secret_type::SERVICE_ACCOUNT_TOKEN => require_account(secret).into_iter().collect(),
        secret_type::DOCKERCFG => require_json(secret, ".dockercfg"),
        secret_type::DOCKER_CONFIG_JSON => require_json(secret, ".dockerconfigjson"),
        secret_type::BASIC_AUTH => match ["username", "password"] {
            keys if keys.iter().any(|key| secret.data.contains_key(*key)) => ErrorList::new(),
            keys => require_keys(secret, &keys),
        },
        secret_type::SSH_AUTH => {
            let key = "ssh-privatekey";
            let there = secret.data.get(key).is_some_and(|value| !value.is_empty());
            if there { ErrorList::new() } else { vec![required_key(key)] }
        }
        secret_type::TLS => require_keys(secret, &["tls.crt", "tls.key"]),
        _ => ErrorList::new(),
    }
}

fn require_account(secret: &Secret) -> Option<Error> {
    let annotations = secret.metadata.annotations.as_ref();
    let name = annotations.and_then(|all| all.get(annotation::SERVICE_ACCOUNT_NAME));
    let path = Path::new("metadata").child("annotations").key(annotation::SERVICE_ACCOUNT_NAME);
    name.is_none_or(|name| name.is_empty()).then(|| Error::required(&path, ""))
}

fn require_keys(secret: &Secret, keys: &[&str]) -> ErrorList {
    keys.iter()
        .filter(|key| !secret.data.contains_key(**key))
        .map(|key| required_key(key))
        .collect()
}

fn required_key(key: &str) -> Error {
    Error::required(&Path::new("data").key(key), "")
}

/// The value must be a JSON object. What is wrong with it is shown by place, never by content:
/// upstream's message quotes the first bad character, which is a byte of the secret.
fn require_json(secret: &Secret, key: &str) -> ErrorList {
    let Some(value) = secret.data.get(key) else {
        return vec![required_key(key)];
    };
    let Err(error) = serde_json::from_slice::<AnyJsonObject>(value.expose()) else {
        return ErrorList::new();
    };
    let detail = match error.classify() {
        serde_json::error::Category::Eof => go::json_error(&error),
        serde_json::error::Category::Data => {
            "json: cannot unmarshal into Go value of type map[string]interface {}".to_owned()
        }
        _ => format!("invalid character at line {} column {}", error.line(), error.column()),
    };
    vec![Error::invalid(&Path::new("data").key(key), "<secret contents redacted>", detail)]
}

/// Accepts any JSON object (or null, as Go does) and keeps nothing of it.
struct AnyJsonObject;

impl<'de> serde::Deserialize<'de> for AnyJsonObject {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = AnyJsonObject;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E>(self) -> Result<AnyJsonObject, E> {
                Ok(AnyJsonObject)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<AnyJsonObject, A::Error> {
                while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
                Ok(AnyJsonObject)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

const TYPE_COLUMN: &str = "Used to facilitate programmatic handling of secret data. More info: https://kubernetes.io/docs/concepts/configuration/secret/#secret-types";
const DATA_COLUMN: &str = "Data contains the secret data. Each key must consist of alphanumeric characters, '-', '_' or '.'. The serialized form of the secret data is a base64 encoded string, representing the arbitrary (possibly non-string) data value here. Described in https://tools.ietf.org/html/rfc4648#section-4";

#[cfg(test)]
mod tests;
