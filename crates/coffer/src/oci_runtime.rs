//! `coffer oci-runtime`: a container runtime calls it instead of runc, so that it gets placeholders and not
//! the values of Secrets.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgAction, Args};
use coffer_kubelet::OciRuntime;

use crate::hardening;

#[derive(Debug, Args)]
pub(crate) struct OciRuntimeOptions {
    /// The root directory of a kubelet whose pods this runtime runs. May be repeated.
    #[arg(long, value_name = "DIR", action = ArgAction::Append, required = true)]
    root_dir: Vec<PathBuf>,
    /// The OCI runtime to execute, such as /usr/sbin/runc, with its arguments.
    #[arg(
        value_name = "RUNTIME",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true
    )]
    call: Vec<OsString>,
}

/// Executes the real runtime. Containers get the caller's limits and umask: this process protects itself
/// only with what `exec` reverts.
pub(crate) fn run(options: OciRuntimeOptions) -> Result<()> {
    hardening::forbid_reading()?;
    let mut call = options.call.into_iter();
    let program = PathBuf::from(call.next().unwrap_or_default());
    let runtime = OciRuntime { root_dirs: options.root_dir, program };
    Err(runtime.run(call.collect()).into())
}
