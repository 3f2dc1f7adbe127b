//! What clients saw: latencies in a histogram, failures by kind.
//!
//! Latencies keep three significant digits from one microsecond to ten minutes; quantiles are of all
//! operations, not of averages. A failure is counted by what it was and is in no latency.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

const LOWEST_NS: u64 = 1_000;
const HIGHEST_NS: u64 = 600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// One kind of operation in one phase.
#[derive(Debug)]
struct Series {
    latencies: Histogram<u64>,
    failures: BTreeMap<String, u64>,
}

impl Default for Series {
    fn default() -> Self {
        let latencies = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS);
        Self { latencies: latencies.expect("the bounds are in order"), failures: BTreeMap::new() }
    }
}

/// The operations of a phase, each kind by its place in the list of names.
#[derive(Debug)]
pub(crate) struct Tally {
    rows: Vec<(&'static str, Mutex<Series>)>,
}

/// A row of the report.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) ops_per_second: f64,
    pub(crate) mean_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) failures: BTreeMap<String, u64>,
}

impl Tally {
    /// An empty tally of these operations.
    pub(crate) fn new(names: &[&'static str]) -> Self {
        Self { rows: names.iter().map(|name| (*name, Mutex::default())).collect() }
    }

    fn series(&self, row: usize) -> MutexGuard<'_, Series> {
        self.rows[row].1.lock().expect("nothing panics while it holds a series")
    }

    /// Counts one that succeeded.
    pub(crate) fn record(&self, row: usize, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.series(row).latencies.saturating_record(nanoseconds.max(1));
    }

    /// Counts one that failed, by what the failure was.
    pub(crate) fn fail(&self, row: usize, what: &str) {
        *self.series(row).failures.entry(what.to_owned()).or_default() += 1;
    }

    /// All that succeeded.
    pub(crate) fn total(&self) -> u64 {
        (0..self.rows.len()).map(|row| self.series(row).latencies.len()).sum()
    }

    /// Those of one row that succeeded.
    pub(crate) fn count(&self, row: usize) -> u64 {
        self.series(row).latencies.len()
    }

    /// The latency that so many of all operations of a row did not exceed. One that failed counts as
    /// longer than any, so `None`: no latency says how long the caller would have had to wait.
    pub(crate) fn quantile_or_failed(&self, row: usize, quantile: f64) -> Option<Duration> {
        let series = self.series(row);
        let (succeeded, failed) = (series.latencies.len(), series.failures.values().sum::<u64>());
        let rank = ((succeeded + failed) as f64 * quantile).ceil();
        let within = if succeeded > 0 { rank / succeeded as f64 } else { 1.0 };
        if within > 1.0 || (succeeded, failed.min(1)) == (0, 1) {
            return None;
        }
        Some(Duration::from_nanos(series.latencies.value_at_quantile(within)))
    }

    /// The rows for a phase that took this long; those in which nothing happened are left out.
    pub(crate) fn rows(&self, took: Duration) -> Vec<Row> {
        let rows = self.rows.iter().enumerate().map(|(at, (name, _))| {
            let series = self.series(at);
            row(name, &series, took)
        });
        rows.filter(|row| row.count > 0 || !row.failures.is_empty()).collect()
    }
}

fn row(name: &str, series: &Series, took: Duration) -> Row {
    let latencies = &series.latencies;
    let quantile = |q| milliseconds(latencies.value_at_quantile(q) as f64);
    let seconds = took.as_secs_f64();
    Row {
        name: name.to_owned(),
        count: latencies.len(),
        ops_per_second: if seconds > 0.0 { latencies.len() as f64 / seconds } else { 0.0 },
        mean_ms: milliseconds(latencies.mean()),
        p50_ms: quantile(0.50),
        p90_ms: quantile(0.90),
        p99_ms: quantile(0.99),
        max_ms: milliseconds(latencies.max() as f64),
        failures: series.failures.clone(),
    }
}

