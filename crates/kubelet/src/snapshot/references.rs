//! Which secrets a pod's environment refers to, and what of them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use coffer_api::secret::Secret;
use k8s_openapi::api::core::v1::PodSpec;

use crate::pod;

/// Which keys of a secret are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Only the version: volumes hold the bytes.
    Version,
    Keys(BTreeSet<String>),
    All,
}

impl Keep {
    pub(crate) fn takes(&self, key: &str) -> bool {
        match self {
            Self::Version => false,
            Self::Keys(keys) => keys.contains(key),
            Self::All => true,
        }
    }
}

/// The secrets that a pod's environment variables refer to, and which of their keys.
pub(crate) fn env_secrets(spec: &PodSpec) -> BTreeMap<&str, Keep> {
    let mut secrets: BTreeMap<&str, Keep> = BTreeMap::new();
    for container in pod::all_containers(spec) {
        for source in container.env_from.iter().flatten() {
            if let Some(secret) = &source.secret_ref {
                secrets.insert(&secret.name, Keep::All);
            }
        }
        for variable in container.env.iter().flatten() {
            let source = variable.value_from.as_ref();
            let Some(secret) = source.and_then(|source| source.secret_key_ref.as_ref()) else {
                continue;
            };
            let keep = secrets.entry(&secret.name).or_insert(Keep::Keys(BTreeSet::new()));
            if let Keep::Keys(keys) = keep {
                keys.insert(secret.key.clone());
            }
        }
    }
    secrets
}

/// A key that some container cannot do without and that the secret does not have.
pub(crate) fn missing_key<'a>(spec: &'a PodSpec, name: &str, secret: &Secret) -> Option<&'a str> {
    let variables = pod::all_containers(spec).flat_map(|container| container.env.iter().flatten());
    let references =
        variables.filter_map(|variable| variable.value_from.as_ref()?.secret_key_ref.as_ref());
    let required = references
        .filter(|reference| reference.name == name && reference.optional != Some(true))
        .map(|reference| reference.key.as_str());
    required.into_iter().find(|key| !secret.data.contains_key(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_that_the_environment_needs_are_found_in_every_container() {
        let spec: PodSpec = serde_json::from_value(serde_json::json!({
            "initContainers": [{"name": "i", "env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a"}}}]}],
            "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "all"}}], "env": [
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "b"}}},
                {"name": "C", "valueFrom": {"secretKeyRef": {"name": "all", "key": "b"}}}]}],
        }))
        .expect("a spec");
        let keys = Keep::Keys(["a".to_owned(), "b".to_owned()].into());
        assert_eq!(env_secrets(&spec), [("all", Keep::All), ("s", keys)].into());
    }
}
