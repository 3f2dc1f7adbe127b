//! What all scenarios share: where the server is, how long a phase takes, how requests are sent.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

/// The options of every scenario.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How to reach the API server. There is no default: a load is not put on a cluster by accident.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; its current one if not given.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Process ids of the server, to report its memory and CPU; several with commas (API server and
    /// etcd).
    #[arg(long = "server-pid", global = true, value_name = "PID", value_delimiter = ',',
          action = ArgAction::Append)]
    pub(crate) server_pids: Vec<u32>,
    /// Write everything measured to this file, too.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// End each phase after this time; 10 if neither this nor --count is given.
    #[arg(long, global = true, value_name = "SECONDS")]
    pub(crate) seconds: Option<NonZeroU64>,
    /// End each phase after this many operations.
    #[arg(long, global = true, value_name = "NUMBER")]
    pub(crate) count: Option<NonZeroU64>,
    /// Bytes of the value in each secret.
    #[arg(long, global = true, value_name = "BYTES", default_value_t = 1024,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) size: u32,
    /// The protocol. With 2, clients share connections; with 1.1 each has one. Requests go over 1.1
    /// if not given, watches and nodes over 2.
    #[arg(long, global = true, value_enum)]
    pub(crate) http: Option<Protocol>,
    /// Requests or watches on one HTTP/2 connection. Servers take 100 at least.
    #[arg(long, global = true, value_name = "NUMBER", default_value = "100")]
    pub(crate) streams: NonZeroUsize,
    /// Threads of this client; half of the cores if not given, so that the server has the others.
    #[arg(long, global = true, value_name = "NUMBER")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Say what would be done, and do nothing.
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// Show no progress on a terminal.
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
}

/// The protocol of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// One connection for each client.
    #[value(name = "1.1")]
    Http1,
    /// Connections that are shared.
    #[value(name = "2")]
    Http2,
}

impl Options {
    /// Threads that send and receive.
    pub(crate) fn threads(&self) -> usize {
        let half = || std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2);
        self.threads.map_or_else(half, NonZeroUsize::get).max(1)
    }

    /// The protocol of requests.
    pub(crate) fn for_requests(&self) -> Protocol {
        self.http.unwrap_or(Protocol::Http1)
    }

    /// The protocol of watches.
    pub(crate) fn for_watches(&self) -> Protocol {
        self.http.unwrap_or(Protocol::Http2)
    }

    /// The bounds of a phase: operations and time.
    pub(crate) fn bounds(&self) -> (Option<u64>, Option<Duration>) {
        let count = self.count.map(NonZeroU64::get);
        let default = if count.is_none() { Some(10) } else { None };
        let seconds = self.seconds.map(NonZeroU64::get).or(default);
        (count, seconds.map(Duration::from_secs))
    }

    /// The bounds of a phase, in words.
    pub(crate) fn bounds_text(&self) -> String {
        match self.bounds() {
            (Some(count), Some(time)) => {
                format!("until {count} operations or {} s", time.as_secs())
            }
            (Some(count), None) => format!("until {count} operations"),
            (None, time) => format!("for {} s", time.unwrap_or_default().as_secs()),
        }
    }

    /// The number of operations of a scenario that counts, rather than runs for a time.
    pub(crate) fn count_or(&self, default: u64) -> u64 {
        self.count.map_or(default, NonZeroU64::get)
    }
}
