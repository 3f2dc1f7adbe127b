//! A pod's volumes, all or none.
//!
//! Setting up goes in three steps. *Gather* fetches every object that a volume is made from, each
//! once, so that two volumes of one secret hold the same version; whatever is missing is
//! reported and nothing is made. *Mount* makes each volume's tmpfs, whole before it is seen.
//! *Commit* attaches the pod's [snapshot](crate::snapshot). No container starts before the
//! commit, so what an interrupted set-up left behind was never seen and is thrown away.

mod gather;
pub(crate) mod host;
mod payload;
pub(crate) mod protected;
mod refresh;
pub(crate) mod spec;
pub(crate) mod sub_path;
mod token;
mod writer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coffer_api::host_paths;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::Semaphore;

pub(crate) use self::gather::Wanted;
use self::gather::{Gathered, GatheredVolume};
use self::payload::PayloadError;
pub(crate) use self::protected::Protected;
use self::spec::VolumeKind;
use self::writer::Ownership;
use crate::downward::NodeFacts;
use crate::mount::mountinfo;
use crate::mount::tmpfs::{Detached, Options};
use crate::objects::{FetchError, Objects, ServiceAccountRef};
use crate::pod::{self, Layout, PodId};
use crate::snapshot::{Room, Snapshot};

/// How many volumes a pod may have: each is a mount, and each look at the mounts reads all of them.
const VOLUMES_MAX: usize = 1000;
/// How much the files of a pod's volumes may take in memory, in pages: 64 Secrets of the largest size.
/// One key may be asked for at any number of paths.
const FILES_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How many pods are set up at the same time: each may hold its secrets in memory meanwhile.
const SET_UPS_MAX: usize = 8;
/// Directories above a volume are for the kubelet and the runtime, both root.
const PARENT_MODE: u32 = 0o750;
const VOLUME_ROOT_MODE: u32 = 0o755;

/// Why one volume is not there. The text follows `MountVolume.SetUp failed for volume "x" : `.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("{0}")]
    Payload(#[from] PayloadError),
    #[error("hostPath type check failed: {0}")]
    HostPath(String),
    #[error(
        "host path {0:?} reaches a protected directory of this node: this requires the verb {verb:?} on {resource:?} in the API group {group:?}",
        verb = host_paths::VERB, resource = host_paths::RESOURCE, group = host_paths::GROUP
    )]
    ProtectedHostPath(String),
    #[error("no volume plugin matched")]
    Unsupported,
    #[error("unsupported field path {0:?}")]
    Field(String),
    #[error("the pod has {0} volumes; no more than {VOLUMES_MAX} are mounted")]
    TooMany(usize),
    #[error("the files of the pod's volumes take more than {FILES_BYTES_MAX} bytes of memory")]
    TooLarge,
    #[error("failed to {step}: {cause}")]
    Io { step: &'static str, cause: io::Error },
}

impl VolumeError {
    /// Whether it is the API server's absence and nothing about the volume.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Fetch(FetchError::Unreachable { .. }))
    }
}

/// A volume that is not there, and which object could change that.
pub(crate) struct Failed {
    pub(crate) volume: String,
    pub(crate) error: VolumeError,
    pub(crate) waits_for: Vec<Wanted>,
}

/// Makes and removes volumes.
pub(crate) struct Volumes {
    layout: Layout,
    objects: Arc<Objects>,
    node: NodeFacts,
    protected: Arc<Protected>,
    set_ups: Semaphore,
}

impl Volumes {
    pub(crate) fn new(
        layout: Layout,
        objects: Arc<Objects>,
        node: NodeFacts,
        protected: Arc<Protected>,
    ) -> Self {
        Self { layout, objects, node, protected, set_ups: Semaphore::new(SET_UPS_MAX) }
    }

    /// Sets up all volumes of a pod, or says what hinders each. Does nothing where it was done,
    /// by this process or an earlier one.
    ///
    /// Once begun, the mounting part runs to its end even if the future is dropped; pod workers
    /// do not drop it.
    pub(crate) async fn set_up(&self, id: &PodId, pod: &Arc<Pod>) -> Result<(), Vec<Failed>> {
        let snapshot = Snapshot::of(&self.layout, id.uid());
        let needs_snapshot = spec::needs_snapshot(pod::spec(pod));
        if needs_snapshot && is_committed(&snapshot)? {
            return Ok(());
        }
        let count = pod::spec(pod).volumes.as_ref().map_or(0, Vec::len);
        if count > VOLUMES_MAX {
            let error = VolumeError::TooMany(count);
            return Err(vec![Failed { volume: String::new(), error, waits_for: Vec::new() }]);
        }
        let permit = self.set_ups.acquire().await.ok();
        let gathered = gather::gather(&self.objects, id, pod, self.node).await?;
        let (layout, id, pod) = (self.layout.clone(), id.clone(), pod.clone());
        let protected = self.protected.clone();
        let mount = move || mount_all(&layout, &id, &pod, (&gathered, &protected), needs_snapshot);
        let result = tokio::task::spawn_blocking(mount).await;
        drop(permit);
        result.unwrap_or_else(|error| Err(vec![whole_pod(io::Error::other(error))]))
    }

