//! Volumes: one source each, and what is valid in the sources this product mounts. For sources of
//! cloud providers only the number of sources is checked; no kubelet of ours mounts them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, PodSpec, ProjectedVolumeSource, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::SpecOf;
use super::environment::{VOLUME_FIELDS, validate_field, validate_resource_field};
use super::image::validate_pull_policy;
use super::values::{descending_path, no_backsteps};
use crate::field::{Error, ErrorList, Path};
use crate::kinds::meta::invalid_each;
use crate::kinds::optional::{list, text};
use crate::names;
use crate::quantity::Quantity;

/// The volumes that containers may refer to: those without an error.
pub(super) type Known<'a> = BTreeMap<&'a str, &'a Volume>;

pub(super) fn validate<'a>(
    volumes: &'a [Volume],
    meta: Option<&ObjectMeta>,
    spec_of: SpecOf,
    path: &Path,
) -> (Known<'a>, ErrorList) {
    let mut known = Known::new();
    let mut errors = ErrorList::new();
    for (at, volume) in volumes.iter().enumerate() {
        let path = path.index(at);
        let mut found = validate_source(volume, meta, spec_of, &path);
        let name_path = path.child("name");
        if volume.name.is_empty() {
            found.push(Error::required(&name_path, ""));
        } else {
            let wrong = names::dns1123_label(&volume.name);
            found.extend(invalid_each(&name_path, &volume.name, wrong));
        }
        if known.contains_key(volume.name.as_str()) {
            found.push(Error::duplicate(&name_path, &volume.name));
        }
        if found.is_empty() {
            known.insert(&volume.name, volume);
        }
        errors.extend(found);
    }
    (known, errors)
}

/// What a volume is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    EmptyDir,
    HostPath,
    GitRepo,
    GcePersistentDisk,
    AwsElasticBlockStore,
    Secret,
    Nfs,
    Iscsi,
    Glusterfs,
    Flocker,
    PersistentVolumeClaim,
    Rbd,
    Cinder,
    CephFs,
    Quobyte,
    DownwardApi,
    Fc,
    FlexVolume,
    ConfigMap,
    AzureFile,
    VsphereVolume,
    PhotonPersistentDisk,
    PortworxVolume,
    AzureDisk,
    StorageOs,
    Projected,
    ScaleIo,
    Csi,
    Ephemeral,
    Image,
}

