//! Where everything lies: what must survive a reboot below the data directory, sockets and other
//! run-time state below a short directory in /run.
//!
//! The split is containerd's own (`root` and `state`), and the short directory also keeps sockets
//! below the 107 bytes that the kernel takes, however long the data directory's path is.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use crate::Error;

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
    /// The layout for a data directory. Makes the directories, private to root.
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

    /// The directory below the data directory that holds all that follows.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The short directory for sockets and run-time state.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// Twelve hex digits that tell this data directory from others on the machine.
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

    /// The socket that both CRI and containerd's own API answer on.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("containerd.sock")
    }

    /// The daemon's configuration.
    pub fn config(&self) -> PathBuf {
        self.base.join("config.toml")
    }

    /// What the daemon calls in runc's place.
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

/// Makes a directory that only root may enter, or closes one that exists.
fn make_private(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::file("create directory", path))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
        .map_err(Error::file("set the mode of", path))
}
