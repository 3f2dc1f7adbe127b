//! Finds the programs that Coffer's own containerd needs before anything is started, so that a missing one is
//! reported by name immediately and not in containerd's log minutes later.

use std::env::split_paths;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The directories of network plugins in distributions and upstream's archive.
const CNI_DIRECTORIES: &[&str] = &["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

/// The programs, found.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) containerd: PathBuf,
    pub(crate) ctr: PathBuf,
    pub(crate) runc: PathBuf,
    pub(crate) cni_plugins: PathBuf,
}

impl Programs {
    pub(crate) fn find(path: &OsStr) -> Result<Self, Error> {
        let programs = Self {
            containerd: in_path(path, "containerd", "containerd")?,
            ctr: in_path(path, "ctr", "containerd")?,
            runc: in_path(path, "runc", "runc")?,
            cni_plugins: cni_plugins()?,
        };
        in_path(path, "containerd-shim-runc-v2", "containerd")?;
        Ok(programs)
    }
}

fn in_path(path: &OsStr, program: &'static str, package: &'static str) -> Result<PathBuf, Error> {
    split_paths(path)
        .map(|directory| directory.join(program))
        .find(|candidate| is_executable(candidate))
        .ok_or_else(|| Error::Missing {
            program,
            searched: format!("PATH ({})", path.to_string_lossy()),
            package,
        })
}

fn cni_plugins() -> Result<PathBuf, Error> {
    let complete = |directory: &&&str| {
        ["bridge", "host-local"].iter().all(|name| is_executable(&Path::new(directory).join(name)))
    };
    CNI_DIRECTORIES.iter().find(complete).map(PathBuf::from).ok_or_else(|| Error::Missing {
        program: "the CNI plugin bridge or host-local",
        searched: CNI_DIRECTORIES.join(", "),
        package: "containernetworking-plugins",
    })
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_containerd_is_reported_with_its_debian_package() {
        let empty = tempfile::tempdir().unwrap();
        let error = Programs::find(empty.path().as_os_str()).unwrap_err().to_string();
        assert!(error.starts_with("containerd is not installed: not found in PATH"), "{error}");
        assert!(error.contains("Debian's package is containerd"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
