//! Fetches what a pod's volumes and environment are made from, each object once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_api::secret::Secret;
use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use zeroize::Zeroizing;

use super::payload::{Payload, Selection};
use super::spec::{self, FileSource, FilesVolume, VolumeKind};
use super::{FILES_BYTES_MAX, Failed, VolumeError};
use crate::downward::{self, Facts, NodeFacts};
use crate::objects::{FetchError, ObjectKey, Objects, Referent, ServiceAccountRef, Version};
use crate::pod::{self, PodId};
use crate::snapshot::{self, Keep};

/// What the kernel keeps of a file in addition to its pages.
const INODE_BYTES: u64 = 1024;

/// An object that a failed set-up waits for: a version of it other than the one seen.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) key: ObjectKey,
    pub(crate) seen: Option<Version>,
}

/// Everything that was fetched. Erased when dropped, which is right after the mounting.
pub(crate) struct Gathered {
    volumes: BTreeMap<String, GatheredVolume>,
    /// Every secret looked for, with what the snapshot keeps of it.
    secrets: BTreeMap<String, (Option<Arc<Secret>>, Keep)>,
}

/// What one volume is made from, source by source.
pub(crate) struct GatheredVolume(Vec<Fetched>);

enum Fetched {
    Secret(Arc<Secret>),
    ConfigMap(Arc<ConfigMap>),
    /// Optional, and not there.
    Absent,
    Texts(Vec<String>),
    Token(Zeroizing<String>),
}

impl Gathered {
    pub(crate) fn volume(&self, name: &str) -> Option<&GatheredVolume> {
        self.volumes.get(name)
    }

    /// What goes into the snapshot.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&str, Option<&Secret>, &Keep)> {
        self.secrets.iter().map(|(name, (secret, keep))| (name.as_str(), secret.as_deref(), keep))
    }

    /// How many secrets the environment may need, there or not.
    pub(crate) fn env_secrets(&self) -> usize {
        self.secrets.values().filter(|(_, keep)| *keep != Keep::Version).count()
    }
}

impl GatheredVolume {
    /// The files that come of it.
    pub(crate) fn payload(&self, files: &FilesVolume<'_>) -> Result<Payload<'_>, VolumeError> {
        let mut payload = Payload::default();
        for (source, fetched) in files.sources.iter().zip(&self.0) {
            add(&mut payload, files.default_mode, source, fetched)?;
        }
        payload.check()?;
        Ok(payload)
    }
}

fn add<'a>(
    payload: &mut Payload<'a>,
    default_mode: i32,
    source: &FileSource<'_>,
    fetched: &'a Fetched,
) -> Result<(), VolumeError> {
    match (source, fetched) {
        (_, Fetched::Absent) => {}
        (FileSource::Secret { items, optional, .. }, Fetched::Secret(secret)) => {
            let data = secret.data.iter().map(|(key, bytes)| (key.as_str(), bytes.expose()));
            let selection =
                Selection { what: "secret", items: *items, default_mode, optional: *optional };
            payload.add_keys(&data.collect(), selection)?;
        }
        (FileSource::ConfigMap { items, optional, .. }, Fetched::ConfigMap(map)) => {
            let selection =
                Selection { what: "config", items: *items, default_mode, optional: *optional };
            payload.add_keys(&config_data(map), selection)?;
        }
        (FileSource::DownwardApi { items }, Fetched::Texts(texts)) => {
            for (item, text) in items.iter().zip(texts) {
                let mode = item.mode.unwrap_or(default_mode);
                payload.add(&item.path, mode, Cow::Borrowed(text.as_bytes()))?;
            }
        }
        (FileSource::Token { path, .. }, Fetched::Token(token)) => {
            payload.add(path, default_mode, Cow::Borrowed(token.as_bytes()))?;
        }
        _ => return Err(VolumeError::Unsupported),
    }
    Ok(())
}

/// A ConfigMap's keys, text and binary.
fn config_data(map: &ConfigMap) -> BTreeMap<&str, &[u8]> {
    let texts = map.data.iter().flatten().map(|(key, text)| (key.as_str(), text.as_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, bytes)| (key.as_str(), &*bytes.0));
    texts.chain(binary).collect()
}

