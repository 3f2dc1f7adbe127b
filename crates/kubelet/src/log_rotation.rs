//! Keeps container logs from filling the disk: a log over its limit is rotated, the runtime reopens it,
//! and the oldest rotated files are removed.
//!
//! ```text
//! <logs>/<pod>/<container>/0.log                    being written
//! <logs>/<pod>/<container>/0.log.20260102-030405    rotated
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::MissedTickBehavior;

use crate::pod::Layout;
use crate::runtime::{Runtime, RuntimeError};

/// Upstream's `containerLogMaxSize`, `containerLogMaxFiles` and monitor period.
const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;
const LOG_FILES_MAX: usize = 5;
const CHECK_PERIOD: Duration = Duration::from_secs(10);

/// Why a log was not rotated.
#[derive(Debug, thiserror::Error)]
enum RotationError {
    #[error("cannot rename the log: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Runtime(#[from] RuntimeError),
}

/// A log that has grown too large, and whose it is.
#[derive(Debug, PartialEq, Eq)]
struct Overgrown {
    path: PathBuf,
    pod_uid: String,
    container: String,
    attempt: u32,
}

/// Rotates logs until dropped.
pub(crate) async fn run(runtime: Runtime, layout: Layout) {
    let mut ticks = tokio::time::interval(CHECK_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let logs = layout.all_logs();
        let found = tokio::task::spawn_blocking(move || overgrown(&logs, LOG_BYTES_MAX)).await;
        for log in found.unwrap_or_default() {
            if let Err(error) = rotate(&runtime, &log).await {
                tracing::warn!(log = %log.path.display(), %error, "cannot rotate a log");
            }
        }
    }
}

/// Looks for logs over the limit. What cannot be read is passed over: it may just be going.
fn overgrown(logs: &Path, max: u64) -> Vec<Overgrown> {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for pod in entries(logs) {
        let name = pod.file_name().to_string_lossy().into_owned();
        let Some((_, uid)) = name.rsplit_once('_') else { continue };
        for container in entries(&pod.path()) {
            for log in entries(&container.path()) {
                let file = log.file_name().to_string_lossy().into_owned();
                let attempt = file.strip_suffix(".log").and_then(|attempt| attempt.parse().ok());
                let size = log.metadata().map_or(0, |metadata| metadata.len());
                if let Some(attempt) = attempt.filter(|_| size > max) {
                    found.push(Overgrown {
                        path: log.path(),
                        pod_uid: uid.to_owned(),
                        container: container.file_name().to_string_lossy().into_owned(),
                        attempt,
                    });
                }
            }
        }
    }
    found
}

async fn rotate(runtime: &Runtime, log: &Overgrown) -> Result<(), RotationError> {
    // A container that ended writes no more; its log stays as it is.
    let running = runtime.running_container(&log.pod_uid, &log.container, log.attempt).await?;
    let Some(container) = running else { return Ok(()) };
    remove_oldest(&log.path)?;
    let aside = aside(&log.path, Timestamp::now());
    fs::rename(&log.path, &aside)?;
    if let Err(error) = runtime.reopen_log(&container).await {
        // It goes on writing into the file that it has: give that its name back.
        fs::rename(&aside, &log.path)?;
        return Err(error.into());
    }
    Ok(())
}

fn aside(log: &Path, now: Timestamp) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(now.strftime(".%Y%m%d-%H%M%S").to_string());
    PathBuf::from(name)
}

/// Leaves room for the log that is being written and one more.
fn remove_oldest(log: &Path) -> io::Result<()> {
    let Some(directory) = log.parent() else { return Ok(()) };
    let prefix = format!("{}.", log.file_name().unwrap_or_default().to_string_lossy());
    let mut aside = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            aside.push(entry.path());
        }
    }
    aside.sort();
    // The one being written and the one to come count, too.
    let excess = (aside.len() + 2).saturating_sub(LOG_FILES_MAX);
    aside.iter().take(excess).try_for_each(fs::remove_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_logs_that_are_written_and_too_large_are_found() {
        let logs = tempfile::tempdir().expect("a directory");
        let container = logs.path().join("ns_p_u-1/c");
        fs::create_dir_all(&container).expect("made");
        fs::write(container.join("0.log"), b"small").expect("written");
        fs::write(container.join("1.log"), b"too large").expect("written");
        fs::write(container.join("1.log.20260102-030405"), b"rotated").expect("written");
        let found = overgrown(logs.path(), 5);
        let expected = Overgrown {
            path: container.join("1.log"),
            pod_uid: "u-1".to_owned(),
            container: "c".to_owned(),
            attempt: 1,
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn of_rotated_files_the_oldest_are_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("0.log");
        for second in 0..6 {
            let now = Timestamp::from_second(1_800_000_000 + second).expect("a time");
            fs::write(aside(&log, now), b"x").expect("written");
        }
        fs::write(directory.path().join("10.log"), b"another").expect("written");
        remove_oldest(&log).expect("removed");
        let left = fs::read_dir(directory.path()).expect("readable").count();
        assert_eq!(left, LOG_FILES_MAX - 2 + 1, "and the other log");
        let newest = Timestamp::from_second(1_800_000_005).expect("a time");
        assert!(aside(&log, newest).exists());
    }
}
