//! What containers leave behind: termination messages and logs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::logs;
use crate::pod::{self, Layout, PodId};
use crate::runtime::{Container, ContainerState, Observed};
use crate::snapshot::Snapshot;

/// Upstream's limits: a message from the file, and one from the log.
const MESSAGE_BYTES_MAX: u64 = 4096;
const LOG_MESSAGE_BYTES_MAX: u64 = 2048;
const LOG_MESSAGE_LINES_MAX: usize = 80;

/// The messages that were reported already, by container id.
///
/// An earlier kubelet has read them, with what the pod's secrets were at hand.
pub(super) fn reported(status: &PodStatus) -> BTreeMap<String, String> {
    let init = status.init_container_statuses.iter().flatten();
    let all = init.chain(status.container_statuses.iter().flatten());
    let states = all.flat_map(|status| [&status.state, &status.last_state]);
    let ended = states.filter_map(|state| state.as_ref()?.terminated.as_ref());
    let messages = ended.filter_map(|ended| {
        let id = ended.container_id.as_deref()?.split_once("://")?.1;
        Some((id.to_owned(), ended.message.clone().unwrap_or_default()))
    });
    messages.collect()
}

/// Reads the messages of containers that ended and were not read yet; forgets those that are
/// gone.
pub(super) fn collect(
    layout: &Layout,
    id: &PodId,
    pod: &Pod,
    observed: &Observed,
    messages: &mut BTreeMap<String, String>,
) {
    messages.retain(|known, _| observed.containers.iter().any(|container| container.id == *known));
    for container in &observed.containers {
        if container.state != ContainerState::Exited || messages.contains_key(&container.id) {
            continue;
        }
        let file = layout.termination_log(id.uid(), &container.name, container.attempt);
        let mut message = tail(&file, MESSAGE_BYTES_MAX).unwrap_or_default();
        if message.is_empty() && falls_back_to_logs(pod, container) {
            message = last_lines(Path::new(&container.log_path));
        }
        if message.is_empty() {
            message = Snapshot::of(layout, id.uid()).redact(&container.message);
        }
        messages.insert(container.id.clone(), message);
    }
}

fn falls_back_to_logs(pod: &Pod, container: &Container) -> bool {
    let spec = pod::all_containers(pod::spec(pod)).find(|spec| spec.name == container.name);
    let policy = spec.and_then(|spec| spec.termination_message_policy.as_deref());
    policy == Some("FallbackToLogsOnError") && container.exit_code != 0
}

/// The end of a file, as text.
fn tail(path: &Path, max: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(max)))?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a log, without their timestamps.
fn last_lines(log: &Path) -> String {
    // The timestamps and tags are cut off, so a little more is read than is kept.
    let text = tail(log, LOG_MESSAGE_BYTES_MAX * 4).unwrap_or_default();
    let lines: Vec<&[u8]> = text
        .lines()
        .filter_map(|line| logs::Line::parse(line.as_bytes()).map(|line| line.content))
        .collect();
    let start = lines.len().saturating_sub(LOG_MESSAGE_LINES_MAX);
    let mut message = String::new();
    for line in &lines[start..] {
        message.push_str(&String::from_utf8_lossy(line));
        message.push('\n');
    }
    let cut = message.len().saturating_sub(usize::try_from(LOG_MESSAGE_BYTES_MAX).unwrap_or(0));
    message.split_off(message.ceil_char_boundary(cut))
}

/// Removes a dead container's log. What cannot be removed goes with the pod's directory.
pub(super) fn remove_log(path: &str) {
    if path.is_empty() {
        return;
    }
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(path, %error, "log not removed");
    }
}

/// Removes all logs of a pod.
pub(super) fn remove_logs(directory: &Path) {
    if let Err(error) = std::fs::remove_dir_all(directory)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %directory.display(), %error, "logs not removed");
    }
}
