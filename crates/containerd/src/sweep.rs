//! Ending a containerd with all that it runs, so that nothing of it is left on the machine but
//! what the data directory holds.
//!
//! First the polite way, pod by pod through CRI; then, for what a dead or stuck daemon leaves,
//! by what belongs to us beyond doubt: shims that name our socket, processes whose root directory
//! is a snapshot of ours, mounts below our directories, the bridge with our tag.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::cri::Cri;
use crate::{Error, Layout, mounts, network};

/// Ends every pod, all at once. One that would not go is logged and left to [`remains`]; the daemon
/// is still running afterwards.
pub(crate) async fn end_pods(socket: &Path, grace_s: i64) -> Result<(), Error> {
    let mut cri = Cri::connect(socket).await?;
    let mut ends = tokio::task::JoinSet::new();
    for id in cri.sandboxes().await? {
        let mut cri = cri.clone();
        ends.spawn(async move { cri.end_sandbox(&id, grace_s).await });
    }
    while let Some(end) = ends.join_next().await {
        if let Ok(Err(error)) = end {
            tracing::warn!(%error, "a pod would not end");
        }
    }
    Ok(())
}

/// Removes what is left once the daemon is gone.
pub(crate) fn remains(layout: &Layout) -> Result<(), Error> {
    let (socket, root) = (layout.socket(), layout.root());
    // The shims first: they would take note of every end.
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

/// Kills the processes that are ours; asked by their numbers, which are names in /proc.
fn kill_all(is_ours: impl Fn(&str) -> bool) {
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    for name in processes.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let Some(pid) = name.parse().ok().and_then(Pid::from_raw) else { continue };
        if is_ours(&name) {
            // One that ended since it was looked at is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Whether the process' command line says that it serves the daemon at `socket`.
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

    /// The system's own containerd may run shims beside ours.
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
