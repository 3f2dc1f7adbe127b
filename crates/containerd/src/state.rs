//! The daemon's run-time state, kept in memory.
//!
//! containerd writes each container's configuration there, including environment variables that come from
//! secrets. On most machines /run is a tmpfs, which may be swapped out; on some it is a disk. Therefore the
//! state has its own tmpfs, which is removed by [`stop_with_pods`](crate::stop_with_pods) or at a reboot, like
//! the containers.

use std::ffi::CStr;
use std::fs;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use crate::error::Error;
use crate::layout::Layout;
use crate::mounts;

/// Mounts the tmpfs, unless there already is state, which belongs to running pods.
pub(crate) fn keep_in_memory(layout: &Layout) -> Result<(), Error> {
    let state = layout.state();
    fs::create_dir_all(&state).map_err(Error::file("create directory", &state))?;
    let mut entries = fs::read_dir(&state).map_err(Error::file("list", &state))?;
    if entries.next().is_some() || mounts::below(&state)?.contains(&state) {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let tmpfs = |options: &CStr| mount("tmpfs", &state, "tmpfs", flags, options);
    let mounted = match tmpfs(c"mode=700,noswap") {
        // Kernels before 6.4 do not support it.
        Err(Errno::INVAL) => tmpfs(c"mode=700"),
        mounted => mounted,
    };
    mounted.map_err(|errno| Error::file("mount a tmpfs at", &state)(errno.into()))
}
