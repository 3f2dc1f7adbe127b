//! The daemon's run-time state, kept in memory.
//!
//! containerd writes there what it gives each container, environment variables made from secrets
//! among it. On most machines /run is a tmpfs, which may be swapped out; on some it is a disk. So
//! the state has a tmpfs of its own, which goes with [`stop_with_pods`](crate::stop_with_pods) or
//! with the machine, as the containers do.

use std::ffi::CStr;
use std::fs;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use crate::{Error, Layout, mounts};

/// Mounts the tmpfs, unless there is state already: it belongs to pods that run.
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
        // Kernels before 6.4 do not know it.
        Err(Errno::INVAL) => tmpfs(c"mode=700"),
        mounted => mounted,
    };
    mounted.map_err(|errno| Error::file("mount a tmpfs at", &state)(errno.into()))
}
