//! Where files come from: not the host's own, and at `restricted` nothing that a node mounts from
//! elsewhere by itself.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, plural, quoted, violation};

pub(super) fn host_path(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let bad = spec.volumes.iter().flatten().filter(|volume| volume.host_path.is_some());
    let bad: Vec<_> = bad.map(|volume| volume.name.as_str()).collect();
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} {}", plural("volume", "volumes", bad.len()), quoted(&bad));
    violation("hostPath volumes", detail)
}

pub(super) fn restricted(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let (mut bad, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in spec.volumes.iter().flatten() {
        if let Some(kind) = restricted_kind(volume) {
            bad.push(volume.name.as_str());
            kinds.insert(kind);
        }
    }
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", bad.len()),
        quoted(&bad),
        plural("uses", "use", bad.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(&kinds)
    );
    violation("restricted volume types", detail)
}

/// The kind of a volume that is not one of the allowed ones. Takes the type apart so that a kind that is
/// new in it has to be given a place here.
fn restricted_kind(volume: &Volume) -> Option<&'static str> {
    let Volume {
        name: _,
        config_map,
        csi,
        downward_api,
        empty_dir,
        ephemeral,
        image,
        persistent_volume_claim,
        projected,
        secret,
        aws_elastic_block_store,
        azure_disk,
        azure_file,
        cephfs,
        cinder,
        fc,
        flex_volume,
        flocker,
        gce_persistent_disk,
        git_repo,
        glusterfs,
        host_path,
        iscsi,
        nfs,
        photon_persistent_disk,
        portworx_volume,
        quobyte,
        rbd,
        scale_io,
        storageos,
        vsphere_volume,
    } = volume;
    let is_allowed = config_map.is_some()
        || csi.is_some()
        || downward_api.is_some()
        || empty_dir.is_some()
        || ephemeral.is_some()
        || image.is_some()
        || persistent_volume_claim.is_some()
        || projected.is_some()
        || secret.is_some();
    if is_allowed {
        return None;
    }
    let kinds = [
        (host_path.is_some(), "hostPath"),
        (gce_persistent_disk.is_some(), "gcePersistentDisk"),
        (aws_elastic_block_store.is_some(), "awsElasticBlockStore"),
        (git_repo.is_some(), "gitRepo"),
        (nfs.is_some(), "nfs"),
        (iscsi.is_some(), "iscsi"),
        (glusterfs.is_some(), "glusterfs"),
        (rbd.is_some(), "rbd"),
        (flex_volume.is_some(), "flexVolume"),
        (cinder.is_some(), "cinder"),
        (cephfs.is_some(), "cephfs"),
        (flocker.is_some(), "flocker"),
        (fc.is_some(), "fc"),
        (azure_file.is_some(), "azureFile"),
        (vsphere_volume.is_some(), "vsphereVolume"),
        (quobyte.is_some(), "quobyte"),
        (azure_disk.is_some(), "azureDisk"),
        (photon_persistent_disk.is_some(), "photonPersistentDisk"),
        (portworx_volume.is_some(), "portworxVolume"),
        (scale_io.is_some(), "scaleIO"),
        (storageos.is_some(), "storageos"),
    ];
    let found = kinds.into_iter().find(|(is_set, _)| *is_set);
    Some(found.map_or("unknown", |(_, kind)| kind))
}
