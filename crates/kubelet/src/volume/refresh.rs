//! Live update: the volumes of a running pod that asks for it follow their secrets.
//!
//! The guide's rule is the snapshot; this is the exception, by annotation. A volume changes as a
//! whole, by the rename of `..data` that programs which watch their configuration know. Values that
//! go with it stay in the snapshot, so that texts of a program which goes on using them are redacted.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use super::gather::{Gathered, GatheredVolume};
use super::payload::Payload;
use super::spec::{self, FileSource, FilesVolume, VolumeKind};
use super::{Failed, Ownership, VolumeError, ownership, token, whole_pod, writer};
use crate::mount::tmpfs;
use crate::pod::{self, Layout, PodId};
use crate::snapshot::{Keep, Snapshot, Superseded};

/// Rewrites the volumes that hold `stale` secrets, then records their versions.
pub(super) fn refresh(
    layout: &Layout,
    id: &PodId,
    pod: &Pod,
    gathered: &Gathered,
    stale: &[String],
) -> Result<(), Vec<Failed>> {
    let spec = pod::spec(pod);
    let snapshot = Snapshot::of(layout, id.uid());
    for (name, kind) in spec::volumes(spec) {
        let VolumeKind::Files(files) = &kind else { continue };
        if !holds_any(files, stale) {
            continue;
        }
        let path = kind.path(layout, id.uid(), name);
        let volume = gathered.volume(name).ok_or(VolumeError::Unsupported);
        volume
            .and_then(|volume| rewrite(&path, &snapshot, files, volume, ownership(spec)))
            .map_err(|error| {
                vec![Failed { volume: name.to_owned(), error, waits_for: Vec::new() }]
            })?;
    }
    for (name, secret, keep) in gathered.records() {
        if *keep == Keep::Version && stale.iter().any(|stale| stale == name) {
            snapshot.supersede(name, secret).map_err(|cause| vec![whole_pod(cause)])?;
        }
    }
    Ok(())
}

fn holds_any(files: &FilesVolume<'_>, secrets: &[String]) -> bool {
    files.sources.iter().any(|source| match source {
        FileSource::Secret { name, .. } => secrets.iter().any(|secret| secret == name),
        _ => false,
    })
}

fn rewrite(
    path: &Path,
    snapshot: &Snapshot,
    files: &FilesVolume<'_>,
    volume: &GatheredVolume,
    owner: Ownership,
) -> Result<(), VolumeError> {
    let payload = volume.payload(files)?;
    let failed = |cause: io::Error| VolumeError::Io { step: "update the volume", cause };
    let update = || -> io::Result<()> {
        keep_superseded(snapshot, path, files, &payload)?;
        let size = payload.size();
        tmpfs::resize(path, tmpfs::used(path)? + size)?;
        writer::write(File::open(path)?.as_fd(), &payload, owner)?;
        tmpfs::shrink(path, size);
        Ok(())
    };
    update().map_err(failed)
}

/// Keeps what is in the volume and will not be.
fn keep_superseded(
    snapshot: &Snapshot,
    volume: &Path,
    files: &FilesVolume<'_>,
    next: &Payload<'_>,
) -> io::Result<()> {
    let present = token::present(volume)?;
    let (open, tokens) = (files.open_paths(), files.token_paths());
    let next = next.files.iter().filter(|(path, _)| !open.contains(path.as_str()));
    let next: BTreeSet<&[u8]> = next.map(|(_, file)| &*file.bytes).collect();
    let lost = present
        .iter()
        .filter(|(path, (_, bytes))| !open.contains(*path) && !next.contains(bytes.as_slice()));
    snapshot.keep_superseded(lost.map(|(path, (_, bytes))| {
        let kind = if tokens.contains(path) { Superseded::Token } else { Superseded::Value };
        (kind, bytes.as_slice())
    }))
}