/// Fetches all that the pod needs, or says for each volume what it lacks.
pub(crate) async fn gather(
    objects: &Objects,
    id: &PodId,
    pod: &Arc<Pod>,
    node: NodeFacts,
) -> Result<Gathered, Vec<Failed>> {
    let mut gatherer = Gatherer {
        objects,
        id,
        pod,
        node,
        secrets: BTreeMap::new(),
        config_maps: BTreeMap::new(),
        bytes: 0,
        held_bytes: 0,
    };
    let spec = pod::spec(pod);
    let mut volumes = BTreeMap::new();
    let mut failures = Vec::new();
    for (name, kind) in spec::volumes(spec) {
        let VolumeKind::Files(files) = kind else { continue };
        match gatherer.volume(&files).await {
            Ok(volume) => {
                volumes.insert(name.to_owned(), volume);
            }
            Err(error) => {
                // The next one would wait as long, and other pods wait for their turn.
                let is_last = error.is_unreachable();
                let waits_for = gatherer.waits_for(&files);
                failures.push(Failed { volume: name.to_owned(), waits_for, error });
                if is_last {
                    break;
                }
            }
        }
    }
    if !failures.is_empty() {
        return Err(failures);
    }
    let secrets = gatherer.records().await;
    Ok(Gathered { volumes, secrets })
}

struct Gatherer<'a> {
    objects: &'a Objects,
    id: &'a PodId,
    pod: &'a Pod,
    node: NodeFacts,
    secrets: BTreeMap<String, Result<Arc<Secret>, FetchError>>,
    config_maps: BTreeMap<String, Result<Arc<ConfigMap>, FetchError>>,
    /// What the files take that were gathered so far.
    bytes: u64,
    /// What the objects take that they are made from; a file may be a small part of one.
    held_bytes: u64,
}

