//! What kind of machine this is, and how much of it is in use.

use std::fs;
use std::io;
use std::path::Path;

/// What does not change while the kubelet runs.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) cpus: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel_version: String,
    pub(crate) os_image: String,
    /// In Go's words: `amd64`, `arm64`.
    pub(crate) architecture: &'static str,
}

impl Machine {
    /// Looks at the machine; `root` is where the pods' files will be.
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let line = |path: &str| {
            fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
        };
        let machine_id = line("/etc/machine-id");
        let uuid = line("/sys/class/dmi/id/product_uuid");
        let names = rustix::system::uname();
        Ok(Self {
            cpus: cpus(&line("/sys/devices/system/cpu/online")),
            memory_bytes: memory(&fs::read_to_string("/proc/meminfo")?, "MemTotal"),
            disk_bytes: disk(root)?.total_bytes,
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel_version: names.release().to_string_lossy().into_owned(),
            os_image: os_name(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
        })
    }
}

/// Whether the machine is short of something. The thresholds are upstream's for eviction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

const MEMORY_BYTES_MIN: u64 = 100 * 1024 * 1024;
const DISK_PERCENT_MIN: u64 = 10;
const PIDS_PERCENT_MIN: u64 = 5;

impl Pressure {
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let available = memory(&fs::read_to_string("/proc/meminfo")?, "MemAvailable");
        let disk = disk(root)?;
        let number = |path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let pids_max = number("/proc/sys/kernel/pid_max").unwrap_or(u64::MAX);
        let pids = threads(&fs::read_to_string("/proc/loadavg")?);
        Ok(Self {
            memory: available < MEMORY_BYTES_MIN,
            disk: disk.free_bytes < disk.total_bytes / 100 * DISK_PERCENT_MIN,
            pids: pids_max.saturating_sub(pids) < pids_max / 100 * PIDS_PERCENT_MIN,
        })
    }
}

struct Disk {
    total_bytes: u64,
    free_bytes: u64,
}

fn disk(path: &Path) -> io::Result<Disk> {
    let found = rustix::fs::statvfs(path)?;
    Ok(Disk {
        total_bytes: found.f_blocks * found.f_frsize,
        free_bytes: found.f_bavail * found.f_frsize,
    })
}

/// Counts `0-3,8,10-11`.
fn cpus(online: &str) -> u32 {
    let count = |range: &str| -> Option<u32> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        Some((last + 1).saturating_sub(first))
    };
    let counted: Option<Vec<u32>> = online.split(',').map(count).collect();
    counted.map_or(1, |ranges| ranges.iter().sum())
}

/// A line of /proc/meminfo, in bytes.
fn memory(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn os_name(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// The number of threads from `0.20 0.18 0.12 1/80 11206`.
fn threads(loadavg: &str) -> u64 {
    let field = loadavg.split_whitespace().nth(3).and_then(|field| field.split_once('/'));
    field.and_then(|(_, total)| total.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(cpus("0-3,8,10-11"), 7);
        assert_eq!(cpus("0"), 1);
        assert_eq!(cpus("?"), 1);
        assert_eq!(memory("MemTotal:       16 kB\nMemFree: 1 kB\n", "MemTotal"), 16384);
        assert_eq!(os_name("ID=debian\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        assert_eq!(threads("0.20 0.18 0.12 1/80 11206\n"), 80);
    }

    #[test]
    fn this_machine_has_something() {
        let machine = Machine::read(Path::new("/")).expect("readable");
        assert!(machine.cpus > 0 && machine.memory_bytes > 0 && machine.disk_bytes > 0);
    }
}
