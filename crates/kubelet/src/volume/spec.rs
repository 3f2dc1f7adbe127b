//! The volumes of a pod's spec, sorted by how they are made. Pure.

use std::collections::BTreeSet;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, PodSpec,
    ProjectedVolumeSource, Volume, VolumeProjection,
};

use super::payload::{FILE_MODE_DEFAULT, FilePath};
use crate::pod::Layout;
use crate::snapshot;

/// Seconds a projected token is good for where the source does not say.
const TOKEN_EXPIRATION_DEFAULT_S: i64 = 3600;

/// How a volume is made.
pub(crate) enum VolumeKind<'a> {
    /// A tmpfs with files made from API objects, read-only for containers.
    Files(FilesVolume<'a>),
    EmptyDir(&'a EmptyDirVolumeSource),
    HostPath(&'a HostPathVolumeSource),
    /// No part of this kubelet makes it.
    Unsupported,
}

/// A volume of files.
pub(crate) struct FilesVolume<'a> {
    /// The plugin's directory name.
    pub(crate) plugin: &'static str,
    pub(crate) default_mode: i32,
    pub(crate) sources: Vec<FileSource<'a>>,
}

/// One object that files are made from.
pub(crate) enum FileSource<'a> {
    Secret {
        name: &'a str,
        items: Option<&'a [KeyToPath]>,
        optional: bool,
    },
    ConfigMap {
        name: &'a str,
        items: Option<&'a [KeyToPath]>,
        optional: bool,
    },
    DownwardApi {
        items: &'a [DownwardAPIVolumeFile],
    },
    Token {
        audience: Option<&'a str>,
        expiration_s: i64,
        path: &'a str,
    },
    /// `clusterTrustBundle`, `podCertificate` and what comes after them.
    Unsupported,
}

impl FilesVolume<'_> {
    /// Whether some of the files come from a Secret, or are a token.
    pub(crate) fn has_secrets(&self) -> bool {
        let is_secret = |source: &FileSource<'_>| {
            matches!(source, FileSource::Secret { .. } | FileSource::Token { .. })
        };
        self.sources.iter().any(is_secret)
    }

    /// Files that do not come from a Secret and are not tokens, as far as the spec tells.
    pub(crate) fn open_paths(&self) -> BTreeSet<String> {
        let mut open = BTreeSet::new();
        for source in &self.sources {
            match source {
                FileSource::ConfigMap { items: Some(items), .. } => {
                    open.extend(items.iter().filter_map(|item| written_at(&item.path)));
                }
                FileSource::DownwardApi { items } => {
                    open.extend(items.iter().filter_map(|item| written_at(&item.path)));
                }
                _ => {}
            }
        }
        // The same path may be a Secret's, too, and the last source wins: then it is not open.
        for source in &self.sources {
            match source {
                FileSource::Secret { items: Some(items), .. } if !items.is_empty() => {
                    for path in items.iter().filter_map(|item| written_at(&item.path)) {
                        open.remove(&path);
                    }
                }
                FileSource::Secret { .. } => open.clear(),
                FileSource::Token { path, .. } => {
                    written_at(path).map(|path| open.remove(&path));
                }
                _ => {}
            }
        }
        open
    }

    /// Files that are tokens, unless a Secret has one of the same path.
    pub(crate) fn token_paths(&self) -> BTreeSet<String> {
        let tokens = self.sources.iter().filter_map(|source| match source {
            FileSource::Token { path, .. } => written_at(path),
            _ => None,
        });
        tokens.collect()
    }
}