impl Gatherer<'_> {
    async fn volume(&mut self, files: &FilesVolume<'_>) -> Result<GatheredVolume, VolumeError> {
        let mut fetched = Vec::with_capacity(files.sources.len());
        for source in &files.sources {
            fetched.push(self.source(source).await?);
        }
        let volume = GatheredVolume(fetched);
        // Missing keys are found now, before anything is made.
        let size = volume.payload(files)?.size();
        // A file without a byte takes its inode.
        let bytes = size.bytes + size.inodes.unwrap_or_default() * INODE_BYTES;
        self.take(bytes)?;
        Ok(volume)
    }

    async fn source(&mut self, source: &FileSource<'_>) -> Result<Fetched, VolumeError> {
        match source {
            FileSource::Secret { name, optional, .. } => {
                let is_new = !self.secrets.contains_key(*name);
                let fetched = fetch(&mut self.secrets, self.objects, self.id, name).await;
                if let Some(secret) = fetched.as_ref().ok().filter(|_| is_new) {
                    self.hold(secret.data.values().map(|value| value.expose().len()).sum())?;
                }
                optional_object(fetched, *optional, Fetched::Secret)
            }
            FileSource::ConfigMap { name, optional, .. } => {
                let is_new = !self.config_maps.contains_key(*name);
                let fetched = fetch(&mut self.config_maps, self.objects, self.id, name).await;
                if let Some(map) = fetched.as_ref().ok().filter(|_| is_new) {
                    self.hold(config_data(map).values().map(|value| value.len()).sum())?;
                }
                optional_object(fetched, *optional, Fetched::ConfigMap)
            }
            FileSource::DownwardApi { items } => {
                let mut texts = Vec::with_capacity(items.len());
                let mut bytes: u64 = 0;
                for item in *items {
                    let text = self.text(item)?;
                    bytes += text.len() as u64;
                    // Before the next one is made: each may be all of the pod's annotations.
                    if self.bytes + bytes > FILES_BYTES_MAX {
                        return Err(VolumeError::TooLarge);
                    }
                    texts.push(text);
                }
                Ok(Fetched::Texts(texts))
            }
            FileSource::Token { audience, expiration_s, .. } => {
                let account = pod::spec(self.pod).service_account_name.as_deref();
                let account = ServiceAccountRef {
                    name: account.unwrap_or("default"),
                    pod: self.id,
                    audience: *audience,
                    expiration_s: *expiration_s,
                };
                Ok(Fetched::Token(self.objects.service_account_token(&account).await?))
            }
            FileSource::Unsupported => Err(VolumeError::Unsupported),
        }
    }

    fn take(&mut self, bytes: u64) -> Result<(), VolumeError> {
        self.bytes += bytes;
        if self.bytes > FILES_BYTES_MAX { Err(VolumeError::TooLarge) } else { Ok(()) }
    }

    fn hold(&mut self, bytes: usize) -> Result<(), VolumeError> {
        self.held_bytes += bytes as u64;
        if self.held_bytes > FILES_BYTES_MAX { Err(VolumeError::TooLarge) } else { Ok(()) }
    }

    fn text(&self, item: &DownwardAPIVolumeFile) -> Result<String, VolumeError> {
        let facts = Facts { node: self.node, pod_ips: &[] };
        if let Some(field) = &item.field_ref {
            return downward::field(self.pod, &field.field_path, facts)
                .ok_or_else(|| VolumeError::Field(field.field_path.clone()));
        }
        let selector = item.resource_field_ref.as_ref();
        let text = selector.and_then(|selector| {
            let wanted = selector.container_name.as_deref();
            let container = pod::all_containers(pod::spec(self.pod))
                .find(|container| Some(container.name.as_str()) == wanted)?;
            downward::resource(container, selector, facts)
        });
        text.ok_or_else(|| VolumeError::Field(item.path.clone()))
    }

    /// The objects whose next version may end a volume's failure.
    fn waits_for(&self, files: &FilesVolume<'_>) -> Vec<Wanted> {
        let namespace = self.id.namespace();
        let wanted = files.sources.iter().filter_map(|source| match source {
            FileSource::Secret { name, .. } => {
                let seen = seen(self.secrets.get(*name)?, |secret| &secret.metadata)?;
                Some(Wanted { key: ObjectKey::secret(namespace, name), seen })
            }
            FileSource::ConfigMap { name, .. } => {
                let seen = seen(self.config_maps.get(*name)?, |map| &map.metadata)?;
                Some(Wanted { key: ObjectKey::config_map(namespace, name), seen })
            }
            _ => None,
        });
        wanted.collect()
    }

    /// The records of the snapshot: all secrets that volumes use, and those of the environment
    /// that can be had now. One that cannot holds up its container and not the volumes.
    async fn records(mut self) -> BTreeMap<String, (Option<Arc<Secret>>, Keep)> {
        let spec = pod::spec(self.pod);
        let env = snapshot::env_secrets(spec);
        for name in env.keys() {
            let is_new = !self.secrets.contains_key(*name);
            let fetched = fetch(&mut self.secrets, self.objects, self.id, name).await;
            let Some(secret) = fetched.as_ref().ok().filter(|_| is_new) else { continue };
            // Beyond what fits, containers fetch for themselves, or say that it is too much.
            let size = secret.data.values().map(|value| value.expose().len()).sum();
            if self.hold(size).is_err() {
                break;
            }
        }
        let recorded = self.secrets.into_iter().filter_map(|(name, fetched)| {
            let keep = env.get(name.as_str()).cloned();
            let secret = match fetched {
                // One that lacks a key waits with its container, in the hope of a better version.
                Ok(secret) if snapshot::missing_key(spec, &name, &secret).is_some() => return None,
                Ok(secret) => Some(secret),
                // Absent for a volume, to which it was optional: so it stays for the pod's life.
                Err(_) if keep.is_none() => None,
                Err(_) => return None,
            };
            Some((name, (secret, keep.unwrap_or(Keep::Version))))
        });
        recorded.collect()
    }
}

/// Which version of an object was seen, and none if there is none. Nothing if that is not known:
/// then a version that a watch shows may be the one that could not be had.
fn seen<T>(
    fetched: &Result<Arc<T>, FetchError>,
    metadata: impl Fn(&T) -> &ObjectMeta,
) -> Option<Option<Version>> {
    match fetched {
        Ok(object) => Some(Some(Version::of(metadata(object)))),
        Err(FetchError::NotFound(_)) => Some(None),
        Err(_) => None,
    }
}

async fn fetch<T: Referent>(
    fetched: &mut BTreeMap<String, Result<Arc<T>, FetchError>>,
    objects: &Objects,
    id: &PodId,
    name: &str,
) -> Result<Arc<T>, FetchError> {
    if let Some(known) = fetched.get(name) {
        return known.clone();
    }
    let result = objects.get(id.namespace(), name).await.map(Arc::new);
    fetched.insert(name.to_owned(), result.clone());
    result
}

fn optional_object<T>(
    fetched: Result<Arc<T>, FetchError>,
    optional: bool,
    wrap: fn(Arc<T>) -> Fetched,
) -> Result<Fetched, VolumeError> {
    match fetched {
        Ok(object) => Ok(wrap(object)),
        Err(error) if optional && error.is_not_found() => Ok(Fetched::Absent),
        Err(error) => Err(error.into()),
    }
}