impl Source {
    /// As the message about too many sources names it.
    fn as_str(self) -> &'static str {
        match self {
            Self::EmptyDir => "emptyDir",
            Self::HostPath => "hostPath",
            Self::GitRepo => "gitRepo",
            Self::GcePersistentDisk => "gcePersistentDisk",
            Self::AwsElasticBlockStore => "awsElasticBlockStore",
            Self::Secret => "secret",
            Self::Nfs => "nfs",
            Self::Iscsi => "iscsi",
            Self::Glusterfs => "glusterfs",
            Self::Flocker => "flocker",
            Self::PersistentVolumeClaim => "persistentVolumeClaim",
            Self::Rbd => "rbd",
            Self::Cinder => "cinder",
            Self::CephFs => "cephFS",
            Self::Quobyte => "quobyte",
            // Spelt so by upstream.
            Self::DownwardApi => "downwarAPI",
            Self::Fc => "fc",
            Self::FlexVolume => "flexVolume",
            Self::ConfigMap => "configMap",
            Self::AzureFile => "azureFile",
            Self::VsphereVolume => "vsphereVolume",
            Self::PhotonPersistentDisk => "photonPersistentDisk",
            Self::PortworxVolume => "portworxVolume",
            Self::AzureDisk => "azureDisk",
            Self::StorageOs => "storageos",
            Self::Projected => "projected",
            Self::ScaleIo => "scaleIO",
            Self::Csi => "csi",
            Self::Ephemeral => "ephemeral",
            Self::Image => "image",
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The sources a volume names, in the order in which upstream looks for them.
pub(super) fn sources_of(volume: &Volume) -> Vec<Source> {
    let all = [
        (Source::EmptyDir, volume.empty_dir.is_some()),
        (Source::HostPath, volume.host_path.is_some()),
        (Source::GitRepo, volume.git_repo.is_some()),
        (Source::GcePersistentDisk, volume.gce_persistent_disk.is_some()),
        (Source::AwsElasticBlockStore, volume.aws_elastic_block_store.is_some()),
        (Source::Secret, volume.secret.is_some()),
        (Source::Nfs, volume.nfs.is_some()),
        (Source::Iscsi, volume.iscsi.is_some()),
        (Source::Glusterfs, volume.glusterfs.is_some()),
        (Source::Flocker, volume.flocker.is_some()),
        (Source::PersistentVolumeClaim, volume.persistent_volume_claim.is_some()),
        (Source::Rbd, volume.rbd.is_some()),
        (Source::Cinder, volume.cinder.is_some()),
        (Source::CephFs, volume.cephfs.is_some()),
        (Source::Quobyte, volume.quobyte.is_some()),
        (Source::DownwardApi, volume.downward_api.is_some()),
        (Source::Fc, volume.fc.is_some()),
        (Source::FlexVolume, volume.flex_volume.is_some()),
        (Source::ConfigMap, volume.config_map.is_some()),
        (Source::AzureFile, volume.azure_file.is_some()),
        (Source::VsphereVolume, volume.vsphere_volume.is_some()),
        (Source::PhotonPersistentDisk, volume.photon_persistent_disk.is_some()),
        (Source::PortworxVolume, volume.portworx_volume.is_some()),
        (Source::AzureDisk, volume.azure_disk.is_some()),
        (Source::StorageOs, volume.storageos.is_some()),
        (Source::Projected, volume.projected.is_some()),
        (Source::ScaleIo, volume.scale_io.is_some()),
        (Source::Csi, volume.csi.is_some()),
        (Source::Ephemeral, volume.ephemeral.is_some()),
        (Source::Image, volume.image.is_some()),
    ];
    all.into_iter().filter(|(_, there)| *there).map(|(source, _)| source).collect()
}

fn validate_source(
    volume: &Volume,
    meta: Option<&ObjectMeta>,
    spec_of: SpecOf,
    path: &Path,
) -> ErrorList {
    let sources = sources_of(volume);
    let Some((first, others)) = sources.split_first() else {
        return vec![Error::required(path, "must specify a volume type")];
    };
    let mut errors = validate_one(volume, *first, meta, spec_of, path);
    for other in others {
        let detail = "may not specify more than 1 volume type";
        errors.push(Error::forbidden(&path.child(&other.to_string()), detail));
    }
    errors
}

fn validate_one(
    volume: &Volume,
    source: Source,
    meta: Option<&ObjectMeta>,
    spec_of: SpecOf,
    path: &Path,
) -> ErrorList {
    match source {
        Source::EmptyDir => validate_empty_dir(volume, path).into_iter().collect(),
        Source::Secret => volume.secret.as_ref().map_or_else(ErrorList::new, |secret| {
            let path = path.child("secret");
            let mut errors = required("secretName", text(&secret.secret_name), &path);
            errors.extend(file_mode(secret.default_mode, &path.child("defaultMode")));
            errors.extend(validate_items(list(&secret.items), &path));
            errors
        }),
        Source::ConfigMap => volume.config_map.as_ref().map_or_else(ErrorList::new, |map| {
            let path = path.child("configMap");
            let mut errors = required("name", &map.name, &path);
            errors.extend(file_mode(map.default_mode, &path.child("defaultMode")));
            errors.extend(validate_items(list(&map.items), &path));
            errors
        }),
        Source::Projected => volume
            .projected
            .as_ref()
            .map_or_else(ErrorList::new, |it| validate_projected(it, &path.child("projected"))),
        Source::DownwardApi => {
            volume.downward_api.as_ref().map_or_else(ErrorList::new, |downward| {
                let path = path.child("downwardAPI");
                let mut errors: ErrorList =
                    file_mode(downward.default_mode, &path.child("defaultMode"))
                        .into_iter()
                        .collect();
                for file in list(&downward.items) {
                    errors.extend(validate_downward_file(file, &path));
                }
                errors
            })
        }
        Source::HostPath => volume
            .host_path
            .as_ref()
            .map_or_else(ErrorList::new, |it| validate_host_path(it, &path.child("hostPath"))),
        Source::GitRepo => volume.git_repo.as_ref().map_or_else(ErrorList::new, |git| {
            let path = path.child("gitRepo");
            let mut errors = required("repository", &git.repository, &path);
            errors.extend(descending_path(text(&git.directory), &path.child("directory")));
            errors
        }),
        Source::Nfs => volume.nfs.as_ref().map_or_else(ErrorList::new, |nfs| {
            let path = path.child("nfs");
            let mut errors = required("server", &nfs.server, &path);
            errors.extend(required("path", &nfs.path, &path));
            if !nfs.path.starts_with('/') {
                let detail = "must be an absolute path";
                errors.push(Error::invalid(&path.child("path"), &nfs.path, detail));
            }
            errors
        }),
        Source::PersistentVolumeClaim => {
            volume.persistent_volume_claim.as_ref().map_or_else(ErrorList::new, |claim| {
                required("claimName", &claim.claim_name, &path.child("persistentVolumeClaim"))
            })
        }
        Source::Csi => validate_csi(volume, &path.child("csi")),
        Source::Ephemeral => validate_ephemeral(volume, meta, path),
        Source::Image => volume.image.as_ref().map_or_else(ErrorList::new, |image| {
            let path = path.child("image");
            let mut errors = match spec_of {
                SpecOf::Pod => required("reference", text(&image.reference), &path),
                SpecOf::Template => ErrorList::new(),
            };
            let policy = text(&image.pull_policy);
            errors.extend(validate_pull_policy(policy, &path.child("pullPolicy")));
            errors
        }),
        // Nothing here mounts these.
        Source::GcePersistentDisk
        | Source::AwsElasticBlockStore
        | Source::Iscsi
        | Source::Glusterfs
        | Source::Flocker
        | Source::Rbd
        | Source::Cinder
        | Source::CephFs
        | Source::Quobyte
        | Source::Fc
        | Source::FlexVolume
        | Source::AzureFile
        | Source::VsphereVolume
        | Source::PhotonPersistentDisk
        | Source::PortworxVolume
        | Source::AzureDisk
        | Source::StorageOs
        | Source::ScaleIo => ErrorList::new(),
    }
}

fn required(name: &str, value: &str, path: &Path) -> ErrorList {
    value.is_empty().then(|| Error::required(&path.child(name), "")).into_iter().collect()
}

fn file_mode(mode: Option<i32>, path: &Path) -> Option<Error> {
    let detail = "must be a number between 0 and 0777 (octal), both inclusive";
    let mode = mode.filter(|mode| !(0..=0o777).contains(mode))?;
    Some(Error::invalid(path, mode, detail))
}

fn validate_empty_dir(volume: &Volume, path: &Path) -> Option<Error> {
    let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
    let fine = Quantity::of(limit).is_ok_and(|limit| !limit.is_negative());
    let path = path.child("emptyDir").child("sizeLimit");
    (!fine).then(|| Error::forbidden(&path, "SizeLimit field must be a valid resource quantity"))
}

fn validate_items(items: &[KeyToPath], path: &Path) -> ErrorList {
    let path = path.child("items");
    let each = |(at, item)| validate_item(item, &path.index(at));
    items.iter().enumerate().flat_map(each).collect()
}

fn validate_item(item: &KeyToPath, path: &Path) -> ErrorList {
    let mut errors = required("key", &item.key, path);
    errors.extend(required("path", &item.path, path));
    errors.extend(unreserved_path(&item.path, &path.child("path")));
    errors.extend(file_mode(item.mode, &path.child("mode")));
    errors
}

fn validate_projected(projected: &ProjectedVolumeSource, path: &Path) -> ErrorList {
    let mut errors: ErrorList =
        file_mode(projected.default_mode, &path.child("defaultMode")).into_iter().collect();
    let mut paths = BTreeSet::new();
    for (at, source) in list(&projected.sources).iter().enumerate() {
        let source_path = path.child("sources").index(at);
        let mut sources = 0;
        let mut files = |name: &str, object: &str, items: &[KeyToPath]| {
            sources += 1;
            let source_path = source_path.child(name);
            errors.extend(required("name", object, &source_path));
            for (at, item) in items.iter().enumerate() {
                errors.extend(validate_item(item, &source_path.child("items").index(at)));
                if !item.path.is_empty() && !paths.insert(item.path.clone()) {
                    errors.push(Error::invalid(path, object, "conflicting duplicate paths"));
                }
            }
        };
        if let Some(secret) = &source.secret {
            files("secret", &secret.name, list(&secret.items));
        }
        if let Some(map) = &source.config_map {
            files("configMap", &map.name, list(&map.items));
        }
        if let Some(downward) = &source.downward_api {
            sources += 1;
            for file in list(&downward.items) {
                errors.extend(validate_downward_file(file, &source_path.child("downwardAPI")));
                if !file.path.is_empty() && !paths.insert(file.path.clone()) {
                    let detail = "conflicting duplicate paths";
                    errors.push(Error::invalid(path, &file.path, detail));
                }
            }
        }
        if let Some(token) = &source.service_account_token {
            sources += 1;
            let lifetime_s = token.expiration_seconds.unwrap_or_default();
            let lifetime_path = source_path.child("serviceAccountToken").child("expirationSeconds");
            if lifetime_s < 10 * 60 {
                let detail = "may not specify a duration less than 10 minutes";
                errors.push(Error::invalid(&lifetime_path, lifetime_s, detail));
            }
            if lifetime_s > 1 << 32 {
                let detail = "may not specify a duration larger than 2^32 seconds";
                errors.push(Error::invalid(&lifetime_path, lifetime_s, detail));
            }
            let file = path.child("path");
            if token.path.is_empty() {
                errors.push(Error::required(&file, ""));
            } else {
                errors.extend(unreserved_path(&token.path, &file));
            }
        }
        sources += usize::from(source.cluster_trust_bundle.is_some());
        sources += usize::from(source.pod_certificate.is_some());
        if sources > 1 {
            let detail = "may not specify more than 1 volume type per source";
            errors.push(Error::forbidden(&source_path, detail));
        }
    }
    errors
}

fn validate_downward_file(file: &DownwardAPIVolumeFile, path: &Path) -> ErrorList {
    let mut errors = required("path", &file.path, path);
    errors.extend(unreserved_path(&file.path, &path.child("path")));
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            errors.extend(validate_field(field, VOLUME_FIELDS, &path.child("fieldRef")));
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(path, "resource", detail));
            }
        }
        (None, Some(resource)) => {
            let path = path.child("resourceFieldRef");
            errors.extend(validate_resource_field(resource, &path, true));
        }
        (None, None) => {
            let detail = "one of fieldRef and resourceFieldRef is required";
            errors.push(Error::required(path, detail));
        }
    }
    errors.extend(file_mode(file.mode, &path.child("mode")));
    errors
}

