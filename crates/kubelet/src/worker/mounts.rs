//! What is mounted into a container.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::{Shared, hosts};
use crate::env::{EnvError, Environment};
use crate::mount::mountinfo;
use crate::mount::tmpfs::{Detached, Options, Size};
use crate::pod::{self, PodId};
use crate::runtime::host_name;
use crate::volume::spec::VolumeKind;
use crate::volume::{VolumeError, protected, spec, sub_path};

/// Room for the messages of one container in the tmpfs of a pod with Secrets: 4 KiB of one are read.
const MESSAGES_BYTES: u64 = 64 * 1024;
/// Its directory, and the files of its present start, the one before and the next.
const MESSAGE_INODES: u64 = 4;
const MESSAGE_PATH_DEFAULT: &str = "/dev/termination-log";

/// Why a container's mounts cannot be made; upstream's words where it has them.
#[derive(Debug, thiserror::Error)]
pub(super) enum MountError {
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    NoVolume { volume: String, container: String },
    #[error(
        "failed to prepare subPath for volumeMount {volume:?} of container {container:?}: {cause}"
    )]
    SubPath { volume: String, container: String, cause: io::Error },
    #[error("failed to mount volume {volume:?}: {error}")]
    HostPath { volume: String, error: VolumeError },
    #[error("failed to prepare the container's files: {0}")]
    Files(io::Error),
    #[error("{0}")]
    Path(#[from] EnvError),
}

/// What the mounts of one container are made from.
pub(super) struct Mounting {
    pub(super) shared: Arc<Shared>,
    pub(super) id: PodId,
    pub(super) pod: Arc<Pod>,
    pub(super) container: Container,
    /// Which start of the container it is.
    pub(super) attempt: u32,
    /// The pod's addresses.
    pub(super) ips: Vec<String>,
    pub(super) environment: Arc<Environment>,
}

impl Mounting {
    /// All mounts of the container. Files are written and mounted on a thread that may block.
    pub(super) async fn mounts(self) -> Result<Vec<cri::Mount>, MountError> {
        let made = tokio::task::spawn_blocking(move || mounts(&self)).await;
        made.unwrap_or_else(|error| Err(MountError::Files(io::Error::other(error))))
    }
}

fn mounts(mounting: &Mounting) -> Result<Vec<cri::Mount>, MountError> {
    let Mounting { shared, id, pod, container, attempt, ips, environment } = mounting;
    let volumes: HashMap<_, _> = spec::volumes(pod::spec(pod)).collect();
    let mut mounts = Vec::new();
    for (at, mount) in container.volume_mounts.iter().flatten().enumerate() {
        mounts.push(volume_mount(
            shared,
            (id, pod),
            &volumes,
            container,
            (at, mount),
            environment,
        )?);
    }
    let taken = |path: &str| mounts.iter().any(|mount: &cri::Mount| mount.container_path == path);

    let hosts_file = shared.layout.etc_hosts(id.uid());
    if !taken("/etc/hosts")
        && hosts::write(&hosts_file, pod::spec(pod), &host_name(pod), ips)
            .map_err(MountError::Files)?
    {
        mounts.push(bind(&hosts_file, "/etc/hosts", false));
    }
    let message_path = container.termination_message_path.as_deref();
    let message_path = message_path.filter(|path| !path.is_empty()).unwrap_or(MESSAGE_PATH_DEFAULT);
    let in_memory = spec::uses_secrets(pod::spec(pod));
    let messages = shared.layout.termination_messages(id.uid(), in_memory);
    if in_memory {
        keep_in_memory(&messages, pod::all_containers(pod::spec(pod)).count())
            .map_err(MountError::Files)?;
    }
    let message_file =
        make_message_file(&messages.join(&container.name), *attempt).map_err(MountError::Files)?;
    mounts.push(bind(&message_file, message_path, false));
    Ok(mounts)
}

