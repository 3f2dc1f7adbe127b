//! Which secrets a pod's environment refers to, and what of them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use coffer_api::references::{self, Reference, ReferenceKind};
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
    for reference in env_references(spec) {
        let Some(key) = reference.key else {
            secrets.insert(reference.name, Keep::All);
            continue;
        };
        let keep = secrets.entry(reference.name).or_insert(Keep::Keys(BTreeSet::new()));
        if let Keep::Keys(keys) = keep {
            keys.insert(key.to_owned());
        }
    }
    secrets
}

/// A key that some container cannot do without and that the secret does not have.
pub(crate) fn missing_key<'a>(spec: &'a PodSpec, name: &str, secret: &Secret) -> Option<&'a str> {
    let required = env_references(spec).filter(|it| it.name == name && !it.optional);
    required.filter_map(|it| it.key).find(|key| !secret.data.contains_key(*key))
}

/// What the environments of all containers refer to in secrets.
fn env_references(spec: &PodSpec) -> impl Iterator<Item = Reference<'_>> {
    let all = pod::all_containers(spec).flat_map(references::of_environment);
    all.filter(|reference| reference.kind == ReferenceKind::Secret)
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
