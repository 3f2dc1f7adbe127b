//! Unmounting all of a pod's.

use std::io;
use std::path::Path;

pub(crate) use coffer_wire::mountinfo::{Mount, is_mounted, read};
use rustix::mount::{MountPropagationFlags, UnmountFlags};

/// Unmounts everything at and below `directory`, last mounted first, and nothing anywhere else.
pub(crate) fn unmount_below(directory: &Path) -> io::Result<()> {
    let mounts = read()?;
    let below = || mounts.iter().rev().filter(|mount| mount.target.starts_with(directory));
    // A copy of a directory of the host's would take along what is mounted below the original.
    for mount in below() {
        let _ = rustix::mount::mount_change(&mount.target, MountPropagationFlags::PRIVATE);
    }
    for mount in below() {
        match rustix::mount::unmount(&mount.target, UnmountFlags::NOFOLLOW) {
            // Done already: nothing is mounted there, or the path no longer exists.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => {
                let path = mount.target.display();
                return Err(io::Error::new(
                    io::Error::from(error).kind(),
                    format!("unmount {path}: {error}"),
                ));
            }
        }
    }
    Ok(())
}
