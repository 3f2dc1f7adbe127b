//! The report as people read it.

use std::fmt::Write as _;

use crate::measure::meter::Usage;
use crate::measure::report::{Phase, Report};
use crate::measure::stats::Row;

const COLUMNS: [&str; 7] = ["count", "ops/s", "p50", "p90", "p99", "max", "failed"];
const NAME_WIDTH: usize = 34;
const COLUMN_WIDTH: usize = 10;
/// Cores that others had, from which on a figure is to be read with care.
const OTHERS_WORTH_TELLING: f64 = 0.1;

/// The whole report.
pub(crate) fn render(report: &Report) -> String {
    let mut out = heading(report);
    for phase in &report.phases {
        out.push('\n');
        put_phase(&mut out, phase);
    }
    out
}

fn heading(report: &Report) -> String {
    let machine = &report.machine;
    let server = report
        .server
        .as_ref()
        .map_or_else(String::new, |server| format!(" · {} {}", server.url, server.version));
    format!(
        "{}{server}\n{} cores · {} · {} · Linux {}\n",
        report.scenario,
        machine.cores,
        machine.cpu,
        bytes(machine.memory_bytes),
        machine.kernel
    )
}

fn put_phase(out: &mut String, phase: &Phase) {
    let _ = write!(out, "{:NAME_WIDTH$}", phase.name);
    if !phase.rows.is_empty() {
        for column in COLUMNS {
            let _ = write!(out, "{column:>COLUMN_WIDTH$}");
        }
    }
    out.push('\n');
    for row in &phase.rows {
        put_row(out, row);
    }
    for usage in &phase.server {
        put_usage(out, usage, phase);
    }
    if phase.client_cpu_seconds > 0.0 {
        let per = per_operation(phase.client_cpu_seconds, phase.operations);
        let percent = 100.0 * phase.client_cpu_seconds / phase.seconds.max(f64::EPSILON);
        let cpu = cpu(phase.client_cpu_seconds, percent);
        let peak = match phase.client_rss_peak_bytes {
            0 => String::new(),
            peak => format!(", memory peak {}", bytes(peak)),
        };
        let _ = writeln!(out, "  this client: {cpu}{per}{peak}");
    }
    let others = phase.other_cpu_seconds / phase.seconds.max(f64::EPSILON);
    if others >= OTHERS_WORTH_TELLING {
        let _ = writeln!(out, "  others on this machine: {others:.2} cores");
    }
    for fact in &phase.facts {
        let _ = writeln!(out, "  {}: {}", fact.name, quantity(fact.value, fact.unit));
    }
}

fn put_row(out: &mut String, row: &Row) {
    let _ = write!(out, "  {:width$}", row.name, width = NAME_WIDTH - 2);
    let failed: u64 = row.failures.values().sum();
    let cells = [
        row.count.to_string(),
        number(row.ops_per_second),
        milliseconds(row.p50_ms),
        milliseconds(row.p90_ms),
        milliseconds(row.p99_ms),
        milliseconds(row.max_ms),
        failed.to_string(),
    ];
    for cell in cells {
        let _ = write!(out, "{cell:>COLUMN_WIDTH$}");
    }
    out.push('\n');
    for (what, count) in &row.failures {
        let _ = writeln!(out, "    {what}: {count}");
    }
}

fn put_usage(out: &mut String, usage: &Usage, phase: &Phase) {
    let per = per_operation(usage.cpu_seconds, phase.operations);
    let _ = writeln!(
        out,
        "  {} ({}): {} ({:.2} user, {:.2} system){per}, memory {} → {} (peak {})",
        usage.name,
        usage.pid,
        cpu(usage.cpu_seconds, usage.cpu_core_percent),
        usage.cpu_user_seconds,
        usage.cpu_system_seconds,
        bytes(usage.rss_start_bytes),
        bytes(usage.rss_end_bytes),
        bytes(usage.rss_peak_bytes),
    );
}

fn cpu(seconds: f64, percent: f64) -> String {
    format!("{seconds:.2} s CPU, {percent:.1} % of a core")
}

fn per_operation(seconds: f64, operations: u64) -> String {
    if operations == 0 {
        return String::new();
    }
    format!(", {:.1} µs each", seconds * 1e6 / operations as f64)
}

fn quantity(value: f64, unit: &'static str) -> String {
    match unit {
        "bytes" if value >= 0.0 => bytes(value as u64),
        "seconds" => milliseconds(value * 1000.0),
        "" => number(value),
        _ => format!("{} {unit}", number(value)),
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn milliseconds(value: f64) -> String {
    match value {
        10_000.0.. => format!("{:.1} s", value / 1000.0),
        100.0.. => format!("{value:.0} ms"),
        1.0.. => format!("{value:.2} ms"),
        _ => format!("{:.0} µs", value * 1000.0),
    }
}

/// A number of bytes in binary units.
pub(crate) fn bytes(value: u64) -> String {
    let value = value as f64;
    match value {
        1_073_741_824.0.. => format!("{:.1} GiB", value / 1_073_741_824.0),
        1_048_576.0.. => format!("{:.1} MiB", value / 1_048_576.0),
        1_024.0.. => format!("{:.1} KiB", value / 1024.0),
        _ => format!("{value} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::meter::Metered;
    use crate::measure::stats::Tally;
    use std::time::Duration;

    #[test]
    fn a_table_has_a_line_for_each_row_and_each_fact() {
        let tally = Tally::new(&["create"]);
        tally.record(0, Duration::from_micros(1500));
        tally.fail(0, "409 Conflict");
        let server = vec![Usage {
            pid: 7,
            name: "coffer".to_owned(),
            cpu_seconds: 0.5,
            cpu_user_seconds: 0.375,
            cpu_system_seconds: 0.125,
            cpu_core_percent: 50.0,
            rss_start_bytes: 1 << 20,
            rss_peak_bytes: 3 << 20,
            rss_end_bytes: 2 << 20,
            rss_growth_bytes: None,
        }];
        let metered = Metered {
            took: Duration::from_secs(1),
            server,
            client_cpu_seconds: 0.25,
            client_rss_peak_bytes: 5 << 20,
            other_cpu_seconds: 0.5,
        };
        let mut phase = Phase::new("create, 1 client", &tally, metered);
        phase.fact("memory per object", 2048.0, "bytes");
        let mut out = String::new();
        put_phase(&mut out, &phase);
        let lines: Vec<_> = out.lines().collect();
        assert!(lines[0].starts_with("create, 1 client") && lines[0].ends_with("failed"));
        assert!(lines[1].contains("1.50 ms") && lines[1].ends_with('1'), "{out}");
        assert_eq!(lines[2].trim(), "409 Conflict: 1");
        assert_eq!(
            lines[3].trim(),
            "coffer (7): 0.50 s CPU, 50.0 % of a core (0.38 user, 0.12 system), 500000.0 µs each, \
             memory 1.0 MiB → 2.0 MiB (peak 3.0 MiB)"
        );
        assert_eq!(
            lines[4].trim(),
            "this client: 0.25 s CPU, 25.0 % of a core, 250000.0 µs each, memory peak 5.0 MiB"
        );
        assert_eq!(lines[5].trim(), "others on this machine: 0.50 cores");
        assert_eq!(lines[6].trim(), "memory per object: 2.0 KiB");
    }
}
