//! What is mounted, read from /proc/self/mountinfo, and unmounting all of a pod's.
//!
//! ```text
//! 36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//! id parent dev root target     options    fields   - type source    super options
//! ```

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, UnmountFlags};

/// One mount, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) id: u64,
    /// The file system's number, `major:minor`.
    pub(crate) device: String,
    /// What of the file system is mounted.
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) options: String,
    pub(crate) fs_type: String,
}

/// All mounts of this process' namespace, in the order in which they were made.
pub(crate) fn read() -> io::Result<Vec<Mount>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let path = |field| PathBuf::from(OsString::from_vec(unescape(field)));
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8_lossy(fields.nth(1)?).into_owned();
    let (root, target) = (path(fields.next()?), path(fields.next()?));
    let options = String::from_utf8_lossy(fields.next()?).into_owned();
    fields.find(|field| *field == b"-")?;
    let fs_type = String::from_utf8_lossy(fields.next()?).into_owned();
    Some(Mount { id, device, root, target, options, fs_type })
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
pub(crate) fn is_mounted(path: &Path) -> io::Result<bool> {
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

/// Unmounts everything at and below `directory`, last mounted first, and nothing anywhere else.
pub(crate) fn unmount_below(directory: &Path) -> io::Result<()> {
    let mounts = read()?;
    let below = || mounts.iter().rev().filter(|mount| mount.target.starts_with(directory));
    // A copy of a directory of the host's would take along what is mounted below the original.
    for mount in below() {
        let _ = rustix::mount::mount_change(&mount.target, MountPropagationFlags::PRIVATE);
    }
    for mount in below() {
        match rustix::mount::unmount(&mount.target, UnmountFlags::NOFOLLOW) {
            // Gone already: nothing is mounted there, or the path is gone.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => {
                let path = mount.target.display();
                return Err(io::Error::new(
                    io::Error::from(error).kind(),
                    format!("unmount {path}: {error}"),
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_escapes_is_read() {
        let line =
            br"36 35 98:0 /mnt1 /mnt\040with\134 rw,noatime master:1 shared:2 - tmpfs src rw";
        let mount = parse(line).expect("a mount");
        assert_eq!((mount.id, mount.device.as_str()), (36, "98:0"));
        assert_eq!(mount.root, Path::new("/mnt1"));
        assert_eq!(mount.target, Path::new("/mnt with\\"));
        assert_eq!(mount.options, "rw,noatime");
        assert_eq!(mount.fs_type, "tmpfs");
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"36 35 98:0 /mnt1 /mnt rw"), None);
    }

    #[test]
    fn the_proc_file_system_is_found_mounted() {
        assert!(is_mounted(Path::new("/proc")).expect("readable"));
        assert!(!is_mounted(Path::new("/proc/self")).expect("readable"));
        assert!(!is_mounted(Path::new("/nosuch")).expect("readable"));
    }
}
