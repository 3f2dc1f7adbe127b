//! The command line.

use clap::Parser;

use crate::options::Options;
use crate::scenario::Scenario;

/// Measure any Kubernetes API server.
///
/// Works in a namespace of its own that it removes at the end, also after Ctrl-C. Latencies are
/// seen from the client; CPU and memory of the server are read from /proc for the given process ids.
#[derive(Debug, Parser)]
#[command(name = "coffer-bench", version, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory as _;

    use super::*;

    fn options(line: &[&str]) -> Options {
        let words = ["coffer-bench"].iter().chain(line).copied();
        Arguments::try_parse_from(words).expect("arguments").options
    }

    #[test]
    fn the_command_line_is_free_of_contradictions() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_phase_without_bounds_of_its_own_takes_ten_seconds() {
        assert_eq!(options(&["get"]).bounds(), (None, Some(Duration::from_secs(10))));
        assert_eq!(options(&["get", "--count", "7"]).bounds(), (Some(7), None));
        assert_eq!(
            options(&["--seconds", "3", "get", "--count", "7"]).bounds(),
            (Some(7), Some(Duration::from_secs(3)))
        );
    }

    #[test]
    fn process_ids_come_with_commas_or_one_by_one() {
        let line = ["get", "--server-pid", "1,2", "--server-pid", "3"];
        assert_eq!(options(&line).server_pids, [1, 2, 3]);
    }

    #[test]
    fn a_bound_or_size_of_zero_is_rejected() {
        for line in [["get", "--count", "0"], ["get", "--seconds", "0"], ["get", "--size", "0"]] {
            let words = ["coffer-bench"].iter().chain(&line).copied();
            assert!(Arguments::try_parse_from(words).is_err(), "{line:?}");
        }
    }
}
