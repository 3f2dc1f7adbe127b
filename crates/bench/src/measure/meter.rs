//! What processes use, read from /proc: processor time and resident memory.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::measure::stats;

/// How often memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);

/// The unit of processor time in /proc: the kernel's USER_HZ, which is this on every architecture
/// that Kubernetes runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The processes of the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    processes: Vec<Process>,
}

#[derive(Clone, Debug)]
struct Process {
    pid: u32,
    name: String,
}

/// What one process used in a phase.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Usage {
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// User and system time together.
    pub(crate) cpu_seconds: f64,
    pub(crate) cpu_user_seconds: f64,
    pub(crate) cpu_system_seconds: f64,
    /// Of one core, over the whole phase.
    pub(crate) cpu_core_percent: f64,
    pub(crate) rss_start_bytes: u64,
    pub(crate) rss_peak_bytes: u64,
    pub(crate) rss_end_bytes: u64,
    /// From the second quarter of the phase to the last; what a soak looks at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rss_growth_bytes: Option<i64>,
}

/// A phase that is being measured.
pub(crate) struct Metering {
    readings: Vec<(Process, Reading)>,
    samples: Arc<Mutex<Vec<Vec<u64>>>>,
    sampler: JoinHandle<()>,
    own: Reading,
    machine_cpu: f64,
    start: Instant,
}

/// A phase that has been measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metered {
    pub(crate) took: Duration,
    pub(crate) server: Vec<Usage>,
    pub(crate) client_cpu_seconds: f64,
    /// The most resident memory that this program has had since it started.
    pub(crate) client_rss_peak_bytes: u64,
    /// Of everything else on this machine: what others take is not the server's to have.
    pub(crate) other_cpu_seconds: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    user_seconds: f64,
    system_seconds: f64,
    rss_bytes: u64,
    /// The most there has been since the process started.
    rss_highest_bytes: u64,
}

impl Reading {
    fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

impl Meter {
    /// A meter of processes by what they are, not by what their program is called.
    pub(crate) fn named(processes: Vec<(String, u32)>) -> Result<Self> {
        let mut meter = Self::new(&processes.iter().map(|(_, pid)| *pid).collect::<Vec<_>>())?;
        for (process, (name, _)) in meter.processes.iter_mut().zip(processes) {
            process.name = name;
        }
        Ok(meter)
    }

    /// A meter of these processes, all of which must be there.
    pub(crate) fn new(pids: &[u32]) -> Result<Self> {
        let process = |pid: &u32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .with_context(|| format!("there is no process {pid} to measure"))?;
            Ok(Process { pid: *pid, name: name.trim().to_owned() })
        };
        let processes = pids.iter().map(process).collect::<Result<_>>()?;
        Ok(Self { processes })
    }

    /// Resident memory of all, `None` where no process is known.
    pub(crate) fn rss_bytes(&self) -> Option<u64> {
        if self.processes.is_empty() {
            return None;
        }
        Some(self.processes.iter().map(|process| read(process.pid).rss_bytes).sum())
    }

    /// Begins to measure.
    pub(crate) fn start(&self) -> Metering {
        let read_all = |process: &Process| (process.clone(), read(process.pid));
        let samples = Arc::new(Mutex::new(vec![Vec::new(); self.processes.len()]));
        let sampler = tokio::spawn(sample(self.processes.clone(), samples.clone()));
        Metering {
            readings: self.processes.iter().map(read_all).collect(),
            samples,
            sampler,
            own: read(std::process::id()),
            machine_cpu: machine_cpu_seconds(),
            start: Instant::now(),
        }
    }
}

async fn sample(processes: Vec<Process>, samples: Arc<Mutex<Vec<Vec<u64>>>>) {
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    loop {
        ticks.tick().await;
        let now: Vec<u64> = processes.iter().map(|one| read(one.pid).rss_bytes).collect();
        let mut samples = samples.lock().expect("nothing panics while it holds the samples");
        for (series, rss) in samples.iter_mut().zip(now) {
            series.push(rss);
        }
    }
}

