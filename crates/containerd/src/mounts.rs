//! The mounts below a directory, and their removal.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coffer_wire::mountinfo::{self, Mount};
use rustix::mount::{UnmountFlags, unmount};

use crate::error::Error;

/// The mount points at or below `directory`, newest first: the order to unmount them in.
///
/// # Errors
/// When the kernel's table cannot be read.
pub fn below(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let table = mountinfo::read().map_err(Error::file("read", "/proc/self/mountinfo"))?;
    let targets = table.into_iter().rev().map(|mount| mount.target);
    Ok(targets.filter(|target| target.starts_with(directory)).collect())
}

/// Unmounts everything at or below `directory`, busy or not.
///
/// # Errors
/// The first mount that cannot be unmounted; the others have been tried.
pub fn unmount_below(directory: &Path) -> Result<(), Error> {
    let mut outcome = Ok(());
    for point in below(directory)? {
        if let Err(errno) = unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            outcome = outcome.and(Err(Error::file("unmount", point)(errno.into())));
        }
    }
    outcome
}

/// Whether the root directory of process `pid` is a snapshot of a containerd whose persistent state
/// is in `directory`: then the process is in a container of that containerd, whatever that
/// containerd knows of it.
pub(crate) fn root_is_below(pid: &str, directory: &Path) -> bool {
    let root = |pid: &str| {
        let table = mountinfo::read_of(pid).ok()?;
        table.into_iter().find(|mount| mount.target == Path::new("/"))
    };
    let Some(mount) = root(pid) else { return false };
    // A process with the same root as this one is not in a container, wherever that root is.
    let is_own = root("self").is_some_and(|own| same_directory(&own, &mount));
    !is_own && names(&mount, directory)
}

/// Whether two mounts are of the same directory of the same file system.
fn same_directory(one: &Mount, other: &Mount) -> bool {
    (&one.device, &one.root) == (&other.device, &other.root)
}

/// Whether a mount shows a path below `directory`: as the directory that is mounted, or among an
/// overlay's.
fn names(mount: &Mount, directory: &Path) -> bool {
    let is_below = |path: &Path| path != directory && path.starts_with(directory);
    let options = mount.super_options.as_bytes();
    let mut parts = options.split(|byte| b",=:".contains(byte)).map(OsStr::from_bytes);
    is_below(&mount.root) || parts.any(|part| is_below(Path::new(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_what_its_root_is_made_of() {
        let parse = |line: &[u8]| mountinfo::parse(line).expect("a mount");
        let overlay = parse(br"609 570 0:62 / / rw - overlay overlay rw,lowerdir=/l/a:/l/b,upperdir=/my\040data/root/snapshots/4/fs,workdir=/w");
        let native = parse(b"609 570 254:0 /data/root/snapshots/4 / rw - ext4 /dev/vda rw");
        assert!(names(&overlay, Path::new("/my data/root")));
        assert!(names(&overlay, Path::new("/l")));
        assert!(!names(&overlay, Path::new("/data/root")));
        assert!(!names(&overlay, Path::new("/my data/roo")));
        assert!(names(&native, Path::new("/data/root")));
        assert!(!names(&native, Path::new("/root")));
        assert!(same_directory(&native, &native) && !same_directory(&native, &overlay));
        assert!(!root_is_below("self", Path::new("/")));
    }

    #[test]
    fn a_neighbour_whose_name_begins_alike_is_not_below() {
        let proc = below(Path::new("/proc")).unwrap();
        assert!(proc.contains(&PathBuf::from("/proc")));
        assert!(below(Path::new("/pro")).unwrap().is_empty());
    }
}
