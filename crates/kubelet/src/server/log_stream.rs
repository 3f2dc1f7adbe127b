//! A container's log as `kubectl logs` wants it: from the end, since a time, followed.

use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{self, AsyncBufReadExt as _, AsyncReadExt as _, AsyncSeekExt as _, BufReader};
use tokio::sync::mpsc;

use super::route::{LogOptions, Since};
use crate::changes::Changes;
use crate::logs::Line;
use crate::runtime::Runtime;

/// How much is read in one step while looking for the end's lines.
const BLOCK_BYTES: usize = 32 * 1024;
/// A line longer than this is cut: runtimes write at most 16 KiB and the tags.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// What is collected before it is sent.
const CHUNK_BYTES: usize = 16 * 1024;
/// How often a followed container is asked whether it still runs. New lines are noticed by the
/// kernel's word; this only finds the end.
const END_CHECK_PERIOD: Duration = Duration::from_secs(1);

/// The other end of a log stream.
pub(super) type Chunks = mpsc::Sender<io::Result<Bytes>>;

/// Which log, and of what.
pub(super) struct LogSource {
    pub(super) path: PathBuf,
    pub(super) container_id: String,
    pub(super) runtime: Runtime,
}

/// Sends the wanted part of a log, and what is added to it while it is followed.
pub(super) async fn send(source: LogSource, options: LogOptions, chunks: Chunks) {
    let failed = chunks.clone();
    if let Err(error) = Sender::new(chunks, &options).run(&source, &options).await
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        tracing::debug!(path = %source.path.display(), %error, "log not read to its end");
        // Cut off, so that the client does not take it for the whole log.
        let _ = failed.send(Err(error)).await;
    }
}

struct Sender {
    chunks: Chunks,
    buffer: Vec<u8>,
    timestamps: bool,
    since: Option<Timestamp>,
    left: Option<u64>,
    /// Whether the next content begins a line of the container's.
    at_line_start: bool,
}

impl Sender {
    fn new(chunks: Chunks, options: &LogOptions) -> Self {
        let since = options.since.map(|since| match since {
            Since::Time(time) => time,
            Since::Seconds(seconds) => {
                let second = Timestamp::now().as_second().saturating_sub(seconds);
                Timestamp::from_second(second).unwrap_or(Timestamp::MIN)
            }
        });
        Self {
            chunks,
            buffer: Vec::new(),
            timestamps: options.timestamps,
            since,
            left: options.limit_bytes,
            at_line_start: true,
        }
    }

    async fn run(mut self, source: &LogSource, options: &LogOptions) -> io::Result<()> {
        // Watched before the first read, so that nothing falls in between.
        let mut changes = if options.follow { Some(Changes::of(&source.path)?) } else { None };
        let mut file = File::open(&source.path).await?;
        if let Some(lines) = options.tail_lines {
            let start = tail_start(&mut file, lines).await?;
            file.seek(SeekFrom::Start(start)).await?;
        }
        let mut reader = BufReader::with_capacity(BLOCK_BYTES, file);
        let mut line = Vec::new();
        let mut next = None;
        loop {
            // A line that is still being written is kept until its newline comes.
            let limit = (LINE_BYTES_MAX - line.len()) as u64;
            let read = (&mut reader).take(limit).read_until(b'\n', &mut line).await?;
            if line.ends_with(b"\n") || line.len() >= LINE_BYTES_MAX {
                let content = line.strip_suffix(b"\n").unwrap_or(&line);
                self.line(content);
                line.clear();
                if self.left == Some(0) {
                    return self.flush().await;
                }
                if self.buffer.len() >= CHUNK_BYTES {
                    self.flush().await?;
                }
                continue;
            }
            if read > 0 {
                continue;
            }
            self.flush().await?;
            let Some(changes) = &mut changes else { return Ok(()) };
            if let Some(next) = next.take() {
                reader = BufReader::with_capacity(BLOCK_BYTES, next);
                line.clear();
                continue;
            }
            // The old file is read to its end once more: the runtime wrote into it until it had
            // the new one.
            next = rotated(&source.path, reader.get_ref()).await?;
            if next.is_none() && !self.wait(source, changes).await? {
                return Ok(());
            }
        }
    }

    /// Waits for more. `false` when there will be none, or the client has disconnected.
    async fn wait(&self, source: &LogSource, changes: &mut Changes) -> io::Result<bool> {
        let mut ended = false;
        loop {
            tokio::select! {
                changed = changes.next() => return changed.map(|()| true),
                () = self.chunks.closed() => return Ok(false),
                () = tokio::time::sleep(END_CHECK_PERIOD) => {
                    if ended {
                        // Once more was read since it ended, and nothing came.
                        return Ok(false);
                    }
                    let container = source.runtime.container(&source.container_id).await;
                    ended = match container {
                        Ok(container) => !container.is_some_and(|container| container.is_running()),
                        // A runtime that is restarted does not end its containers.
                        Err(_) => false,
                    };
                }
            }
        }
    }

