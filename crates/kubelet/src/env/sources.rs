//! The objects that a container's environment refers to.

use std::collections::BTreeMap;

use coffer_api::references::{self, ReferenceKind};
use coffer_api::secret::{Secret, SecretBytes};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod};

use super::EnvError;
use crate::objects::{FetchError, Kind, ObjectKey, Objects, Version};
use crate::pod::{self, PodId};
use crate::snapshot::{self, Keep, Record, Snapshot};

/// What the objects may take in memory that one container's environment is made from.
const SOURCES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The objects that a container's environment refers to; `None` for one that does not exist and
/// does not have to.
#[derive(Default)]
pub(crate) struct Sources {
    pub(super) secrets: BTreeMap<String, Option<FetchedSecret>>,
    pub(super) config_maps: BTreeMap<String, Option<ConfigMap>>,
}

/// A secret's keys, and which version they are of.
pub(super) struct FetchedSecret {
    pub(super) version: Version,
    pub(super) keys: BTreeMap<String, SecretBytes>,
}

impl Sources {
    /// Gets everything one container needs.
    ///
    /// A secret that is in the pod's snapshot is taken from there, whatever it is by now; one
    /// that is not is fetched and added to it.
    pub(crate) async fn fetch(
        objects: &Objects,
        snapshot: &Snapshot,
        id: &PodId,
        pod: &Pod,
        container: &Container,
    ) -> Result<Self, EnvError> {
        let kept = snapshot::env_secrets(pod::spec(pod));
        let mut sources = Self::default();
        let mut bytes: usize = 0;
        let mut hold = |more: usize| {
            bytes += more;
            if bytes > SOURCES_BYTES_MAX {
                Err(EnvError::Sources(SOURCES_BYTES_MAX))
            } else {
                Ok(())
            }
        };
        for (name, optional) in referred(container, ReferenceKind::Secret) {
            if !sources.secrets.contains_key(name) {
                let keep = kept.get(name).unwrap_or(&Keep::All);
                let keys = secret(objects, snapshot, (id, pod), (name, optional), keep).await?;
                let values = keys.iter().flat_map(|secret| secret.keys.values());
                hold(values.map(|value| value.expose().len()).sum())?;
                sources.secrets.insert(name.to_owned(), keys);
            }
        }
        for (name, optional) in referred(container, ReferenceKind::ConfigMap) {
            if !sources.config_maps.contains_key(name) {
                let map = match objects.get::<ConfigMap>(id.namespace(), name).await {
                    Ok(map) => Some(map),
                    Err(error) if optional && error.is_not_found() => None,
                    Err(error) => return Err(error.into()),
                };
                let values = map.iter().flat_map(|map| map.data.iter().flatten());
                hold(values.map(|(_, value)| value.len()).sum())?;
                sources.config_maps.insert(name.to_owned(), map);
            }
        }
        Ok(sources)
    }

    /// What a container refers to, as if it had been fetched.
    #[cfg(test)]
    pub(crate) fn given(
        secrets: impl IntoIterator<Item = (String, BTreeMap<String, SecretBytes>)>,
        config_maps: impl IntoIterator<Item = (String, ConfigMap)>,
    ) -> Self {
        let version = Version { uid: "u".to_owned(), resource_version: "1".to_owned() };
        let fetched = |keys| Some(FetchedSecret { version: version.clone(), keys });
        Self {
            secrets: secrets.into_iter().map(|(name, keys)| (name, fetched(keys))).collect(),
            config_maps: config_maps.into_iter().map(|(name, map)| (name, Some(map))).collect(),
        }
    }

    /// Which version of an object was fetched.
    pub(crate) fn seen(&self, key: &ObjectKey) -> Option<Version> {
        match key.kind {
            Kind::Secret => {
                self.secrets.get(&key.name)?.as_ref().map(|secret| secret.version.clone())
            }
            Kind::ConfigMap => {
                let map = self.config_maps.get(&key.name)?.as_ref();
                map.map(|map| Version::of(&map.metadata))
            }
            Kind::ServiceAccount | Kind::RuntimeClass => None,
        }
    }

    pub(super) fn keys(&self, secret: &str) -> Option<&BTreeMap<String, SecretBytes>> {
        self.secrets.get(secret)?.as_ref().map(|secret| &secret.keys)
    }
}

/// Whether a container's environment may have values of Secrets.
pub(crate) fn refers_to_secrets(container: &Container) -> bool {
    !referred(container, ReferenceKind::Secret).is_empty()
}

/// The objects of a kind that a container refers to; optional where every reference is.
fn referred(container: &Container, kind: ReferenceKind) -> BTreeMap<&str, bool> {
    let mut optional = BTreeMap::new();
    for reference in references::of_environment(container) {
        if reference.kind == kind {
            *optional.entry(reference.name).or_insert(true) &= reference.optional;
        }
    }
    optional
}

async fn secret(
    objects: &Objects,
    snapshot: &Snapshot,
    (id, pod): (&PodId, &Pod),
    (name, optional): (&str, bool),
    keep: &Keep,
) -> Result<Option<FetchedSecret>, EnvError> {
    match snapshot.secret(name).map_err(EnvError::Snapshot)? {
        Some(Record::Present { version, keys }) => {
            return Ok(Some(FetchedSecret { version, keys }));
        }
        Some(Record::Absent) if optional => return Ok(None),
        // A volume could do without it, this container cannot: it stays missing for the pod.
        Some(Record::Absent) => {
            let key = ObjectKey::secret(id.namespace(), name);
            return Err(FetchError::NotFound(key).into());
        }
        None => {}
    }
    let fetched = match objects.get::<Secret>(id.namespace(), name).await {
        Ok(secret) => Some(secret),
        Err(error) if optional && error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    // A secret that lacks a key which some container cannot do without is not recorded: a record
    // does not change, and that container could never start. Those that can start do.
    let complete = fetched
        .as_ref()
        .is_none_or(|secret| snapshot::missing_key(pod::spec(pod), name, secret).is_none());
    if complete {
        snapshot.add(name, fetched.as_ref(), keep).map_err(EnvError::Snapshot)?;
    } else {
        let keys = fetched.iter().flat_map(|secret| &secret.data);
        for (_, value) in keys.filter(|(key, _)| keep.takes(key)) {
            snapshot.remember(value.expose()).map_err(EnvError::Snapshot)?;
        }
    }
    Ok(fetched
        .map(|secret| FetchedSecret { version: Version::of(&secret.metadata), keys: secret.data }))
}
