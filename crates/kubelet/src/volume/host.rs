//! `hostPath` and `emptyDir`: volumes whose content is not ours.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource};

use rustix::fs::{FileType, Gid};

use super::VolumeError;
use super::writer::Ownership;
use crate::mount::mountinfo;
use crate::mount::tmpfs::{Detached, Options, Size};
use crate::quantity;

/// Everybody may write into an `emptyDir`.
const EMPTY_DIR_MODE: u32 = 0o777;

/// Checks a `hostPath` against its type, and creates it where the type says so. For pods that may
/// mount anything; for others see [`super::protected`].
pub(crate) fn host_path(source: &HostPathVolumeSource) -> Result<(), VolumeError> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let failed = |cause: io::Error| VolumeError::Io { step: "prepare the host path", cause };
    match kind {
        "DirectoryOrCreate" if !path.exists() => {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
            return made.and_then(|()| open_to_all(path, 0o755)).map_err(failed);
        }
        "FileOrCreate" if !path.exists() => {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o644);
            let made = options.open(path).and_then(|_| open_to_all(path, 0o644));
            return made.map_err(failed);
        }
        _ => {}
    }
    if kind.is_empty() {
        return Ok(());
    }
    match fs::metadata(path) {
        Ok(found) => check_type(source, kind, FileType::from_raw_mode(found.mode())),
        Err(_) => Err(mismatch(source, kind)),
    }
}

/// Checks what is at a host path against its type.
pub(super) fn check_type(
    source: &HostPathVolumeSource,
    kind: &str,
    found: FileType,
) -> Result<(), VolumeError> {
    let matches = match kind {
        "" => true,
        "Directory" | "DirectoryOrCreate" => found == FileType::Directory,
        "File" | "FileOrCreate" => found == FileType::RegularFile,
        "Socket" => found == FileType::Socket,
        "CharDevice" => found == FileType::CharacterDevice,
        "BlockDevice" => found == FileType::BlockDevice,
        _ => false,
    };
    if matches { Ok(()) } else { Err(mismatch(source, kind)) }
}

/// What is said where a host path is not what its type says.
pub(super) fn mismatch(source: &HostPathVolumeSource, kind: &str) -> VolumeError {
    let wanted = match kind {
        "Directory" | "DirectoryOrCreate" => "directory",
        "File" | "FileOrCreate" => "file",
        "Socket" => "socket file",
        "CharDevice" => "character device",
        "BlockDevice" => "block device",
        _ => return VolumeError::HostPath(format!("{kind} is an invalid volume type")),
    };
    VolumeError::HostPath(format!("{} is not a {wanted}", source.path))
}

/// Gives what was made the mode that upstream's kubelet gives it, whatever this process' umask.
fn open_to_all(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Makes an `emptyDir` at `path`, or leaves the one that is there.
pub(crate) fn empty_dir(
    source: &EmptyDirVolumeSource,
    path: &Path,
    owner: Ownership,
) -> Result<(), VolumeError> {
    let failed = |cause: io::Error| VolumeError::Io { step: "make the emptyDir", cause };
    fs::create_dir_all(path).map_err(failed)?;
    match source.medium.as_deref() {
        None | Some("") => {}
        Some("Memory") => {
            if !mountinfo::is_mounted(path).map_err(failed)? {
                let size = Size { bytes: memory_limit(source), inodes: None };
                let options = Options { size, root_mode: EMPTY_DIR_MODE, exec: true };
                let tmpfs = Detached::new(options).map_err(|error| failed(error.into()))?;
                tmpfs.attach(path).map_err(|error| failed(error.into()))?;
            }
        }
        Some(_) => return Err(VolumeError::Unsupported),
    }
    own(path, owner).map_err(failed)
}

/// The volume's limit; without one, half of the memory, as the kernel's own default is.
fn memory_limit(source: &EmptyDirVolumeSource) -> u64 {
    let limit = source.size_limit.as_ref().and_then(quantity::value);
    let limit = limit.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
    limit.unwrap_or_else(|| rustix::system::sysinfo().totalram as u64 / 2)
}

fn own(path: &Path, owner: Ownership) -> io::Result<()> {
    let directory = File::open(path)?;
    let mode = match owner.fs_group {
        Some(group) => {
            rustix::fs::fchown(&directory, None, Some(Gid::from_raw(group)))?;
            EMPTY_DIR_MODE | 0o2000
        }
        None => EMPTY_DIR_MODE,
    };
    directory.set_permissions(Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &Path, kind: &str) -> HostPathVolumeSource {
        HostPathVolumeSource {
            path: path.to_string_lossy().into_owned(),
            type_: Some(kind.to_owned()),
        }
    }

    #[test]
    fn a_host_path_must_be_what_its_type_says() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        assert!(host_path(&source(path, "Directory")).is_ok());
        let error = host_path(&source(path, "File")).expect_err("it is a directory");
        let expected = format!("hostPath type check failed: {} is not a file", path.display());
        assert_eq!(error.to_string(), expected);
        assert!(host_path(&source(&path.join("nosuch"), "Directory")).is_err());
        assert!(host_path(&source(&path.join("nosuch"), "")).is_ok());
        assert!(host_path(&source(&path.join("new/dir"), "DirectoryOrCreate")).is_ok());
        assert!(path.join("new/dir").is_dir());
        assert!(host_path(&source(&path.join("file"), "FileOrCreate")).is_ok());
        assert!(path.join("file").is_file());
        assert!(host_path(&source(Path::new("/dev/null"), "CharDevice")).is_ok());
    }

    #[test]
    fn an_empty_dir_keeps_what_is_in_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cache");
        let source = EmptyDirVolumeSource::default();
        empty_dir(&source, &path, Ownership::default()).expect("made");
        fs::write(path.join("kept"), b"x").expect("writable");
        empty_dir(&source, &path, Ownership::default()).expect("made again");
        assert!(path.join("kept").exists());
        let mode = fs::metadata(&path).expect("exists").permissions().mode();
        assert_eq!(mode & 0o7777, 0o777);
    }
}
