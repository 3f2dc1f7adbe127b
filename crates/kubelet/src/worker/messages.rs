//! What containers leave behind: termination messages and logs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::env;
use crate::logs;
use crate::pod::{self, Layout, PodId};
use crate::redact::{Foreign, Redactor, RuntimeWords};
use crate::runtime::{Container, ContainerState, Observed};

/// Upstream's limits: a message from the file, and one from the log.
const MESSAGE_BYTES_MAX: usize = 4096;
const LOG_MESSAGE_BYTES_MAX: usize = 2048;
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

/// Reads the messages of containers that ended and were not read yet; forgets those of containers that
/// are removed.
pub(super) async fn collect(
    layout: &Layout,
    id: &PodId,
    pod: &Arc<Pod>,
    observed: &Observed,
    messages: &mut BTreeMap<String, String>,
) {
    messages.retain(|known, _| observed.containers.iter().any(|container| container.id == *known));
    let is_new = |container: &&Container| {
        container.state == ContainerState::Exited && !messages.contains_key(&container.id)
    };
    let ended: Vec<Container> = observed.containers.iter().filter(is_new).cloned().collect();
    if ended.is_empty() {
        return;
    }
    let (layout, id, pod) = (layout.clone(), id.clone(), pod.clone());
    let read = move || {
        let redactor = Redactor::of_pod(&layout, &id, pod::spec(&pod));
        let read = |container: Container| {
            let message = message(&layout, &id, &pod, &container, &redactor);
            (container.id, message)
        };
        ended.into_iter().map(read).collect::<Vec<_>>()
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => messages.extend(read),
        // A panic in it is this pod's worker's, which is begun again.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => {}
    }
}

fn message(
    layout: &Layout,
    id: &PodId,
    pod: &Pod,
    container: &Container,
    redactor: &Redactor,
) -> String {
    let files = layout.termination_logs(id.uid(), &container.name, container.attempt);
    let written = files.iter().find_map(|file| tail(file).ok()).filter(|text| !text.is_empty());
    if let Some(written) = written {
        return redactor.redact_tail(&written, MESSAGE_BYTES_MAX);
    }
    if falls_back_to_logs(pod, container) {
        let lines = last_lines(Path::new(&container.log_path));
        if !lines.is_empty() {
            return redactor.redact_tail(&lines, LOG_MESSAGE_BYTES_MAX);
        }
    }
    let spec = pod::all_containers(pod::spec(pod)).find(|spec| spec.name == container.name);
    let Some(spec) = spec.filter(|spec| env::refers_to_secrets(spec)) else {
        return redactor.redact(&container.message);
    };
    // The runtime's, of a start that failed: what it quotes may come from a Secret.
    let words = spec.command.iter().chain(&spec.args).flatten();
    let open = words.filter(|word| !word.contains('$')).map(String::as_str);
    redactor.redact_error(&container.message, &RuntimeWords::new(open))
}

fn falls_back_to_logs(pod: &Pod, container: &Container) -> bool {
    let spec = pod::all_containers(pod::spec(pod)).find(|spec| spec.name == container.name);
    let policy = spec.and_then(|spec| spec.termination_message_policy.as_deref());
    policy == Some("FallbackToLogsOnError") && container.exit_code != 0
}

/// The end of a file. More than is kept, so that what is redacted is seen whole.
fn tail(path: &Path) -> io::Result<Foreign> {
    let max = u64::try_from(Foreign::len_max()).unwrap_or(u64::MAX);
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(max);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(Foreign::tail(bytes, start > 0))
}

/// The last lines of a log, without their timestamps.
fn last_lines(log: &Path) -> Foreign {
    let Ok(text) = tail(log) else { return Foreign::new("") };
    text.map(|text| {
        let lines: Vec<_> =
            text.split(|byte| *byte == b'\n').filter_map(logs::Line::parse).collect();
        let start = lines.len().saturating_sub(LOG_MESSAGE_LINES_MAX);
        let mut message = Vec::new();
        for line in &lines[start..] {
            message.extend_from_slice(line.content);
            // What a long line is written in pieces of is one text again.
            if !line.is_partial {
                message.push(b'\n');
            }
        }
        message
    })
}

/// Removes a dead container's log. What cannot be removed goes with the pod's directory.
pub(super) async fn remove_log(path: &str) {
    if path.is_empty() {
        return;
    }
    if let Err(error) = tokio::fs::remove_file(path).await
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(path, %error, "cannot remove a log");
    }
}

/// Removes all logs of a pod.
pub(super) async fn remove_logs(directory: &Path) {
    if let Err(error) = tokio::fs::remove_dir_all(directory).await
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %directory.display(), %error, "cannot remove logs");
    }
}
