//! A tmpfs that is not visible before it is filled.
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

/// tmpfs accounts in pages of this size.
pub(crate) const PAGE_BYTES: u64 = 4096;

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
/// without it and that is said once, because a machine without swap loses nothing by it.
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
