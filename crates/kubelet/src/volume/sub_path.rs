//! `subPath` mounts: one file or directory of a volume.
//!
//! The path is resolved by the kernel so that it cannot leave the volume, whatever links a
//! container has put there, and what it resolved to is bind-mounted to a place of the kubelet's
//! own. The runtime gets that place: resolving the path a second time could end elsewhere.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree,
};

use crate::mount::mountinfo;

/// Binds `volume/path` to `target`. A path that does not exist becomes a directory if the volume
/// is writable.
pub(crate) fn bind(volume: &Path, path: &str, target: &Path, writable: bool) -> io::Result<()> {
    if mountinfo::is_mounted(target)? {
        return Ok(());
    }
    let root = rustix::fs::open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    attach(resolve(root, path, writable)?.as_fd(), target, OpenTreeFlags::empty())
}

/// Mounts what is open at `target`, with what is mounted below it, in place of what was mounted
/// there before. What happens to mounts there afterwards happens nowhere else.
pub(crate) fn replace(source: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    if mountinfo::is_mounted(target)? {
        rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?;
    }
    attach(source, target, OpenTreeFlags::AT_RECURSIVE)?;
    let follows = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change(target, follows)?)
}

fn attach(source: BorrowedFd<'_>, target: &Path, more: OpenTreeFlags) -> io::Result<()> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(source)?.st_mode);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    // What was there before may have been of the other kind.
    if kind == FileType::Directory {
        if target.is_file() {
            fs::remove_file(target)?;
        }
        fs::create_dir_all(target)?;
    } else {
        if target.is_dir() {
            fs::remove_dir(target)?;
        }
        fs::OpenOptions::new().create(true).truncate(false).write(true).open(target)?;
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | more;
    let tree = open_tree(source, "", flags)?;
    move_mount(tree.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// What `path` leads to below a volume's root, and nowhere else.
pub(crate) fn resolve(root: OwnedFd, path: &str, writable: bool) -> io::Result<OwnedFd> {
    const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
    const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat2(&root, path, flags, Mode::empty(), RESOLVE) {
        Err(Errno::NOENT) if writable => {}
        result => return Ok(result?),
    }
    // What is made is as open as the volume itself.
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&root)?.st_mode & 0o7777);
    let mut directory = root;
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let made = match rustix::fs::mkdirat(&directory, part, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        directory = rustix::fs::openat2(&directory, part, DIRECTORY, Mode::empty(), RESOLVE)?;
        if made {
            rustix::fs::fchmod(&directory, mode)?;
        }
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_out_of_the_volume_is_not_followed() {
        let volume = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink("/etc", volume.path().join("out")).expect("linked");
        fs::create_dir(volume.path().join("in")).expect("made");
        std::os::unix::fs::symlink("in", volume.path().join("link")).expect("linked");
        let root = || rustix::fs::open(volume.path(), OFlags::PATH, Mode::empty()).expect("there");
        let at = |path: &str, writable: bool| resolve(root(), path, writable);
        assert!(at("out", true).is_err());
        assert!(at("../x", true).is_err());
        assert!(at("link", false).is_ok());
        assert!(at("new/dir", false).is_err());
        assert!(at("new/dir", true).is_ok());
        assert!(volume.path().join("new/dir").is_dir());
    }
}