    /// Gives the volumes that `stale` secrets are in their present content, each as a whole, for
    /// pods that ask for it. Secrets that the environment uses too are left out of the record:
    /// the environment keeps its version, and that is the one to report.
    pub(crate) async fn refresh(
        &self,
        id: &PodId,
        pod: &Arc<Pod>,
        stale: Vec<String>,
    ) -> Result<(), Vec<Failed>> {
        let permit = self.set_ups.acquire().await.ok();
        let gathered = gather::gather(&self.objects, id, pod, self.node).await?;
        let (layout, id, pod) = (self.layout.clone(), id.clone(), pod.clone());
        let refresh = move || refresh::refresh(&layout, &id, &pod, &gathered, &stale);
        let result = tokio::task::spawn_blocking(refresh).await;
        drop(permit);
        result.unwrap_or_else(|error| Err(vec![whole_pod(io::Error::other(error))]))
    }

    /// Replaces the service account tokens that have lived most of their life. Says when to come
    /// again.
    pub(crate) async fn renew_tokens(
        &self,
        id: &PodId,
        pod: &Pod,
    ) -> Result<Option<Duration>, VolumeError> {
        let failed = |cause: io::Error| VolumeError::Io { step: "renew a token", cause };
        let spec = pod::spec(pod);
        let snapshot = Snapshot::of(&self.layout, id.uid());
        let mut next: Option<Duration> = None;
        for file in token::files(&self.layout, id.uid(), spec) {
            let mut due = file.due_in(Timestamp::now()).map_err(failed)?;
            if due.is_zero() {
                let account = ServiceAccountRef {
                    name: spec.service_account_name.as_deref().unwrap_or("default"),
                    pod: id,
                    audience: file.audience,
                    expiration_s: file.expiration_s,
                };
                let token = self.objects.service_account_token(&account).await?;
                file.replace(&token, &snapshot, ownership(spec)).map_err(failed)?;
                due = file.due_in(Timestamp::now()).map_err(failed)?;
            }
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        Ok(next)
    }

    /// Unmounts all of a pod's and removes its directory.
    pub(crate) async fn tear_down(&self, id: &PodId) -> io::Result<()> {
        let directory = self.layout.pod(id.uid());
        let remove = move || remove_pod_directory(&directory);
        tokio::task::spawn_blocking(remove)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Unmounts all of a pod's that has run to its end; its logs and messages stay.
    pub(crate) async fn release(&self, id: &PodId) -> io::Result<()> {
        let directory = self.layout.pod(id.uid());
        let unmount = move || mountinfo::unmount_below(&directory);
        tokio::task::spawn_blocking(unmount)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

fn is_committed(snapshot: &Snapshot) -> Result<bool, Vec<Failed>> {
    snapshot.is_committed().map_err(|cause| vec![whole_pod(cause)])
}

/// A failure that is not a single volume's.
fn whole_pod(cause: io::Error) -> Failed {
    let error = VolumeError::Io { step: "set up the pod's directory", cause };
    Failed { volume: String::new(), error, waits_for: Vec::new() }
}

fn mount_all(
    layout: &Layout,
    id: &PodId,
    pod: &Pod,
    (gathered, protected): (&Gathered, &Protected),
    needs_snapshot: bool,
) -> Result<(), Vec<Failed>> {
    let spec = pod::spec(pod);
    let prepare = || {
        make_parent(&layout.pod(id.uid()))?;
        if needs_snapshot {
            // What an interrupted set-up left: no container has seen it.
            mountinfo::unmount_below(&layout.pod(id.uid()))?;
        }
        Ok(())
    };
    prepare().map_err(|cause| vec![whole_pod(cause)])?;

    let owner = ownership(spec);
    let mut failures = Vec::new();
    for (name, kind) in spec::volumes(spec) {
        let path = kind.path(layout, id.uid(), name);
        let result = match &kind {
            VolumeKind::Files(files) => gathered
                .volume(name)
                .ok_or(VolumeError::Unsupported)
                .and_then(|volume| mount_files(&path, files, volume, owner)),
            VolumeKind::EmptyDir(source) => host::empty_dir(source, &path, owner),
            VolumeKind::HostPath(source) if protected::is_granted(pod) => host::host_path(source),
            VolumeKind::HostPath(source) => protected.open(source, false).map(drop),
            VolumeKind::Unsupported => Err(VolumeError::Unsupported),
        };
        if let Err(error) = result {
            failures.push(Failed { volume: name.to_owned(), error, waits_for: Vec::new() });
        }
    }
    if failures.is_empty() && needs_snapshot {
        let snapshot = Snapshot::of(layout, id.uid());
        let secrets = gathered.env_secrets();
        let containers = if secrets > 0 { pod::all_containers(spec).count() } else { 0 };
        let result = snapshot.commit(gathered.records(), Room { secrets, containers });
        failures.extend(result.err().map(whole_pod));
    }
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

fn mount_files(
    path: &Path,
    files: &spec::FilesVolume<'_>,
    volume: &GatheredVolume,
    owner: Ownership,
) -> Result<(), VolumeError> {
    let failed = |step| move |cause: io::Error| VolumeError::Io { step, cause };
    let payload = volume.payload(files)?;
    make_parent(path).map_err(failed("make the mount point"))?;
    let size = payload.size();
    let options = Options { size, root_mode: VOLUME_ROOT_MODE, exec: false };
    let tmpfs = Detached::new(options).map_err(|error| failed("make the tmpfs")(error.into()))?;
    let fill = || {
        let root = tmpfs.root()?;
        writer::write(std::os::fd::AsFd::as_fd(&root), &payload, owner)
    };
    fill().map_err(|error| failed("fill the tmpfs")(error.into()))?;
    tmpfs.attach(path).map_err(|error| failed("mount the tmpfs")(error.into()))
}

fn ownership(spec: &PodSpec) -> Ownership {
    let context = spec.security_context.as_ref();
    let fs_group = context.and_then(|context| context.fs_group);
    Ownership { fs_group: fs_group.and_then(|group| u32::try_from(group).ok()) }
}

fn make_parent(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(PARENT_MODE).create(path)
}

fn remove_pod_directory(directory: &Path) -> io::Result<()> {
    mountinfo::unmount_below(directory)?;
    // What is still mounted would be emptied instead of removed.
    if mountinfo::read()?.iter().any(|mount| mount.target.starts_with(directory)) {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "a volume is still mounted"));
    }
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::os::fd::AsFd as _;

    use super::payload::Payload;
    use super::*;
    use coffer_testkit::in_namespace;

    fn big() -> Vec<u8> {
        (0..1024 * 1024_u32).map(|at| at.to_le_bytes()[0]).collect()
    }

    #[test]
    fn a_volume_is_whole_when_it_appears_and_has_room_for_no_more() {
        in_namespace(|| {
            let bytes = big();
            let mut payload = Payload::default();
            payload.add("big", 0o644, Cow::Borrowed(&bytes)).expect("valid path");
            payload.add("empty", 0o644, Cow::Borrowed(b"")).expect("valid path");
            payload.add("deep/er/file", 0o600, Cow::Borrowed(b"x")).expect("valid path");
            let directory = tempfile::tempdir().expect("a directory");
            let size = payload.size();
            let tmpfs =
                Detached::new(Options { size, root_mode: 0o755, exec: false }).expect("made");
            let root = tmpfs.root().expect("opened");
            writer::write(root.as_fd(), &payload, Ownership::default()).expect("fits exactly");
            drop(root);
            assert!(!directory.path().join("big").exists(), "nothing is seen before it is whole");

            tmpfs.attach(directory.path()).expect("attached");
            let seen = std::fs::read(directory.path().join("big")).expect("readable");
            let overfull = std::fs::write(directory.path().join("more"), big());
            let mounts = mountinfo::read().expect("readable");
            let mount = mounts.iter().find(|mount| mount.target == directory.path()).cloned();
            mountinfo::unmount_below(directory.path()).expect("unmounted");

            assert!(seen == bytes);
            assert!(overfull.is_err());
            let mount = mount.expect("listed");
            assert_eq!(mount.fs_type, "tmpfs");
            for option in ["nosuid", "nodev", "noexec"] {
                assert!(mount.options.split(',').any(|found| found == option), "{option}");
            }
        });
    }
}
