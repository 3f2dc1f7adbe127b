//! The program: `coffer up` for all parts together, and each part alone.
//!
//! It contains what the parts have in common: the command line, the data directory, keys and
//! certificates, kubeconfigs, the order of starting and stopping. What a part does is in its crate.
//! Every failure is reported as one line on standard error and exit status 1; clap rejects an invalid
//! command line with status 2.

mod access;
mod apply;
mod bootstrap;
mod child;
mod cli;
mod client;
mod containerd_log;
mod data_dir;
mod files;
mod hardening;
mod join;
mod kubeconfig;
mod logging;
mod node_identity;
mod node_name;
mod oci_runtime;
mod oom;
mod parts;
mod pki;
mod reach;
mod renewal;
mod report;
mod signals;
mod signing;
mod token_keys;
mod up;

use std::pin::Pin;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Arguments, Verb};

/// Returns the memory of a large request to the system afterwards. The C library's allocator keeps it,
/// because small blocks that stay in use, mostly of the cache, lie between the free ones.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// How long the allocator keeps free memory, in milliseconds. The library's default of a second is long:
/// until then, and until it allocates again, each thread keeps the most that it ever needed. Without any
/// delay each piece of a long list would be allocated from the system again. `MIMALLOC_PURGE_DELAY` in the
/// environment takes precedence.
const KEEP_FREE_MS: std::ffi::c_long = 10;

#[expect(unsafe_code, reason = "the library has no other way")]
fn bound_free_memory() {
    // SAFETY: `mi_option_set_default` must not run concurrently, and there is only one thread yet.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEEP_FREE_MS) };
}

/// Unoptimised builds keep each step of reading a list of pods on the stack, which needs more than the
/// usual 2 MiB. Unused stack takes no memory.
const STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    bound_free_memory();
    let arguments = Arguments::parse();
    logging::start(arguments.verbosity);
    match run(arguments.verb, arguments.verbosity) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coffer: {}", report::one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb, verbosity: u8) -> anyhow::Result<()> {
    if let Verb::Kubelet(options) = &verb
        && let Some(parent) = options.from_up.parent
    {
        child::end_with(parent)?;
    }
    let part: Pin<Box<dyn Future<Output = anyhow::Result<()>>>> = match verb {
        // It executes another program, which would inherit the settings below.
        Verb::OciRuntime(options) => return oci_runtime::run(options),
        Verb::ContainerdLog => return containerd_log::run(),
        Verb::Up(options) => Box::pin(up::run(options, verbosity)),
        Verb::Apiserver(options) => Box::pin(parts::apiserver::run(options)),
        Verb::Scheduler(options) => Box::pin(parts::scheduler(options)),
        Verb::ControllerManager(options) => Box::pin(parts::controller_manager(options)),
        Verb::Kubelet(options) => Box::pin(parts::kubelet::run(options)),
        Verb::BootstrapKubeconfig(options) => Box::pin(bootstrap::bootstrap(options)),
        Verb::RotateTokenKey(options) => Box::pin(async move { token_keys::rotate(&options) }),
        Verb::Apply(options) => Box::pin(apply::run(options)),
    };
    hardening::apply()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build()?;
    runtime.block_on(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the library has no other way")]
    fn the_purge_delay_is_set_by_the_right_option_number() {
        let delay = || {
            // SAFETY: it reads a number.
            unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }
        };
        // The library's default, in milliseconds: a sign that this is the option's number.
        assert_eq!(delay(), 1000);
        bound_free_memory();
        assert_eq!(delay(), KEEP_FREE_MS);
    }
}