fn validate_host_path(host: &HostPathVolumeSource, path: &Path) -> ErrorList {
    if host.path.is_empty() {
        return vec![Error::required(&path.child("path"), "")];
    }
    let mut errors: ErrorList = no_backsteps(&host.path, &path.child("path")).into_iter().collect();
    let supported = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    let kind = text(&host.type_);
    if !supported.contains(&kind) {
        errors.push(Error::not_supported(&path.child("type"), kind, &supported));
    }
    errors
}

const DRIVER_BYTES_MAX: usize = 63;

fn validate_csi(volume: &Volume, path: &Path) -> ErrorList {
    let Some(csi) = &volume.csi else { return ErrorList::new() };
    let driver = path.child("driver");
    let mut errors = required("driver", &csi.driver, path);
    if csi.driver.len() > DRIVER_BYTES_MAX {
        errors.push(Error::too_long(&driver, DRIVER_BYTES_MAX));
    }
    if !csi.driver.is_empty() {
        let wrong = names::dns1123_subdomain(&csi.driver.to_lowercase());
        errors.extend(invalid_each(&driver, &csi.driver, wrong));
    }
    if let Some(secret) = &csi.node_publish_secret_ref {
        if secret.name.is_empty() {
            errors.push(Error::required(&path.child("nodePublishSecretRef").child("name"), ""));
        } else {
            let wrong = names::subdomain_name(&secret.name, false);
            errors.extend(invalid_each(&path.child("name"), &secret.name, wrong));
        }
    }
    errors
}

