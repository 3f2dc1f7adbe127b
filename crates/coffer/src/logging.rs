//! The log, on standard error: by default warnings and errors only.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The environment variable for a filter in `tracing`'s syntax, for example to debug a single module.
const VARIABLE: &str = "COFFER_LOG";

/// Starts logging for the process.
pub(crate) fn start(verbosity: u8) {
    let default = match verbosity {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    // At debug level the libraries print whole requests, so they stay at info.
    let quiet =
        if verbosity > 1 { ",hyper=info,h2=info,kube=info,rustls=info,tower=info" } else { "" };
    let filter = EnvFilter::try_from_env(VARIABLE)
        .unwrap_or_else(|_| EnvFilter::new(format!("{default}{quiet}")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    std::panic::set_hook(Box::new(report_panic));
}

/// Logs where a panic was. Its message is logged only if it is a constant of the program: others may quote
/// data.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("panic");
    tracing::error!(place, "{message}");
}