fn volume_mount(
    shared: &Shared,
    (id, pod): (&PodId, &Pod),
    volumes: &HashMap<&str, VolumeKind<'_>>,
    container: &Container,
    (at, mount): (usize, &VolumeMount),
    environment: &Environment,
) -> Result<cri::Mount, MountError> {
    let name = mount.name.as_str();
    let kind = volumes.get(name).ok_or_else(|| MountError::NoVolume {
        volume: mount.name.clone(),
        container: container.name.clone(),
    })?;
    let mut source = kind.path(&shared.layout, id.uid(), name);
    let path = wanted_sub_path(mount, at, environment)?;
    let target = || shared.layout.sub_path(id.uid(), name, &container.name, at);
    let failed = |cause| {
        let (volume, container) = (mount.name.clone(), container.name.clone());
        MountError::SubPath { volume, container, cause }
    };
    if let VolumeKind::HostPath(host) = &kind
        && !protected::is_granted(pod)
    {
        // What is judged is what is mounted: the runtime gets a place that only root changes.
        let refused = |error| MountError::HostPath { volume: mount.name.clone(), error };
        let opened = shared.protected.open(host, true).map_err(refused)?;
        let mut opened = opened.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        if let Some(path) = path {
            opened = sub_path::resolve(opened, &path, true).map_err(failed)?;
            shared.protected.check(host, opened.as_fd()).map_err(refused)?;
        }
        source = target();
        sub_path::replace(opened.as_fd(), &source).map_err(failed)?;
    } else {
        if let VolumeKind::HostPath(host) = &kind
            && host.type_.as_deref().unwrap_or_default().is_empty()
            && !source.exists()
        {
            // As docker did, and upstream's kubelet does for it.
            fs::create_dir_all(&source).map_err(MountError::Files)?;
        }
        if let Some(path) = path {
            let target = target();
            sub_path::bind(&source, &path, &target, kind.is_writable()).map_err(failed)?;
            source = target;
        }
    }
    let read_only = mount.read_only == Some(true) || !kind.is_writable();
    let mut made = bind(&source, &mount.mount_path, read_only);
    made.propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => cri::MountPropagation::PropagationBidirectional,
        _ => cri::MountPropagation::PropagationPrivate,
    } as i32;
    Ok(made)
}

fn wanted_sub_path(
    mount: &VolumeMount,
    at: usize,
    environment: &Environment,
) -> Result<Option<String>, EnvError> {
    let given = |path: &'_ Option<String>| path.clone().filter(|path| !path.is_empty());
    match (given(&mount.sub_path), given(&mount.sub_path_expr)) {
        (Some(path), _) => Ok(Some(path)),
        (None, Some(expression)) => environment.expand_path(&expression, at).map(Some),
        (None, None) => Ok(None),
    }
}

fn bind(host: &Path, container: &str, readonly: bool) -> cri::Mount {
    cri::Mount {
        host_path: host.to_string_lossy().into_owned(),
        container_path: container.to_owned(),
        readonly,
        ..Default::default()
    }
}

/// Mounts the tmpfs for the messages of a pod with Secrets, unless it is there.
fn keep_in_memory(directory: &Path, containers: usize) -> io::Result<()> {
    if mountinfo::is_mounted(directory)? {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    let containers = u64::try_from(containers).unwrap_or(u64::MAX);
    let size = Size {
        bytes: MESSAGES_BYTES.saturating_mul(containers),
        inodes: Some(MESSAGE_INODES.saturating_mul(containers).saturating_add(1)),
    };
    let tmpfs = Detached::new(Options { size, root_mode: 0o700, exec: false })?;
    Ok(tmpfs.attach(directory)?)
}

/// The container may run as any user, so any may write the message. Those of starts that nothing asks
/// about any more are removed.
fn make_message_file(directory: &Path, attempt: u32) -> io::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir_all(directory)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let of = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if of.is_some_and(|of| of.saturating_add(1) < attempt) {
            fs::remove_file(entry.path())?;
        }
    }
    let path = directory.join(attempt.to_string());
    let file = fs::File::create(&path)?;
    file.set_permissions(fs::Permissions::from_mode(0o666))?;
    Ok(path)
}
