//! Everything that was measured, as JSON has it. The table is made from the same values.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::measure::meter::{Metered, Usage};
use crate::measure::stats::{Row, Tally};

/// A run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Name and version of this program.
    pub(crate) tool: String,
    pub(crate) scenario: String,
    /// The command line, so that the run can be repeated.
    pub(crate) command: Vec<String>,
    pub(crate) started: String,
    pub(crate) machine: Machine,
    /// Where the server is and what it says it is.
    pub(crate) server: Option<Server>,
    pub(crate) phases: Vec<Phase>,
    #[serde(skip)]
    pub(crate) json: Option<PathBuf>,
}

/// What all ran on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) cpu: String,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
}

/// The server.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) version: String,
}

/// One thing that was measured.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    pub(crate) rows: Vec<Row>,
    pub(crate) server: Vec<Usage>,
    pub(crate) client_cpu_seconds: f64,
    pub(crate) client_rss_peak_bytes: u64,
    pub(crate) other_cpu_seconds: f64,
    pub(crate) facts: Vec<Fact>,
    /// What the server's and the client's processor time is divided by.
    pub(crate) operations: u64,
}

/// A number with a name.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

impl Phase {
    /// A phase from what clients saw and what the meter read.
    pub(crate) fn new(name: impl Into<String>, tally: &Tally, metered: Metered) -> Self {
        Self {
            name: name.into(),
            seconds: metered.took.as_secs_f64(),
            rows: tally.rows(metered.took),
            operations: tally.total(),
            server: metered.server,
            client_cpu_seconds: metered.client_cpu_seconds,
            client_rss_peak_bytes: metered.client_rss_peak_bytes,
            other_cpu_seconds: metered.other_cpu_seconds,
            facts: Vec::new(),
        }
    }

    /// Adds what the server's memory grew by in the phase, for each of so many.
    pub(crate) fn growth_per_item(&mut self, what: &'static str, items: u64) {
        if self.server.is_empty() {
            return;
        }
        let grown = |usage: &Usage| usage.rss_end_bytes.saturating_sub(usage.rss_start_bytes);
        let grown: u64 = self.server.iter().map(grown).sum();
        self.fact(what, grown as f64 / items as f64, "bytes");
    }

    /// Takes a row that is made of other rows out of the operations.
    pub(crate) fn uncount(&mut self, name: &str) {
        let row = self.rows.iter().find(|row| row.name == name);
        self.operations -= row.map_or(0, |row| row.count);
    }

    /// Adds a number.
    pub(crate) fn fact(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.facts.push(Fact { name: name.into(), value, unit });
    }
}

impl Report {
    /// An empty report of a run that begins now.
    pub(crate) fn new(scenario: &str, json: Option<PathBuf>) -> Self {
        Self {
            tool: concat!("coffer-bench ", env!("CARGO_PKG_VERSION")).to_owned(),
            scenario: scenario.to_owned(),
            command: std::env::args().collect(),
            started: jiff::Timestamp::now().to_string(),
            machine: Machine::this(),
            server: None,
            phases: Vec::new(),
            json,
        }
    }

    /// Writes the file that was asked for.
    pub(crate) fn write_json(&self) -> Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The first row in which nothing succeeded: figures that are not a result.
    pub(crate) fn failure(&self) -> Option<anyhow::Error> {
        let (phase, row) = self
            .phases
            .iter()
            .flat_map(|phase| phase.rows.iter().map(move |row| (phase, row)))
            .find(|(_, row)| row.count == 0 && !row.failures.is_empty())?;
        let failures: Vec<_> =
            row.failures.iter().map(|(what, count)| format!("{what} ({count} times)")).collect();
        Some(anyhow::anyhow!(
            "{}: no {:?} succeeded: {}",
            phase.name,
            row.name,
            failures.join(", ")
        ))
    }
}

impl Machine {
    fn this() -> Self {
        let file = |path| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let memory = value(&file("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib: u64 = memory.trim_end_matches("kB").trim().parse().unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cpu: value(&file("/proc/cpuinfo"), "model name").unwrap_or_default(),
            memory_bytes: kib * 1024,
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_row_without_a_success_makes_the_run_a_failure() {
        let mut report = Report::new("create", None);
        let tally = Tally::new(&["create"]);
        tally.fail(0, "403 Forbidden");
        report.phases.push(Phase::new("create, 1 client", &tally, Metered::default()));
        let text = report.failure().unwrap().to_string();
        assert_eq!(text, "create, 1 client: no \"create\" succeeded: 403 Forbidden (1 times)");
        tally.record(0, Duration::from_millis(1));
        report.phases[0] = Phase::new("create, 1 client", &tally, Metered::default());
        assert!(report.failure().is_none());
    }

    #[test]
    fn a_report_says_what_it_ran_on() {
        let report = Report::new("get", None);
        assert!(report.machine.cores > 0 && report.machine.memory_bytes > 0);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["scenario"], "get");
        assert!(json["machine"]["kernel"].as_str().unwrap().contains('.'));
    }
}
