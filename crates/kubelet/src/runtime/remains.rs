//! Processes of containers that the runtime has no hold on any more.
//!
//! A runtime that is killed while it makes a container can leave one: the process waits to be
//! started, its maker has ended, and no later runtime knows it. In its mount namespace the pod's
//! secrets stay mounted. The kernel still says whose it is: its cgroup is named after the
//! container, by every runtime and with either cgroup driver. Upstream ends what is left in a
//! pod's cgroup for the same reason.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long a killed process may take to end; one that takes longer hangs in the kernel.
const END_MAX: Duration = Duration::from_secs(10);

/// Kills the processes that are still in these containers (and sandboxes), and waits for their
/// end. To be asked once the runtime says that the containers have ended.
///
/// # Errors
/// When /proc cannot be read, or a process does not end within ten seconds.
pub(super) fn end(containers: &[String]) -> io::Result<()> {
    let mut ending = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)) else {
            continue;
        };
        if let Some(process) = open_if_in(pid, containers) {
            tracing::warn!(
                pid = pid.as_raw_nonzero().get(),
                "killing a container process that the runtime has lost"
            );
            // One that ended by itself meanwhile is as good.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            ending.push(process);
        }
    }
    let deadline = Instant::now() + END_MAX;
    ending.iter().try_for_each(|process| wait(process, deadline))
}

/// The process, if it is in one of the containers. Opened before it is looked at: afterwards its
/// number could be another's.
fn open_if_in(pid: Pid, containers: &[String]) -> Option<OwnedFd> {
    let path = format!("/proc/{}/cgroup", pid.as_raw_nonzero());
    let is_in = || std::fs::read_to_string(&path).is_ok_and(|text| is_in_any(&text, containers));
    if !is_in() {
        return None;
    }
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    is_in().then_some(process)
}

/// Whether a /proc/PID/cgroup names one of the containers: `/ID` where cgroups are made as files,
/// `/RUNTIME-ID.scope` where systemd makes them, wherever in the tree that is.
fn is_in_any(cgroups: &str, containers: &[String]) -> bool {
    let paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut parts = paths.flat_map(|path| path.split('/'));
    parts.any(|part| {
        let scope = part.strip_suffix(".scope").and_then(|unit| unit.rsplit('-').next());
        containers.iter().any(|id| !id.is_empty() && (part == id || scope == Some(id)))
    })
}

/// Waits until the process has ended. It may stay a zombie if its parent does not wait for it: that has no
/// memory and no mounts.
fn wait(process: &OwnedFd, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut ended = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
        match poll(&mut ended, Some(&timeout)) {
            Ok(0) => {
                let message = "a killed process of a container does not end";
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "8149ebf599c0b252fd8daac8c722b144b215de49bdeb8a146dff5ccee24beb78";

    #[test]
    fn a_container_is_found_under_both_cgroup_drivers_and_versions() {
        let containers = [ID.to_owned()];
        let found = |text: &str| is_in_any(text, &containers);
        assert!(found(&format!("12:pids:/{ID}\n1:name=systemd:/{ID}\n0::/\n")));
        assert!(found(&format!("0::/kubepods/besteffort/poduid/{ID}\n")));
        assert!(found(&format!("0::/kubepods.slice/cri-containerd-{ID}.scope/init.scope\n")));
        assert!(!found(&format!("0::/cri-containerd-{}.scope\n", &ID[1..])));
        assert!(!found(&format!("0::/x{ID}\n")));
        assert!(!found("0::/system.slice/containerd.service\n"));
        assert!(!found(""));
        assert!(!is_in_any("0::/\n", &[String::new()]), "an empty name matches nothing");
    }

    /// The real thing needs cgroups of its own: what the fault suite makes.
    #[test]
    fn a_process_outside_of_all_containers_is_not_killed() {
        let mut bystander = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        end(&[ID.to_owned()]).unwrap();
        assert!(bystander.try_wait().unwrap().is_none());
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }
}
