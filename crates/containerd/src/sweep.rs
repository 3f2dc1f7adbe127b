//! Stopping a containerd with everything that it runs, so that only the data directory is left of it.
//!
//! First pod by pod through CRI. Then what a dead or stuck daemon leaves is identified by what is certainly
//! ours: shims with our socket, processes whose root directory is one of our snapshots, mounts below our
//! directories, the bridge with our tag.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::cri::Cri;
use crate::error::Error;
use crate::layout::Layout;
use crate::{mounts, network};

/// Stops all pods concurrently. A failure is logged, and the pod is left to [`remains`]. The daemon keeps
/// running.
pub(crate) async fn stop_pods(socket: &Path, grace_s: i64) -> Result<(), Error> {
    let mut cri = Cri::connect(socket).await?;
    let mut stops = tokio::task::JoinSet::new();
    for id in cri.sandboxes().await? {
        let mut cri = cri.clone();
        stops.spawn(async move { cri.stop_sandbox(&id, grace_s).await });
    }
    while let Some(stop) = stops.join_next().await {
        if let Ok(Err(error)) = stop {
            tracing::warn!(%error, "failed to stop pod sandbox");
        }
    }
    Ok(())
}

/// Removes what is left after the daemon has ended.
pub(crate) fn remains(layout: &Layout) -> Result<(), Error> {
    let (socket, root) = (layout.socket(), layout.root());
    // The shims first, because they react to the end of each container.
    kill_all(|pid| is_shim(pid, &socket));
    kill_all(|pid| mounts::root_is_below(pid, &root));
    mounts::unmount_below(layout.runtime())?;
    mounts::unmount_below(layout.base())?;
    network::remove_bridge(layout)?;
    match std::fs::remove_dir_all(layout.runtime()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", layout.runtime())(error))
        }
        _ => Ok(()),
    }
}

/// Kills the processes for which `is_ours` holds, given their PIDs as names in /proc.
fn kill_all(is_ours: impl Fn(&str) -> bool) {
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    for name in processes.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let Some(pid) = name.parse().ok().and_then(Pid::from_raw) else { continue };
        if is_ours(&name) {
            // It may have ended in between.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Whether the process is a shim of the daemon at `socket`, according to its command line.
fn is_shim(pid: &str, socket: &Path) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    is_shim_of(&command, socket)
}

fn is_shim_of(command: &[u8], socket: &Path) -> bool {
    let mut words = command.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    let is_shim = program.rsplit(|byte| *byte == b'/').next() == Some(b"containerd-shim-runc-v2");
    let mut words = words.skip_while(|word| *word != b"-address").skip(1);
    is_shim && words.next() == Some(socket.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The system's own containerd may run shims on the same machine.
    #[test]
    fn only_shims_that_name_our_socket_are_ours() {
        let ours = Path::new("/run/coffer-1/containerd.sock");
        let shim = |address: &str| {
            format!("/usr/bin/containerd-shim-runc-v2\0-namespace\0k8s.io\0-address\0{address}\0")
                .into_bytes()
        };
        assert!(is_shim_of(&shim("/run/coffer-1/containerd.sock"), ours));
        assert!(!is_shim_of(&shim("/run/containerd/containerd.sock"), ours));
        assert!(!is_shim_of(b"grep\0-address\0/run/coffer-1/containerd.sock\0", ours));
        assert!(!is_shim_of(b"", ours));
    }
}
