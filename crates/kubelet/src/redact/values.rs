//! The values of a pod's Secrets, as they lie on its tmpfs: for texts that are about a pod.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use k8s_openapi::api::core::v1::PodSpec;
use zeroize::Zeroizing;

use super::{Redactor, VALUES_BYTES_MAX, WITHHELD};
use crate::pod::{Layout, PodId};
use crate::snapshot::Snapshot;
use crate::volume::spec;

/// How deep a volume's files lie at most; items beyond are not made.
const DEPTH_MAX: usize = 64;

impl Redactor {
    /// One that knows all values that the pod has been given: by its environment, and by its volumes.
    ///
    /// Of a pod with Secrets whose values cannot be read every text is withheld.
    pub(crate) fn of_pod(layout: &Layout, id: &PodId, spec: &PodSpec) -> Self {
        let mut redactor = Self::default();
        if !spec::uses_secrets(spec) {
            return redactor;
        }
        match redactor.read(layout, id, spec) {
            Ok(()) => redactor,
            Err(error) => {
                tracing::debug!(pod = %id, %error, "the pod's values cannot be read");
                Self::blind()
            }
        }
    }

    fn read(&mut self, layout: &Layout, id: &PodId, spec: &PodSpec) -> io::Result<()> {
        let snapshot = Snapshot::of(layout, id.uid());
        if !snapshot.is_committed()? {
            return Err(io::ErrorKind::NotFound.into());
        }
        for (name, kind) in spec::volumes(spec) {
            let spec::VolumeKind::Files(files) = &kind else { continue };
            if !files.has_secrets() {
                continue;
            }
            let open = files.open_paths();
            // The version that is seen now, and one whose writing failed: a container may see it.
            for entry in fs::read_dir(kind.path(layout, id.uid(), name))? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    let root = entry.path();
                    self.add_files(&root, &root, &open, DEPTH_MAX)?;
                }
            }
        }
        // After the volumes: what a volume is about to lose is here before it no longer exists there.
        self.add_snapshot(&snapshot)
    }

    /// Adds what a pod's environment was made from, and what its volumes held before.
    pub(crate) fn add_snapshot(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        snapshot.each_value(|value| self.add(value))
    }

    fn add_files(
        &mut self,
        root: &Path,
        directory: &Path,
        open: &BTreeSet<String>,
        depth: usize,
    ) -> io::Result<()> {
        if depth == 0 {
            return Err(io::Error::other("a volume's directories are too deep"));
        }
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            let relative = path.strip_prefix(root).ok().and_then(Path::to_str).unwrap_or_default();
            if metadata.is_dir() {
                self.add_files(root, &path, open, depth - 1)?;
            } else if metadata.is_file() && !open.contains(relative) {
                if self.bytes as u64 + metadata.len() > VALUES_BYTES_MAX as u64 {
                    self.withhold = Some(WITHHELD);
                    return Ok(());
                }
                let bytes = Zeroizing::new(fs::read(&path)?);
                self.add(&bytes);
            }
        }
        Ok(())
    }
}
