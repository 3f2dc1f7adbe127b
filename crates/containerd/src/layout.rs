//! The paths of a containerd: persistent data is below the data directory, sockets and other run-time state
//! below a short directory in /run.
//!
//! containerd itself has this distinction (`root` and `state`). The short directory also keeps the paths of
//! sockets below the kernel's limit of 107 bytes, however long the data directory's path is.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use crate::error::Error;

/// `sun_path` holds 108 bytes, the last of which is a NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The paths of one containerd.
#[derive(Clone, Debug)]
pub struct Layout {
    base: PathBuf,
    runtime: PathBuf,
    tag: String,
}

impl Layout {
    /// The layout for a data directory. Creates the directories, private to root.
    ///
    /// # Errors
    /// When a directory cannot be made, or a socket's path would be too long.
    pub fn create(data_dir: &Path) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .map_err(Error::file("create directory", data_dir))?;
        let data_dir =
            data_dir.canonicalize().map_err(Error::file("find the real path of", data_dir))?;
        let tag = tag(&data_dir);
        let layout = Self {
            base: data_dir.join("containerd"),
            runtime: Path::new("/run").join(format!("coffer-{tag}")),
            tag,
        };
        for directory in [&layout.base, &layout.runtime, &layout.cni(), &layout.hosts()] {
            make_private(directory)?;
        }
        let socket = layout.socket();
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(Error::SocketPath { path: socket, max_bytes: SOCKET_PATH_BYTES_MAX });
        }
        Ok(layout)
    }

    /// The directory of persistent data, below the data directory.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The short directory for sockets and run-time state.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// Twelve hex digits that identify this data directory on the machine.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// containerd's persistent state.
    pub fn root(&self) -> PathBuf {
        self.base.join("root")
    }

    /// containerd's run-time state.
    pub fn state(&self) -> PathBuf {
        self.runtime.join("state")
    }

    /// The socket of both CRI and containerd's own API.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("containerd.sock")
    }

    /// The daemon's configuration.
    pub fn config(&self) -> PathBuf {
        self.base.join("config.toml")
    }

    /// The program that the daemon calls instead of runc.
    pub fn runc(&self) -> PathBuf {
        self.base.join("runc")
    }

    /// The daemon's log.
    pub fn log(&self) -> PathBuf {
        self.base.join("containerd.log")
    }

    /// The directory of network configurations.
    pub fn cni(&self) -> PathBuf {
        self.base.join("cni")
    }

    /// Which pod has which address.
    pub fn leases(&self) -> PathBuf {
        self.runtime.join("leases")
    }

    /// One directory per registry, with its `hosts.toml`.
    pub fn hosts(&self) -> PathBuf {
        self.base.join("certs.d")
    }
}

/// Sixteen million data directories on one machine would have to exist before two are likely to
/// share a tag.
fn tag(data_dir: &Path) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, data_dir.as_os_str().as_bytes());
    HEXLOWER.encode(&digest.as_ref()[..6])
}

/// Creates a directory that only root may enter, or sets that mode on an existing one.
fn make_private(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::file("create directory", path))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
        .map_err(Error::file("set the mode of", path))
}