impl Metering {
    /// Ends, and says what was used.
    pub(crate) fn stop(self) -> Metered {
        let took = self.start.elapsed();
        let samples = self.samples.lock().expect("nothing panics while it holds the samples");
        let usage = |((process, before), samples): (&(Process, Reading), &Vec<u64>)| {
            let after = read(process.pid);
            let cpu_seconds = after.cpu_seconds() - before.cpu_seconds();
            let seen = samples.iter().copied().chain([before.rss_bytes, after.rss_bytes]);
            // A peak between two samples, if there has never been a higher one.
            let highest = after.rss_highest_bytes;
            let seen = seen.chain((highest > before.rss_highest_bytes).then_some(highest));
            Usage {
                pid: process.pid,
                name: process.name.clone(),
                cpu_seconds,
                cpu_user_seconds: after.user_seconds - before.user_seconds,
                cpu_system_seconds: after.system_seconds - before.system_seconds,
                cpu_core_percent: 100.0 * cpu_seconds / took.as_secs_f64().max(f64::EPSILON),
                rss_start_bytes: before.rss_bytes,
                rss_peak_bytes: seen.max().unwrap_or_default(),
                rss_end_bytes: after.rss_bytes,
                rss_growth_bytes: stats::growth(samples),
            }
        };
        let server: Vec<_> = self.readings.iter().zip(samples.iter()).map(usage).collect();
        let own = read(std::process::id());
        let client_cpu_seconds = own.cpu_seconds() - self.own.cpu_seconds();
        let client_rss_peak_bytes = own.rss_highest_bytes;
        let known = server.iter().map(|usage| usage.cpu_seconds).sum::<f64>() + client_cpu_seconds;
        let other_cpu_seconds = (machine_cpu_seconds() - self.machine_cpu - known).max(0.0);
        Metered { took, server, client_cpu_seconds, client_rss_peak_bytes, other_cpu_seconds }
    }
}

impl Drop for Metering {
    fn drop(&mut self) {
        self.sampler.abort();
    }
}

/// A process that has ended uses nothing.
fn read(pid: u32) -> Reading {
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
    let ticks = file("stat").ok().and_then(|stat| cpu_ticks(&stat)).unwrap_or_default();
    let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
    let status = file("status").unwrap_or_default();
    let bytes = |name| status_bytes(&status, name).unwrap_or_default();
    Reading {
        user_seconds: seconds(ticks.0),
        system_seconds: seconds(ticks.1),
        rss_bytes: bytes("VmRSS:"),
        rss_highest_bytes: bytes("VmHWM:"),
    }
}

/// `utime` and `stime` of /proc/PID/stat. The program's name comes before and may hold anything.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_whitespace().skip(11);
    let utime: u64 = fields.next()?.parse().ok()?;
    let stime: u64 = fields.next()?.parse().ok()?;
    Some((utime, stime))
}

/// Processor time that anyone had, and that the machine's host gave to others (steal).
fn machine_cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    busy_ticks(&stat).unwrap_or_default() as f64 / TICKS_PER_SECOND
}

/// All but idle and waiting, of the first line of /proc/stat.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = fields.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _waiting, interrupts, soft, steal] = ticks.try_into().ok()?;
    Some(user + nice + system + interrupts + soft + steal)
}

/// A size of /proc/PID/status, such as `VmRSS:`.
fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_program_name() {
        let stat = "42 (a) R 1 (b)) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some((250, 50)));
        assert_eq!(cpu_ticks("42 (a) S"), None);
    }

    #[test]
    fn idle_and_waiting_time_is_not_counted() {
        assert_eq!(busy_ticks("cpu  1 2 4 1000 1000 8 16 32 0 0\ncpu0 9 9 9 9\n"), Some(63));
        assert_eq!(busy_ticks("cpu0 1 2 3\n"), None);
        assert!(machine_cpu_seconds() > 0.0);
    }

    #[test]
    fn resident_memory_is_in_kib() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t1\n";
        assert_eq!(status_bytes(status, "VmRSS:"), Some(1 << 20));
        assert_eq!(status_bytes(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(status_bytes("Name:\tkthreadd\n", "VmRSS:"), None);
    }

    #[test]
    fn a_process_that_is_not_there_is_refused_and_one_that_is_has_memory() {
        assert!(Meter::new(&[u32::MAX]).is_err());
        let own = Meter::new(&[std::process::id()]).unwrap();
        assert!(own.rss_bytes().unwrap() > 0);
        assert_eq!(Meter::default().rss_bytes(), None);
        let named = Meter::named(vec![("scheduler".to_owned(), std::process::id())]).unwrap();
        assert_eq!(named.processes[0].name, "scheduler");
    }
}
