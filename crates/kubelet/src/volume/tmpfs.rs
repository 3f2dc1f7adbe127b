//! A tmpfs that no one sees before it is filled.
//!
//! It is made detached with the kernel's mount API, filled through its descriptor, and attached
//! with one `move_mount`. So a mount found at a volume's path is complete by construction, also
//! after a crash: what was not attached vanishes with the process that held it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::{self, Errno};
use rustix::mount::{self, FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags};

use super::payload::Payload;

/// tmpfs accounts in pages of this size.
const PAGE_BYTES: u64 = 4096;

/// What a file of so many bytes takes.
pub(crate) fn in_pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_BYTES) * PAGE_BYTES
}

/// How much a tmpfs may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    /// Files, directories and links; `None` leaves the kernel's default.
    pub(crate) inodes: Option<u64>,
}

impl Size {
    /// Room for exactly this payload in the writer's layout.
    pub(crate) fn of(payload: &Payload<'_>) -> Self {
        let mut pages = 0;
        let mut directories = std::collections::BTreeSet::new();
        let mut links = std::collections::BTreeSet::new();
        for (path, file) in &payload.files {
            pages += (file.bytes.len() as u64).div_ceil(PAGE_BYTES);
            links.insert(path.first());
            let mut parent = path.parent();
            while let Some(directory) = parent {
                directories.insert(directory);
                parent = directory.rsplit_once('/').map(|(parent, _)| parent);
            }
        }
        // Long link targets take a page each. The constants: the root, the version's directory,
        // `..data` and the link that is renamed over it.
        let long_links = links.iter().filter(|name| name.len() > 100).count() as u64;
        let inodes = payload.files.len() + directories.len() + links.len() + 4;
        // Zero would mean "no limit".
        Self { bytes: (pages + long_links).max(1) * PAGE_BYTES, inodes: Some(inodes as u64) }
    }
}

impl std::ops::Add for Size {
    type Output = Self;

    /// Room for both, as while one takes the other's place.
    fn add(self, other: Self) -> Self {
        let inodes = self.inodes.zip(other.inodes).map(|(one, other)| one + other);
        Self { bytes: self.bytes + other.bytes, inodes }
    }
}

/// What else a tmpfs should be; the defaults are for secrets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) size: Size,
    pub(crate) root_mode: u32,
    /// Whether programs on it may be executed (`emptyDir` with medium Memory).
    pub(crate) exec: bool,
}

/// A tmpfs on its way to a mount point.
pub(crate) struct Detached(OwnedFd);

impl Detached {
    pub(crate) fn new(options: Options) -> io::Result<Self> {
        let fs = mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        mount::fsconfig_set_string(fs.as_fd(), "source", "tmpfs")?;
        configure_size(fs.as_fd(), options.size)?;
        mount::fsconfig_set_string(fs.as_fd(), "mode", format!("{:o}", options.root_mode))?;
        forbid_swap(fs.as_fd())?;
        mount::fsconfig_create(fs.as_fd())?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        if !options.exec {
            attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
        }
        let mount = mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        Ok(Self(mount))
    }

    /// The root directory, for writing into. (The mount's own descriptor is an `O_PATH` one.)
    pub(crate) fn root(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, ".", flags, Mode::empty())
    }

    /// Makes it visible at `target`, an existing directory.
    pub(crate) fn attach(self, target: &Path) -> io::Result<()> {
        mount::move_mount(self.0.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    }
}

/// Changes how much the tmpfs at `target` may hold.
pub(crate) fn resize(target: &Path, size: Size) -> io::Result<()> {
    let fs = mount::fspick(CWD, target, FsPickFlags::FSPICK_CLOEXEC)?;
    configure_size(fs.as_fd(), size)?;
    // Said again: a remount that leaves it out asks for swap back, and is refused.
    forbid_swap(fs.as_fd())?;
    mount::fsconfig_reconfigure(fs.as_fd())
}

/// Takes back room that is not needed any more. That what is left open of an old version (by a
/// `subPath` mount, say) still needs some is not an error.
pub(crate) fn shrink(target: &Path, size: Size) {
    if let Err(error) = resize(target, size) {
        tracing::debug!(volume = %target.display(), %error, "volume keeps its larger size");
    }
}

/// Whether an open file or directory is in memory.
pub(crate) fn holds(file: impl AsFd) -> io::Result<bool> {
    const TMPFS_MAGIC: u32 = 0x0102_1994;
    Ok(rustix::fs::fstatfs(file)?.f_type as u32 == TMPFS_MAGIC)
}

/// How much the tmpfs at `target` holds now.
pub(crate) fn used(target: &Path) -> io::Result<Size> {
    let found = rustix::fs::statvfs(target)?;
    let bytes = (found.f_blocks - found.f_bfree) * found.f_frsize;
    Ok(Size { bytes, inodes: Some(found.f_files - found.f_ffree) })
}

fn configure_size(fs: BorrowedFd<'_>, size: Size) -> io::Result<()> {
    mount::fsconfig_set_string(fs, "size", size.bytes.to_string())?;
    match size.inodes {
        Some(inodes) => mount::fsconfig_set_string(fs, "nr_inodes", inodes.to_string()),
        None => Ok(()),
    }
}

/// Keeps the pages out of swap. Kernels before 6.4 do not know `noswap`: there the volume is made
/// without it and that is said once, because a machine without swap is no worse off.
fn forbid_swap(fs: BorrowedFd<'_>) -> io::Result<()> {
    static SAID: AtomicBool = AtomicBool::new(false);
    match mount::fsconfig_set_flag(fs, "noswap") {
        Err(Errno::INVAL) => {
            if !SAID.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "this kernel's tmpfs does not know noswap: secret volumes may be swapped out"
                );
            }
            Ok(())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::volume::mountinfo;
    use crate::volume::writer::{self, Ownership};

    fn big() -> Vec<u8> {
        (0..1024 * 1024_u32).map(|at| at.to_le_bytes()[0]).collect()
    }

    #[test]
    fn a_volume_is_whole_when_it_appears_and_has_room_for_no_more() {
        if !rustix::process::geteuid().is_root() {
            return; // Mounting takes root.
        }
        let bytes = big();
        let mut payload = Payload::default();
        payload.add("big", 0o644, Cow::Borrowed(&bytes)).expect("valid path");
        payload.add("empty", 0o644, Cow::Borrowed(b"")).expect("valid path");
        payload.add("deep/er/file", 0o600, Cow::Borrowed(b"x")).expect("valid path");
        let directory = tempfile::tempdir().expect("a directory");
        let size = Size::of(&payload);
        let tmpfs = Detached::new(Options { size, root_mode: 0o755, exec: false }).expect("made");
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
    }
}