    fn line(&mut self, raw: &[u8]) {
        let Some(line) = Line::parse(raw) else { return };
        if let Some(since) = self.since
            && line.at().is_some_and(|at| at < since)
        {
            return;
        }
        let before = self.buffer.len();
        if self.timestamps && self.at_line_start {
            self.buffer.extend_from_slice(line.timestamp.as_bytes());
            self.buffer.push(b' ');
        }
        self.buffer.extend_from_slice(line.content);
        if !line.is_partial {
            self.buffer.push(b'\n');
        }
        self.at_line_start = !line.is_partial;
        if let Some(left) = &mut self.left {
            let added = (self.buffer.len() - before) as u64;
            if added > *left {
                let kept = before + usize::try_from(*left).unwrap_or(0);
                self.buffer.truncate(kept);
            }
            *left = left.saturating_sub(added);
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.chunks.send(Ok(chunk)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The file that has taken the path's place, if another has.
async fn rotated(path: &Path, open: &File) -> io::Result<Option<File>> {
    let current = match File::open(path).await {
        Ok(current) => current,
        // In the middle of a rotation, or removed with its container.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let same = current.metadata().await?.ino() == open.metadata().await?.ino();
    Ok((!same).then_some(current))
}

/// Where the last `lines` lines begin.
async fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(end);
    }
    let mut block = vec![0; BLOCK_BYTES];
    // The newline of the last line is not one between lines.
    let mut wanted = lines.saturating_add(1);
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES as u64);
        let length = usize::try_from(end - start).unwrap_or(BLOCK_BYTES);
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut block[..length]).await?;
        for at in (0..length).rev().filter(|at| block[*at] == b'\n') {
            wanted -= 1;
            if wanted == 0 {
                return Ok(start + at as u64 + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const LOG: &[u8] = b"2026-01-02T03:04:05.000000001Z stdout F one\n\
        2026-01-02T03:04:06.000000001Z stderr P tw\n\
        2026-01-02T03:04:06.000000002Z stderr F o\n\
        2026-01-02T03:04:07.000000001Z stdout F three\n";

    async fn read(log: &[u8], options: LogOptions) -> String {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        std::fs::write(&path, log).expect("writable");
        let (chunks, mut received) = mpsc::channel(16);
        let source = LogSource {
            path,
            container_id: String::new(),
            runtime: Runtime::new(Path::new("/nosuch"), "node"),
        };
        send(source, options, chunks).await;
        let mut text = Vec::new();
        while let Some(chunk) = received.recv().await {
            text.extend_from_slice(&chunk.expect("readable"));
        }
        String::from_utf8(text).expect("text")
    }

    #[tokio::test]
    async fn lines_are_put_together_and_cut_as_asked() {
        let all = LogOptions::default();
        assert_eq!(read(LOG, all.clone()).await, "one\ntwo\nthree\n");
        let tail = LogOptions { tail_lines: Some(1), ..all.clone() };
        assert_eq!(read(LOG, tail).await, "three\n");
        let none = LogOptions { tail_lines: Some(0), ..all.clone() };
        assert_eq!(read(LOG, none).await, "");
        let more = LogOptions { tail_lines: Some(100), ..all.clone() };
        assert_eq!(read(LOG, more).await, "one\ntwo\nthree\n");
        let limited = LogOptions { limit_bytes: Some(6), ..all.clone() };
        assert_eq!(read(LOG, limited).await, "one\ntw");
        let since = "2026-01-02T03:04:07Z".parse().expect("a time");
        let since = LogOptions { since: Some(Since::Time(since)), ..all.clone() };
        assert_eq!(read(LOG, since).await, "three\n");
        let stamped = LogOptions { timestamps: true, tail_lines: Some(3), ..all };
        let expected = "2026-01-02T03:04:06.000000001Z two\n2026-01-02T03:04:07.000000001Z three\n";
        assert_eq!(read(LOG, stamped).await, expected);
    }

    #[tokio::test]
    async fn the_last_lines_of_a_large_log_are_found() {
        let line =
            |at: u32| format!("2026-01-02T03:04:05.000000001Z stdout F {at} {}\n", "x".repeat(500));
        let log: String = (0..1000).map(line).collect();
        let tail = LogOptions { tail_lines: Some(300), ..Default::default() };
        let text = read(log.as_bytes(), tail).await;
        assert_eq!(text.lines().count(), 300);
        assert!(text.starts_with("700 "), "{}", &text[..20]);
    }

    #[tokio::test]
    async fn a_followed_log_is_sent_as_it_grows_and_when_it_is_rotated() {
        use std::io::Write as _;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        std::fs::write(&path, LOG).expect("writable");
        let (chunks, mut received) = mpsc::channel(16);
        let source = LogSource {
            path: path.clone(),
            container_id: String::new(),
            runtime: Runtime::new(Path::new("/nosuch"), "node"),
        };
        let options = LogOptions { follow: true, tail_lines: Some(1), ..Default::default() };
        let following = tokio::spawn(send(source, options, chunks));
        let mut next = async || received.recv().await.expect("more").expect("readable");
        assert_eq!(next().await, "three\n");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("writable");
        file.write_all(b"2026-01-02T03:04:08Z stdout F fo").expect("written");
        file.write_all(b"ur\n").expect("written");
        assert_eq!(next().await, "four\n");
        std::fs::rename(&path, directory.path().join("0.log.1")).expect("renamed");
        std::fs::write(&path, b"2026-01-02T03:04:09Z stdout F five\n").expect("writable");
        assert_eq!(next().await, "five\n");
        drop(received);
        following.await.expect("it ends when the client has disconnected");
    }
}