fn milliseconds(nanoseconds: f64) -> f64 {
    nanoseconds / 1e6
}

/// By how much something grew from the second quarter of its samples to the last, by medians: what
/// a start-up takes is in the first quarter, and one sample decides nothing.
pub(crate) fn growth(samples: &[u64]) -> Option<i64> {
    let quarter = samples.len() / 4;
    if quarter == 0 {
        return None;
    }
    let early = median(&samples[quarter..2 * quarter]);
    let late = median(&samples[samples.len() - quarter..]);
    Some(i64::try_from(late).ok()? - i64::try_from(early).ok()?)
}

fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, wanted: f64) -> bool {
        (found - wanted).abs() <= wanted * 0.002
    }

    #[test]
    fn quantiles_are_of_all_operations_to_three_digits() {
        let tally = Tally::new(&["get", "put"]);
        for millisecond in 1..=1000 {
            tally.record(0, Duration::from_millis(millisecond));
        }
        let rows = tally.rows(Duration::from_secs(10));
        assert_eq!(rows.len(), 1, "a row in which nothing happened is left out");
        let row = &rows[0];
        assert_eq!((row.name.as_str(), row.count), ("get", 1000));
        assert!(close(row.p50_ms, 500.0), "{row:?}");
        assert!(close(row.p90_ms, 900.0), "{row:?}");
        assert!(close(row.p99_ms, 990.0), "{row:?}");
        assert!(close(row.max_ms, 1000.0), "{row:?}");
        assert!(close(row.mean_ms, 500.5), "{row:?}");
        assert!(close(row.ops_per_second, 100.0), "{row:?}");
    }

    #[test]
    fn a_failure_is_counted_by_its_kind_and_is_in_no_latency() {
        let tally = Tally::new(&["put"]);
        tally.fail(0, "409 Conflict");
        tally.fail(0, "409 Conflict");
        tally.fail(0, "connection lost");
        let rows = tally.rows(Duration::from_secs(1));
        assert_eq!(rows[0].count, 0);
        assert_eq!(rows[0].failures["409 Conflict"], 2);
        assert_eq!(rows[0].failures["connection lost"], 1);
    }

    #[test]
    fn a_failure_counts_as_longer_than_any_latency() {
        let tally = Tally::new(&["get"]);
        assert_eq!(tally.quantile_or_failed(0, 0.99), Some(Duration::ZERO));
        for _ in 0..198 {
            tally.record(0, Duration::from_millis(1));
        }
        tally.record(0, Duration::from_millis(500));
        tally.fail(0, "connection lost");
        let p99 = tally.quantile_or_failed(0, 0.99).unwrap().as_secs_f64();
        assert!(close(p99, 0.001), "{p99}");
        let beyond = tally.quantile_or_failed(0, 0.995).unwrap().as_secs_f64();
        assert!(close(beyond, 0.5), "{beyond}");
        assert_eq!(tally.quantile_or_failed(0, 1.0), None);
        let tally = Tally::new(&["get"]);
        tally.fail(0, "connection lost");
        assert_eq!(tally.quantile_or_failed(0, 0.5), None);
    }

    #[test]
    fn latencies_beyond_the_range_are_kept_at_its_ends() {
        let tally = Tally::new(&["x"]);
        tally.record(0, Duration::ZERO);
        tally.record(0, Duration::from_secs(86_400));
        let row = &tally.rows(Duration::ZERO)[0];
        assert_eq!(row.count, 2);
        assert!(row.max_ms >= 599_000.0 && row.ops_per_second == 0.0, "{row:?}");
    }

    #[test]
    fn growth_ignores_the_start_and_single_samples() {
        let mut samples = vec![0, 5, 100, 100, 100, 900, 100, 100, 110, 110, 110, 110];
        assert_eq!(growth(&samples), Some(10));
        samples.truncate(3);
        assert_eq!(growth(&samples), None);
    }
}
