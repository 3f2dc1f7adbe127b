//! What the process gives up because it holds secrets: core dumps, being read by others, files
//! that others can read.

use anyhow::{Context, Result};
use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};

/// Applies all of it to this process. Of the core limit only the soft one is lowered, so that a
/// container may raise its own.
pub(crate) fn apply() -> Result<()> {
    forbid_reading()?;
    let limit = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: Some(0), ..limit })
        .context("cannot switch core dumps off")?;
    umask(Mode::RWXG | Mode::RWXO);
    Ok(())
}

/// No core dump, and no reading of the memory by others of the same user. Programs it starts get
/// their own dumpable flag back from `exec`.
pub(crate) fn forbid_reading() -> Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("cannot keep this process from being dumped")
}
