//! The mounts below a directory, and their removal.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

use crate::error::Error;

/// The mount points at or below `directory`, newest first: the order to unmount them in.
///
/// # Errors
/// When the kernel's table cannot be read.
pub fn below(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let table = std::fs::read("/proc/self/mountinfo")
        .map_err(Error::file("read", "/proc/self/mountinfo"))?;
    let mut found: Vec<_> = table
        .split(|byte| *byte == b'\n')
        .filter_map(mount_point)
        .filter(|point| point.starts_with(directory))
        .collect();
    found.reverse();
    Ok(found)
}

/// Unmounts everything at or below `directory`, busy or not.
///
/// # Errors
/// The first mount that cannot be unmounted; the others have been tried.
pub fn unmount_below(directory: &Path) -> Result<(), Error> {
    let mut outcome = Ok(());
    for point in below(directory)? {
        if let Err(errno) = unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            outcome = outcome.and(Err(Error::file("unmount", point)(errno.into())));
        }
    }
    outcome
}

/// Whether the root directory of process `pid` is a snapshot of a containerd whose persistent state
/// is in `directory`: then the process is in a container of that containerd, whatever that
/// containerd knows of it.
pub(crate) fn root_is_below(pid: &str, directory: &Path) -> bool {
    let root = |pid: &str| {
        let table = std::fs::read(format!("/proc/{pid}/mountinfo")).ok()?;
        let mut lines = table.split(|byte| *byte == b'\n');
        Some(lines.find(|line| mount_point(line).is_some_and(|it| it == Path::new("/")))?.to_vec())
    };
    let Some(line) = root(pid) else { return false };
    // A process with the same root as this one is not in a container, wherever that root is.
    let is_own = root("self").is_some_and(|own| same_directory(&own, &line));
    !is_own && names(&line, directory)
}

/// Whether two mounts are of the same directory of the same file system.
fn same_directory(one: &[u8], other: &[u8]) -> bool {
    let id =
        |line: &[u8]| [2, 3].map(|at| line.split(|byte| *byte == b' ').nth(at).map(<[u8]>::to_vec));
    id(one) == id(other)
}

/// Whether a line of mountinfo names a path below `directory`: as the directory that is mounted,
/// or among an overlay's.
fn names(line: &[u8], directory: &Path) -> bool {
    let mut prefix = directory.as_os_str().as_bytes().to_vec();
    prefix.push(b'/');
    let line = unescape(line);
    let starts = line.windows(prefix.len()).enumerate().filter(|(_, window)| *window == prefix);
    starts.into_iter().any(|(at, _)| at > 0 && b" =:".contains(&line[at - 1]))
}

/// The fifth field of a line of mountinfo, with its octal escapes resolved.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    Some(PathBuf::from(OsString::from_vec(unescape(field))))
        .filter(|path| path.as_os_str().as_bytes() != b"")
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let escape = (first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escape {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_with_a_space_is_read_back_as_it_is() {
        let line = br"36 35 98:0 /mnt1 /tmp/with\040space\134 rw - tmpfs tmpfs rw";
        assert_eq!(mount_point(line), Some(PathBuf::from(r"/tmp/with space\")));
        assert_eq!(mount_point(b""), None);
    }

    #[test]
    fn a_container_is_known_by_what_its_root_is_made_of() {
        let overlay = br"609 570 0:62 / / rw - overlay overlay rw,lowerdir=/l/a:/l/b,upperdir=/my\040data/root/snapshots/4/fs,workdir=/w";
        let native = b"609 570 254:0 /data/root/snapshots/4 / rw - ext4 /dev/vda rw";
        assert!(names(overlay, Path::new("/my data/root")));
        assert!(names(overlay, Path::new("/l")));
        assert!(!names(overlay, Path::new("/data/root")));
        assert!(!names(overlay, Path::new("/my data/roo")));
        assert!(names(native, Path::new("/data/root")));
        assert!(!names(native, Path::new("/root")));
        assert!(same_directory(native, native) && !same_directory(native, overlay));
        assert!(!root_is_below("self", Path::new("/")));
    }

    #[test]
    fn a_neighbour_whose_name_begins_alike_is_not_below() {
        let proc = below(Path::new("/proc")).unwrap();
        assert!(proc.contains(&PathBuf::from("/proc")));
        assert!(below(Path::new("/pro")).unwrap().is_empty());
    }
}
