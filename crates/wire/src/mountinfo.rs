//! The mount table, `/proc/PID/mountinfo`.
//!
//! ```text
//! 36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//! id parent dev root target     options    fields   - type source    super options
//! ```

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number.
    pub id: u64,
    /// The file system's number, `major:minor`.
    pub device: String,
    /// What of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub target: PathBuf,
    /// Its own options: `rw,noatime`.
    pub options: String,
    /// `tmpfs`, `overlay`.
    pub fs_type: String,
    /// The file system's options; an overlay's name its directories.
    pub super_options: OsString,
}

/// All mounts that this process sees, in the order in which they were made.
///
/// # Errors
/// When the table cannot be read.
pub fn read() -> io::Result<Vec<Mount>> {
    read_of("self")
}

/// As [`read`], of the process with this id.
///
/// # Errors
/// When the table cannot be read; also when the process has ended.
pub fn read_of(pid: &str) -> io::Result<Vec<Mount>> {
    let table = std::fs::read(format!("/proc/{pid}/mountinfo"))?;
    Ok(table.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// The mount of a line. None where it is not one.
pub fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let path = |field: &[u8]| PathBuf::from(OsString::from_vec(unescape(field)));
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = text(fields.nth(1)?);
    let (root, target) = (path(fields.next()?), path(fields.next()?));
    let options = text(fields.next()?);
    fields.find(|field| *field == b"-")?;
    let fs_type = text(fields.next()?);
    let super_options = OsString::from_vec(unescape(fields.nth(1).unwrap_or_default()));
    Some(Mount { id, device, root, target, options, fs_type, super_options })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = (first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
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

/// Whether something is mounted at exactly this path.
///
/// # Errors
/// When the path cannot be looked at; one that does not exist is not mounted.
pub fn is_mounted(path: &Path) -> io::Result<bool> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
    match rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
        Ok(found) if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        // Kernels before 5.8 do not say.
        Ok(_) => Ok(read()?.iter().any(|mount| mount.target == path)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_escapes_is_read() {
        let line =
            br"36 35 98:0 /mnt1 /mnt\040with\134 rw,noatime master:1 shared:2 - tmpfs src rw,x=a\040b";
        let mount = parse(line).expect("a mount");
        assert_eq!((mount.id, mount.device.as_str()), (36, "98:0"));
        assert_eq!(mount.root, Path::new("/mnt1"));
        assert_eq!(mount.target, Path::new("/mnt with\\"));
        assert_eq!(mount.options, "rw,noatime");
        assert_eq!(mount.fs_type, "tmpfs");
        assert_eq!(mount.super_options, "rw,x=a b");
    }

    #[test]
    fn an_invalid_line_of_the_table_is_left_out() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"36 35 98:0 /mnt1 /mnt rw"), None);
        assert_eq!(parse(br"x 35 98:0 / / rw - tmpfs src rw"), None);
    }

    #[test]
    fn the_proc_file_system_is_found_mounted() {
        assert!(is_mounted(Path::new("/proc")).expect("readable"));
        assert!(!is_mounted(Path::new("/proc/self")).expect("readable"));
        assert!(!is_mounted(Path::new("/nosuch")).expect("readable"));
        let mounts = read().expect("readable");
        assert!(mounts.iter().any(|mount| mount.target == Path::new("/proc")));
    }
}