impl<'a> VolumeKind<'a> {
    pub(crate) fn of(volume: &'a Volume) -> Self {
        if let Some(secret) = &volume.secret {
            return Self::files(
                "kubernetes.io~secret",
                secret.default_mode,
                vec![FileSource::Secret {
                    name: secret.secret_name.as_deref().unwrap_or_default(),
                    items: secret.items.as_deref(),
                    optional: secret.optional == Some(true),
                }],
            );
        }
        if let Some(map) = &volume.config_map {
            return Self::files(
                "kubernetes.io~configmap",
                map.default_mode,
                vec![FileSource::ConfigMap {
                    name: &map.name,
                    items: map.items.as_deref(),
                    optional: map.optional == Some(true),
                }],
            );
        }
        if let Some(downward) = &volume.downward_api {
            let items = downward.items.as_deref().unwrap_or_default();
            let source = FileSource::DownwardApi { items };
            return Self::files("kubernetes.io~downward-api", downward.default_mode, vec![source]);
        }
        if let Some(projected) = &volume.projected {
            return Self::projected(projected);
        }
        match (&volume.empty_dir, &volume.host_path) {
            (Some(empty), _) => Self::EmptyDir(empty),
            (None, Some(host)) => Self::HostPath(host),
            (None, None) => Self::Unsupported,
        }
    }

    fn files(plugin: &'static str, mode: Option<i32>, sources: Vec<FileSource<'a>>) -> Self {
        let default_mode = mode.unwrap_or(FILE_MODE_DEFAULT);
        Self::Files(FilesVolume { plugin, default_mode, sources })
    }

    fn projected(projected: &'a ProjectedVolumeSource) -> Self {
        let sources = projected.sources.iter().flatten().map(projection).collect();
        Self::files("kubernetes.io~projected", projected.default_mode, sources)
    }

    /// Whether containers may write into it at all.
    pub(crate) fn is_writable(&self) -> bool {
        matches!(self, Self::EmptyDir(_) | Self::HostPath(_))
    }

    /// Where it is on this machine.
    pub(crate) fn path(&self, layout: &Layout, uid: &str, name: &str) -> PathBuf {
        match self {
            Self::Files(files) => layout.volume(uid, files.plugin, name),
            Self::EmptyDir(_) => layout.volume(uid, "kubernetes.io~empty-dir", name),
            Self::HostPath(host) => PathBuf::from(&host.path),
            Self::Unsupported => layout.volume(uid, "unsupported", name),
        }
    }
}

fn projection(source: &VolumeProjection) -> FileSource<'_> {
    if let Some(secret) = &source.secret {
        FileSource::Secret {
            name: &secret.name,
            items: secret.items.as_deref(),
            optional: secret.optional == Some(true),
        }
    } else if let Some(map) = &source.config_map {
        FileSource::ConfigMap {
            name: &map.name,
            items: map.items.as_deref(),
            optional: map.optional == Some(true),
        }
    } else if let Some(downward) = &source.downward_api {
        FileSource::DownwardApi { items: downward.items.as_deref().unwrap_or_default() }
    } else if let Some(token) = &source.service_account_token {
        FileSource::Token {
            audience: token.audience.as_deref().filter(|audience| !audience.is_empty()),
            expiration_s: token.expiration_seconds.unwrap_or(TOKEN_EXPIRATION_DEFAULT_S),
            path: &token.path,
        }
    } else {
        FileSource::Unsupported
    }
}

/// The path in the volume that a file has by its path in the spec: `a/b` by `a//b`.
fn written_at(path: &str) -> Option<String> {
    FilePath::parse(path).ok().map(|path| path.as_str().to_owned())
}

/// The volumes of a pod, with how each is made.
pub(crate) fn volumes(spec: &PodSpec) -> impl Iterator<Item = (&str, VolumeKind<'_>)> {
    spec.volumes.iter().flatten().map(|volume| (volume.name.as_str(), VolumeKind::of(volume)))
}

/// Whether a pod has a snapshot, and with it the commit mark of its set-up: for volumes whose content
/// comes from the API, and for an environment that comes from Secrets.
pub(crate) fn needs_snapshot(spec: &PodSpec) -> bool {
    let has_files = volumes(spec).any(|(_, kind)| matches!(kind, VolumeKind::Files(_)));
    has_files || !snapshot::env_secrets(spec).is_empty()
}

/// Whether the pod is given values of Secrets, or tokens, by its volumes or its environment.
pub(crate) fn uses_secrets(spec: &PodSpec) -> bool {
    let in_volumes = volumes(spec)
        .any(|(_, kind)| matches!(kind, VolumeKind::Files(files) if files.has_secrets()));
    in_volumes || !snapshot::env_secrets(spec).is_empty()
}
