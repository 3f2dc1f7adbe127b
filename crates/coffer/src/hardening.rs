//! Protection of a process that holds secrets: no core dumps, no reading of its memory, no files that others
//! can read.

use anyhow::{Context, Result};
use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};

/// Applies all of it to this process. Only the soft core limit is lowered, so that a container may raise its
/// own.
pub(crate) fn apply() -> Result<()> {
    forbid_reading()?;
    let limit = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: Some(0), ..limit })
        .context("cannot disable core dumps")?;
    umask(Mode::RWXG | Mode::RWXO);
    Ok(())
}

/// Forbids core dumps, and reading the memory by other processes of the same user. Programs that it starts
/// get their own dumpable flag back with `exec`.
pub(crate) fn forbid_reading() -> Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("cannot make this process non-dumpable")
}