fn validate_ephemeral(volume: &Volume, meta: Option<&ObjectMeta>, path: &Path) -> ErrorList {
    let Some(source) = &volume.ephemeral else { return ErrorList::new() };
    let mut errors = ErrorList::new();
    if source.volume_claim_template.is_none() {
        let path = path.child("ephemeral").child("volumeClaimTemplate");
        errors.push(Error::required(&path, ""));
    }
    let pod = meta.and_then(|meta| meta.name.as_deref()).filter(|name| !name.is_empty());
    if let Some(pod) = pod.filter(|_| !volume.name.is_empty()) {
        let claim = format!("{pod}-{}", volume.name);
        for wrong in names::subdomain_name(&claim, false) {
            let detail = format!("PVC name {claim:?}: {wrong}");
            errors.push(Error::invalid(&path.child("name"), &volume.name, detail));
        }
    }
    errors
}

/// A token is of a service account, so a pod that wants one names its account.
pub(super) fn validate_tokens_have_account(spec: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if !text(&spec.service_account_name).is_empty() {
        return errors;
    }
    for (at, volume) in list(&spec.volumes).iter().enumerate() {
        let path = path.child("volumes").index(at).child("projected").child("sources");
        let sources = volume.projected.iter().flat_map(|it| list(&it.sources)).enumerate();
        for (at, _) in sources.filter(|(_, source)| source.service_account_token.is_some()) {
            let detail = "must not be specified when serviceAccountName is not set";
            let path = path.index(at).child("serviceAccountToken");
            errors.push(Error::forbidden(&path, detail));
        }
    }
    errors
}

/// A descending path that does not begin like the names volumes keep for themselves (`..data`).
fn unreserved_path(target: &str, path: &Path) -> ErrorList {
    let mut errors = descending_path(target, path);
    if target.starts_with("..") && !target.starts_with("../") {
        errors.push(Error::invalid(path, target, "must not start with '..'"));
    }
    errors
}
