//! The program: `coffer up` for all parts together, and each part alone.
//!
//! It answers for what the parts have in common: the command line, the data directory, keys and
//! certificates, kubeconfigs, the order of starting and ending. What a part does is its crate's.
//! Every failure leaves as one line on standard error and exit status 1; a command line that makes
//! no sense is clap's to refuse, with status 2.

mod access;
mod apply;
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
mod signals;
mod up;

use std::pin::Pin;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Arguments, Verb};

/// What a large request took goes back to the system afterwards. The C library's allocator keeps it:
/// small blocks that live on, of the cache above all, lie between those that are free.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// How long the allocator keeps memory that is free, in milliseconds. The library's second is long: until
/// then, and until it allocates again, each thread keeps the most that it ever needed. Without any delay
/// each piece of a long list would be fetched from the system anew. `MIMALLOC_PURGE_DELAY` in the
/// environment goes before it.
const KEEP_FREE_MS: std::ffi::c_long = 10;

#[expect(unsafe_code, reason = "the library has no other way")]
fn bound_free_memory() {
    // SAFETY: `mi_option_set_default` must not run beside itself, and there is one thread yet.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEEP_FREE_MS) };
}

/// Unoptimised builds keep each step of reading a list of pods on the stack, which takes more than
/// the usual 2 MiB. What of it is not used is not memory.
const STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    bound_free_memory();
    let arguments = Arguments::parse();
    logging::start(arguments.verbosity);
    match run(arguments.verb, arguments.verbosity) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coffer: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb, verbosity: u8) -> anyhow::Result<()> {
    if let Verb::Kubelet(options) = &verb
        && let Some(parent) = options.beside.parent
    {
        child::end_with(parent)?;
    }
    let part: Pin<Box<dyn Future<Output = anyhow::Result<()>>>> = match verb {
        // It becomes another program, which inherits what would be set here.
        Verb::OciRuntime(options) => return oci_runtime::run(options),
        Verb::ContainerdLog => return containerd_log::run(),
        Verb::Up(options) => Box::pin(up::run(options, verbosity)),
        Verb::Apiserver(options) => Box::pin(parts::apiserver::run(options)),
        Verb::Scheduler(options) => Box::pin(parts::scheduler(options)),
        Verb::ControllerManager(options) => Box::pin(parts::controller_manager(options)),
        Verb::Kubelet(options) => Box::pin(parts::kubelet::run(options)),
        Verb::BootstrapKubeconfig(options) => Box::pin(join::bootstrap(options)),
        Verb::RotateTokenKey(options) => Box::pin(async move { access::rotate(&options) }),
        Verb::Apply(options) => Box::pin(apply::run(options)),
    };
    hardening::apply()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build()?;
    runtime.block_on(part)
}

/// An error with its causes. A cause that its parent quotes already is not said twice.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let words = cause.to_string();
        if text.is_empty() {
            text = words;
        } else if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the library has no other way")]
    fn the_option_that_is_set_is_the_one_that_is_meant() {
        let delay = || {
            // SAFETY: it reads a number.
            unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }
        };
        // The library's default, in milliseconds: a sign that this is the option's number.
        assert_eq!(delay(), 1000);
        bound_free_memory();
        assert_eq!(delay(), KEEP_FREE_MS);
    }

    #[test]
    fn an_error_is_one_line_that_says_each_thing_once() {
        let cause = std::io::Error::other("disk is full");
        let error =
            anyhow::Error::new(cause).context("store: disk is full").context("cannot\nstart");
        assert_eq!(one_line(&error), "cannot start: store: disk is full");
    }
}
