//! The kernel's word that something in a directory changed.

use std::io;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

/// Changes of a directory's files, including that one takes the place of another.
///
/// An inotify descriptor is read as a pipe is; what the events say does not matter, since
/// the caller looks itself.
pub(crate) struct Changes(Receiver);

impl Changes {
    /// Watches from now on what happens to a file.
    pub(crate) fn of(file: &Path) -> io::Result<Self> {
        Self::in_directory(file.parent().unwrap_or(Path::new("/")))
    }

    /// Watches from now on what happens in a directory.
    pub(crate) fn in_directory(directory: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let what = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE;
        inotify::add_watch(&fd, directory, what)?;
        Ok(Self(Receiver::from_owned_fd_unchecked(fd)?))
    }

    /// Waits for a change, and takes all that have come.
    pub(crate) async fn next(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let mut any = false;
        loop {
            match self.0.try_read(&mut buffer) {
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if any {
                        return Ok(());
                    }
                    self.0.readable().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
