//! The log, on standard error: by default warnings and errors only.
//!
//! What is written is one line for each event, and of Coffer's own crates. Libraries print what they work
//! with: kube, for one, a whole response that it cannot decode, which may be a list of secrets. So their
//! events pass a fixed list ([`LIBRARIES`]), which no flag and no environment variable widens.

use std::io::{self, IsTerminal, Write};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

/// The environment variable for a filter in `tracing`'s syntax, for example to debug a single module.
const VARIABLE: &str = "COFFER_LOG";

/// Libraries whose warnings and errors are logged. Those were read and name no header's value of a request,
/// no body and no credential; below that level they print frames, headers and bytes. Any other library is
/// not logged at all.
const LIBRARIES: [&str; 4] = ["h2", "hyper", "hyper_util", "rustls"];

/// Starts logging for the process.
pub(crate) fn start(verbosity: u8) {
    let default = match verbosity {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    subscriber(filter, io::stderr, io::stderr().is_terminal()).init();
    std::panic::set_hook(Box::new(report_panic));
}

/// What takes events to `writer`: those that `filter` and [`is_logged`] both let through.
fn subscriber<W>(filter: EnvFilter, writer: W, ansi: bool) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(OneLine(writer)).with_ansi(ansi);
    registry().with(filter).with(filter_fn(is_logged)).with(lines)
}

/// Whether events of a crate may be logged at a level, whatever the filter says.
fn is_logged(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let origin = target.split_once("::").map_or(target, |(origin, _)| origin);
    let own = origin == "coffer" || origin.starts_with("coffer_");
    own || (LIBRARIES.contains(&origin) && *metadata.level() <= Level::WARN)
}

/// Logs where a panic was. Its message is logged only if it is a constant of the program: others may quote
/// data.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("panic");
    tracing::error!(place, "{message}");
}

/// Keeps each event on one line: control characters in what an event says are escaped, so that a name with
/// a line break in it does not look like another event.
struct OneLine<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLine<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        OneLine(self.0.make_writer_for(metadata))
    }
}

impl<W: Write> Write for OneLine<W> {
    /// Takes a whole event, as the formatting layer writes it.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = event.strip_suffix(b"\n").unwrap_or(event);
        let mut text = String::with_capacity(event.len());
        for character in String::from_utf8_lossy(line).chars() {
            // The escape character begins the colours of a terminal; the layer escapes those of others.
            match character {
                '\u{1b}' | '\t' => text.push(character),
                '\u{2028}' | '\u{2029}' => text.extend(character.escape_unicode()),
                _ if character.is_control() => text.extend(character.escape_default()),
                _ => text.push(character),
            }
        }
        text.push('\n');
        self.0.write_all(text.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Secret;
    use kube::api::ListParams;
    use kube::client::Body;
    use kube::{Api, Client};
    use parking_lot::Mutex;

    use super::*;

    /// A log in memory.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }

        /// A log of all that the filter lets through.
        fn of(filter: &str) -> (Self, impl Subscriber + Send + Sync + use<>) {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = subscriber(EnvFilter::new(filter), move || writer.clone(), false);
            (log, subscriber)
        }
    }

    #[tokio::test]
    async fn a_response_that_does_not_decode_is_logged_with_no_filter() {
        for filter in ["trace", "kube_client=trace,coffer=warn", "kube_client::client=warn"] {
            let (log, subscriber) = Log::of(filter);
            let _logging = tracing::subscriber::set_default(subscriber);
            let service = tower::service_fn(|_: http::Request<Body>| async {
                let body = br#"{"kind":"SecretList","items":[{"data":"hunter2"}]}"#;
                Ok::<_, Infallible>(http::Response::new(Body::from(body.to_vec())))
            });
            let secrets: Api<Secret> = Api::all(Client::new(service, "default"));
            let failed = secrets.list(&ListParams::default()).await;
            assert!(matches!(failed, Err(kube::Error::SerdeError(_))), "{failed:?}");
            assert!(!log.text().contains("hunter2"), "{filter}: {}", log.text());
        }
    }

    #[test]
    fn libraries_are_logged_as_far_as_the_list_says() {
        let (log, subscriber) = Log::of("trace");
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "kube_client::client", "hidden 1");
            tracing::warn!(target: "kube_runtime::watcher", "hidden 2");
            tracing::error!(target: "tower::buffer", "hidden 3");
            tracing::info!(target: "hyper::proto::h1", "hidden 4");
            tracing::debug!(target: "h2::codec", "hidden 5");
            tracing::trace!(target: "rustls", "hidden 6");
            tracing::error!(target: "cofferer", "hidden 7");
            tracing::warn!(target: "hyper::proto::h1", "shown 1");
            tracing::error!(target: "rustls::conn", "shown 2");
            tracing::trace!("shown 3");
            tracing::trace!(target: "coffer_api", "shown 4");
        });
        let text = log.text();
        assert!(!text.contains("hidden"), "{text}");
        assert_eq!(text.matches("shown").count(), 4, "{text}");
    }

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        let (log, subscriber) = Log::of("warn");
        tracing::subscriber::with_default(subscriber, || {
            let key = "eve/x\n2026-11-28T00:00:00Z ERROR forged\r\u{85}\u{2028}line";
            tracing::warn!(%key, "will retry {key}");
        });
        let text = log.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.ends_with('\n') && text.contains(r"eve/x\n2026-11-28"), "{text}");
        assert!(!text.trim_end().contains(['\r', '\u{85}', '\u{2028}']), "{text:?}");
    }
}
