//! `coffer oci-runtime`: what a container runtime calls in runc's place, so that it need not be told
//! what comes from Secrets.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgAction, Args};
use coffer_kubelet::OciRuntime;

use crate::hardening;

#[derive(Debug, Args)]
pub(crate) struct OciRuntimeOptions {
    /// The root directory of a kubelet whose pods are run. May be repeated.
    #[arg(long, value_name = "DIR", action = ArgAction::Append, required = true)]
    root_dir: Vec<PathBuf>,
    /// The OCI runtime that does the work, such as /usr/sbin/runc, and what it is called with.
    #[arg(
        value_name = "RUNTIME",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true
    )]
    call: Vec<OsString>,
}

/// Becomes the real runtime. The containers' own limits and masks are those of the caller: of what
/// this process is closed by, only what `exec` takes back is used.
pub(crate) fn run(options: OciRuntimeOptions) -> Result<()> {
    hardening::forbid_reading()?;
    let mut call = options.call.into_iter();
    let program = PathBuf::from(call.next().unwrap_or_default());
    let runtime = OciRuntime { root_dirs: options.root_dir, program };
    Err(runtime.run(call.collect()).into())
}
