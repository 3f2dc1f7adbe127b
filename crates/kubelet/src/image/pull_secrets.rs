//! A pod's `imagePullSecrets`: fetched one by one, parsed, and put into a keyring.
//!
//! One that cannot be fetched, or gives no credentials (another type, a file that cannot be read),
//! does not stop the pull: it is named in an event, and the pull goes on without it.

use std::collections::BTreeMap;

use coffer_api::secret::Secret;
use coffer_api::well_known::secret_type;
use futures::future::join_all;
use k8s_openapi::api::core::v1::PodSpec;

use super::credential::{Coordinates, Source};
use super::docker_config::{self, Entry};
use super::keyring::Keyring;
use crate::objects::{ObjectKey, Objects, Version};
use crate::pod::PodId;

const CONFIG_JSON: (&str, &str) = (secret_type::DOCKER_CONFIG_JSON, ".dockerconfigjson");
const CFG: (&str, &str) = (secret_type::DOCKERCFG, ".dockercfg");

/// Which version of each pull secret was used; `None` for one that was not there.
pub(crate) type SecretVersions = BTreeMap<ObjectKey, Option<Version>>;

/// What a pod's pull secrets came to.
#[derive(Default)]
pub(super) struct PullSecrets {
    pub(super) keyring: Keyring,
    pub(super) seen: SecretVersions,
    /// Names of those that cannot be used.
    pub(super) unusable: Vec<String>,
}

/// Fetches a pod's pull secrets, all at the same time.
pub(super) async fn fetch(objects: &Objects, pod: &PodId, spec: &PodSpec) -> PullSecrets {
    // The API lets empty names pass; upstream says nothing of them.
    let references = spec.image_pull_secrets.iter().flatten();
    let names: Vec<_> =
        references.map(|reference| &*reference.name).filter(|name| !name.is_empty()).collect();
    let fetched =
        join_all(names.iter().map(|name| objects.get::<Secret>(pod.namespace(), name))).await;
    let mut found = PullSecrets::default();
    for (name, fetched) in names.into_iter().zip(fetched) {
        let key = ObjectKey::secret(pod.namespace(), name);
        match fetched {
            Ok(secret) => {
                found.seen.insert(key, Some(Version::of(&secret.metadata)));
                found.take(name, &secret, pod);
            }
            Err(error) => {
                tracing::info!(%pod, secret = name, %error, "cannot fetch image pull secret");
                found.seen.insert(key, None);
                found.unusable.push(name.to_owned());
            }
        }
    }
    found
}

impl PullSecrets {
    fn take(&mut self, name: &str, secret: &Secret, pod: &PodId) {
        match entries(secret) {
            Ok(entries) => self.keyring.add(entries, &source(secret, pod)),
            Err(reason) => {
                tracing::info!(%pod, secret = name, reason, "ignoring unusable image pull secret");
                self.unusable.push(name.to_owned());
            }
        }
    }
}

fn source(secret: &Secret, pod: &PodId) -> Source {
    Source::Secret(Coordinates {
        namespace: pod.namespace().to_owned(),
        name: secret.metadata.name.clone().unwrap_or_default(),
        uid: secret.metadata.uid.clone().unwrap_or_default(),
    })
}

/// The credentials in a secret of one of the two types, or why it has none.
fn entries(secret: &Secret) -> Result<Vec<Entry>, String> {
    let file = |key: &str| {
        let bytes = secret.data.get(key).map(|bytes| bytes.expose()).unwrap_or_default();
        if bytes.is_empty() { Err(format!("it has no {key}")) } else { Ok(bytes) }
    };
    let read = |bytes| match secret.type_.as_deref() {
        Some(type_) if type_ == CFG.0 => docker_config::parse_cfg(bytes),
        _ => docker_config::parse_config_json(bytes).map(Option::unwrap_or_default),
    };
    let key = match secret.type_.as_deref() {
        Some(type_) if type_ == CONFIG_JSON.0 => CONFIG_JSON.1,
        Some(type_) if type_ == CFG.0 => CFG.1,
        _ => return Err(format!("its type is neither {} nor {}", CONFIG_JSON.0, CFG.0)),
    };
    read(file(key)?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use coffer_api::secret::SecretBytes;

    use super::*;

    fn secret(type_: &str, key: &str, file: &[u8]) -> Secret {
        Secret {
            type_: Some(type_.to_owned()),
            data: [(key.to_owned(), SecretBytes::new(file.to_vec()))].into(),
            ..Secret::default()
        }
    }

    #[test]
    fn both_types_give_credentials_and_nothing_else_does() {
        let json = br#"{"auths":{"r.io":{"auth":"dTpw"}}}"#;
        let cfg = br#"{"r.io":{"auth":"dTpw"}}"#;
        for good in [secret(CONFIG_JSON.0, CONFIG_JSON.1, json), secret(CFG.0, CFG.1, cfg)] {
            assert_eq!(entries(&good).expect("credentials").len(), 1);
        }
        for bad in [
            secret("Opaque", CONFIG_JSON.1, json),
            secret(CONFIG_JSON.0, CFG.1, cfg),
            secret(CFG.0, CFG.1, b""),
            secret(CFG.0, CFG.1, b"canary"),
            Secret::default(),
        ] {
            let reason = entries(&bad).expect_err("unusable");
            assert!(!reason.contains("canary"), "{reason}");
        }
    }
}
