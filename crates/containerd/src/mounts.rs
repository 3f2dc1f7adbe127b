//! What is mounted below a directory, and taking it away.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

use crate::Error;

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
/// The first mount that would not go; the others have been tried.
pub fn unmount_below(directory: &Path) -> Result<(), Error> {
    let mut outcome = Ok(());
    for point in below(directory)? {
        if let Err(errno) = unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            outcome = outcome.and(Err(Error::file("unmount", point)(errno.into())));
        }
    }
    outcome
}

/// The fifth field of a line of mountinfo, with its octal escapes resolved.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
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
    Some(PathBuf::from(OsString::from_vec(bytes))).filter(|path| path.as_os_str().as_bytes() != b"")
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
    fn a_neighbour_whose_name_begins_alike_is_not_below() {
        let proc = below(Path::new("/proc")).unwrap();
        assert!(proc.contains(&PathBuf::from("/proc")));
        assert!(below(Path::new("/pro")).unwrap().is_empty());
    }
}
