//! Host paths that only pods with a mark of the API server reach: the machine's own directories.
//!
//! A path is opened once, and what was opened is judged and mounted: whatever links lie on the way
//! or are put there meanwhile, nothing is resolved a second time. Judged is where it is (as the
//! kernel tells it), and what is mounted there and below it: the same directory may be mounted
//! elsewhere, and a mount below comes along. Links of the kernel's own (`/proc/PID/root`) lead into
//! containers, where paths mean nothing, and are not followed.
//!
//! Pods with the mark may mount anything; for them a path is what it always was.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use coffer_api::host_paths;
use k8s_openapi::api::core::v1::{HostPathVolumeSource, Pod};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::VolumeError;
use crate::mount::mountinfo::{self, Mount};

const OPEN: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
/// What the kubelet makes where a type says so; upstream's modes.
const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// Whether the API server marked a pod as one whose writer may reach protected paths. Of a pod from
/// a manifest the kubelet itself has said so.
pub(crate) fn is_granted(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(host_paths::GRANTED)).is_some_and(|value| value == "true")
}

/// What is protected on this machine.
#[derive(Debug)]
pub(crate) struct Protected {
    /// This kubelet's own, in addition to what every node has.
    own: Vec<PathBuf>,
}

/// A path in a file system, wherever that is mounted.
#[derive(Debug, PartialEq, Eq)]
struct DevicePath {
    device: String,
    path: PathBuf,
}

impl DevicePath {
    fn overlaps(&self, other: &Self) -> bool {
        self.device == other.device && host_paths::overlap(&self.path, &other.path)
    }
}

impl Protected {
    pub(crate) fn new(own: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { own: own.into_iter().collect() }
    }

    /// Opens a host path of a pod without the mark, made where its type says so (and where `make`
    /// says so for one without a type). `None` for one that need not be there and is not.
    pub(crate) fn open(
        &self,
        source: &HostPathVolumeSource,
        make: bool,
    ) -> Result<Option<OwnedFd>, VolumeError> {
        let failed = |cause: io::Error| VolumeError::Io { step: "open the host path", cause };
        let path = Path::new(&source.path);
        let kind = source.type_.as_deref().unwrap_or_default();
        // As it is written, first: whether it exists is not disclosed.
        if host_paths::is_protected(path) {
            return Err(refused(source));
        }
        let found = match follow(path) {
            Ok(found) => found,
            Err(Errno::NOENT) => match kind {
                "" if !make => {
                    self.check_above(source, path)?;
                    return Ok(None);
                }
                "" | "DirectoryOrCreate" | "FileOrCreate" => self.make(source, path, kind)?,
                _ => return Err(super::host::mismatch(source, kind)),
            },
            Err(error) => return Err(failed(error.into())),
        };
        self.check(source, found.as_fd())?;
        let mode = rustix::fs::fstat(&found).map_err(|error| failed(error.into()))?.st_mode;
        super::host::check_type(source, kind, FileType::from_raw_mode(mode))?;
        Ok(Some(found))
    }

    /// Judges what was opened for a host path.
    pub(crate) fn check(
        &self,
        source: &HostPathVolumeSource,
        found: BorrowedFd<'_>,
    ) -> Result<(), VolumeError> {
        let failed = |cause| VolumeError::Io { step: "judge the host path", cause };
        match self.reaches(found).map_err(failed)? {
            false => Ok(()),
            true => Err(refused(source)),
        }
    }

    fn reaches(&self, found: BorrowedFd<'_>) -> io::Result<bool> {
        let Some(path) = path_of(found)? else { return Ok(true) };
        if host_paths::is_protected(&path) {
            return Ok(true);
        }
        let mounts = mountinfo::read()?;
        let Some(shown_path) = device_path_of(found, &path, &mounts)? else { return Ok(true) };
        // What is mounted below comes along.
        let below = mounts.iter().filter(|mount| mount.target.starts_with(&path));
        let mut shown = vec![shown_path];
        for mount in below {
            if mount.fs_type == "proc" {
                return Ok(true);
            }
            shown.push(DevicePath { device: mount.device.clone(), path: mount.root.clone() });
        }
        if self.is_proc(found)? {
            return Ok(true);
        }
        for protected in self.places() {
            if host_paths::overlap(&path, &protected) {
                return Ok(true);
            }
            let opened = match follow(&protected) {
                Ok(opened) => opened,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(error) => return Err(error.into()),
            };
            let Some(real) = path_of(opened.as_fd())? else { continue };
            if host_paths::overlap(&path, &real) {
                return Ok(true);
            }
            let hidden = device_path_of(opened.as_fd(), &real, &mounts)?;
            if hidden.is_some_and(|hidden| shown.iter().any(|shown| shown.overlaps(&hidden))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All that is protected: this kubelet's own, what every node has, Coffer's directories in /run.
    fn places(&self) -> Vec<PathBuf> {
        let mut places = self.own.clone();
        let everywhere = host_paths::PROTECTED.iter().filter(|path| **path != "/proc");
        places.extend(everywhere.map(PathBuf::from));
        let run = fs::read_dir("/run").into_iter().flatten().flatten().map(|entry| entry.path());
        places.extend(run.filter(|path| host_paths::is_protected(path)));
        places
    }

    fn is_proc(&self, found: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(rustix::fs::fstatfs(found)?.f_type == rustix::fs::PROC_SUPER_MAGIC)
    }

    /// Makes what a type says should be there, below what is there.
    fn make(
        &self,
        source: &HostPathVolumeSource,
        path: &Path,
        kind: &str,
    ) -> Result<OwnedFd, VolumeError> {
        let failed = |cause: io::Error| VolumeError::Io { step: "prepare the host path", cause };
        let (above, missing) = self.check_above(source, path)?;
        let is_file = kind == "FileOrCreate";
        if is_file && missing.len() > 1 {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        let make = |above, name: &OsStr| match is_file {
            true => make_file(above, name),
            false => make_directory(above, name),
        };
        let mut last = above;
        for name in &missing {
            last = make(last, name).map_err(|error| failed(error.into()))?;
        }
        // Read as a path only, as what was there already is.
        let held = format!("/proc/self/fd/{}", last.as_raw_fd());
        let opened = rustix::fs::open(&held, OPEN, Mode::empty());
        opened.map_err(|error| failed(error.into()))
    }

    /// The nearest directory that is there, and the names below it that are not. It may have
    /// something protected in it, and must not lie within.
    fn check_above(
        &self,
        source: &HostPathVolumeSource,
        path: &Path,
    ) -> Result<(OwnedFd, Vec<std::ffi::OsString>), VolumeError> {
        let failed = |cause: io::Error| VolumeError::Io { step: "open the host path", cause };
        let (mut above, mut missing) = (path.to_owned(), Vec::new());
        let found = loop {
            let Some(Component::Normal(name)) = above.components().next_back() else {
                return Err(refused(source));
            };
            missing.insert(0, name.to_owned());
            above = above.parent().map(Path::to_owned).unwrap_or_default();
            match follow(&above) {
                Ok(found) => break found,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(failed(error.into())),
            }
        };
        // What is not there yet holds nothing: it is judged as if it were there.
        let is_within = || -> io::Result<bool> {
            let Some(real) = path_of(found.as_fd())? else { return Ok(true) };
            let wanted = real.join(missing.iter().collect::<PathBuf>());
            let lies = |protected: &Path| wanted.starts_with(protected);
            let mounts = mountinfo::read()?;
            let Some(shown_path) = device_path_of(found.as_fd(), &real, &mounts)? else {
                return Ok(true);
            };
            if host_paths::is_protected(&wanted) || self.is_proc(found.as_fd())? {
                return Ok(true);
            }
            for protected in self.places() {
                let Ok(opened) = follow(&protected) else {
                    if lies(&protected) {
                        return Ok(true);
                    }
                    continue;
                };
                let Some(at) = path_of(opened.as_fd())? else { continue };
                let own = device_path_of(opened.as_fd(), &at, &mounts)?;
                let same = own.is_some_and(|own| {
                    own.device == shown_path.device && shown_path.path.starts_with(&own.path)
                });
                if lies(&protected) || lies(&at) || same {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        match is_within().map_err(failed)? {
            true => Err(refused(source)),
            false => Ok((found, missing)),
        }
    }
}

fn refused(source: &HostPathVolumeSource) -> VolumeError {
    VolumeError::ProtectedHostPath(source.path.clone())
}

/// Opens a path, by links that users make and none of the kernel's.
fn follow(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(CWD, path, OPEN, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
}

/// Makes a directory, and refuses a link in its place.
fn make_directory(above: OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error),
    };
    let opened = rustix::fs::openat(&above, name, flags, Mode::empty())?;
    if made {
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(DIRECTORY_MODE))?;
    }
    Ok(opened)
}

/// Makes a file where nothing is, not even a link that leads nowhere.
fn make_file(above: OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(&above, name, flags, Mode::from_raw_mode(FILE_MODE))?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(FILE_MODE))?;
    Ok(made)
}

/// Where something that is open is; `None` for what has no path here (any more).
fn path_of(found: BorrowedFd<'_>) -> io::Result<Option<PathBuf>> {
    let path = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    let is_gone = path.as_os_str().as_encoded_bytes().ends_with(b" (deleted)");
    Ok((path.is_absolute() && !is_gone).then_some(path))
}

/// Where in its file system something is; `None` where the kernel's list has no such mount.
fn device_path_of(
    found: BorrowedFd<'_>,
    path: &Path,
    mounts: &[Mount],
) -> io::Result<Option<DevicePath>> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", found.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
    let id: Option<u64> = id.and_then(|id| id.parse().ok());
    let Some(mount) = mounts.iter().find(|mount| Some(mount.id) == id) else { return Ok(None) };
    let Ok(below) = path.strip_prefix(&mount.target) else { return Ok(None) };
    Ok(Some(DevicePath { device: mount.device.clone(), path: mount.root.join(below) }))
}

#[cfg(test)]
mod tests;
