//! Writes a payload into a directory so that readers see all of it or nothing.
//!
//! The layout is that of Kubernetes' atomic writer, which programs that watch their
//! configuration know:
//!
//! ```text
//! <volume>/..2026_01_02_15_04_05.000000001/password   the files
//! <volume>/..data      -> ..2026_01_02_15_04_05.000000001
//! <volume>/password    -> ..data/password
//! ```
//!
//! A new version is written next to the old one and takes its place by one rename of `..data`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use k8s_openapi::jiff::Timestamp;
use rustix::fs::{self, AtFlags, Gid, Mode, OFlags};
use rustix::io::{self, Errno};

use super::payload::{FilePath, Payload};

const DATA_LINK: &str = "..data";
const DATA_LINK_NEXT: &str = "..data_tmp";
const DIRECTORY_MODE: u32 = 0o755;

/// Who owns what is written: root, and the pod's `fsGroup` where it has one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ownership {
    pub(crate) fs_group: Option<u32>,
}

impl Ownership {
    /// Modes as upstream's `SetVolumeOwnership` makes them for read-only volumes: the group may
    /// read what it owns, and new entries of a directory inherit it.
    fn apply(self, fd: impl AsFd, mode: u32, directory: bool) -> io::Result<()> {
        let fd = fd.as_fd();
        let Some(group) = self.fs_group else {
            return fs::fchmod(fd, Mode::from_raw_mode(mode));
        };
        fs::fchown(fd, None, Some(Gid::from_raw(group)))?;
        let added = if directory { 0o2550 } else { 0o440 };
        // After the chown: changing the owner clears the set-group-id bit.
        fs::fchmod(fd, Mode::from_raw_mode(mode | added))
    }
}

/// Makes `payload` the content of the volume at `root`, whatever it was before.
pub(crate) fn write(
    root: BorrowedFd<'_>,
    payload: &Payload<'_>,
    owner: Ownership,
) -> io::Result<()> {
    let old = current(root)?;
    let name = version_name(Timestamp::now());
    fs::mkdirat(root, &name, Mode::from_raw_mode(0o700))?;
    let version = open_directory(root, &name)?;
    for (path, file) in &payload.files {
        write_file(version.as_fd(), path, file.mode, &file.bytes, owner)?;
    }
    owner.apply(&version, DIRECTORY_MODE, true)?;

    let _ = fs::unlinkat(root, DATA_LINK_NEXT, AtFlags::empty());
    fs::symlinkat(&*name, root, DATA_LINK_NEXT)?;
    fs::renameat(root, DATA_LINK_NEXT, root, DATA_LINK)?;
    link_visible(root, payload)?;
    if let Some(old) = old {
        remove_stale_links(root, payload)?;
        remove_version(root, &old)?;
    }
    owner.apply(root, DIRECTORY_MODE, true)
}

/// `..YYYY_MM_DD_HH_MM_SS.NNNNNNNNN`.
fn version_name(now: Timestamp) -> String {
    format!("{}.{:09}", now.strftime("..%Y_%m_%d_%H_%M_%S"), now.subsec_nanosecond())
}

fn current(root: BorrowedFd<'_>) -> io::Result<Option<String>> {
    match fs::readlinkat(root, DATA_LINK, Vec::new()) {
        Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn open_directory(at: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(at, path, flags, Mode::empty())
}

fn write_file(
    version: BorrowedFd<'_>,
    path: &FilePath,
    mode: u32,
    bytes: &[u8],
    owner: Ownership,
) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        make_directories(version, parent, owner)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::openat(version, path.as_str(), flags, Mode::from_raw_mode(0o600))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        match io::write(&file, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    owner.apply(&file, mode, false)
}

fn make_directories(version: BorrowedFd<'_>, path: &str, owner: Ownership) -> io::Result<()> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let directory = &path[..end];
        match fs::mkdirat(version, directory, Mode::from_raw_mode(0o700)) {
            Ok(()) => owner.apply(open_directory(version, directory)?, DIRECTORY_MODE, true)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn link_visible(root: BorrowedFd<'_>, payload: &Payload<'_>) -> io::Result<()> {
    for name in payload.files.keys().map(FilePath::first) {
        match fs::symlinkat(format!("{DATA_LINK}/{name}"), root, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn entries(directory: BorrowedFd<'_>) -> io::Result<Vec<(String, fs::FileType)>> {
    let mut found = Vec::new();
    for entry in fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            found.push((name, entry.file_type()));
        }
    }
    Ok(found)
}

fn remove_stale_links(root: BorrowedFd<'_>, payload: &Payload<'_>) -> io::Result<()> {
    for (name, _) in entries(root)? {
        let ours = name.starts_with("..");
        if !ours && !payload.files.keys().any(|path| path.first() == name) {
            fs::unlinkat(root, &*name, AtFlags::empty())?;
        }
    }
    Ok(())
}

fn remove_version(root: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let directory = open_directory(root, name)?;
    for (entry, kind) in entries(directory.as_fd())? {
        if kind == fs::FileType::Directory {
            remove_version(directory.as_fd(), &entry)?;
        } else {
            fs::unlinkat(&directory, &*entry, AtFlags::empty())?;
        }
    }
    fs::unlinkat(root, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::collections::BTreeSet;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::*;

    fn write_to(directory: &Path, files: &[(&str, i32, &'static [u8])], owner: Ownership) {
        let mut payload = Payload::default();
        for (path, mode, bytes) in files {
            payload.add(path, *mode, Cow::Borrowed(bytes)).expect("valid path");
        }
        let root = std::fs::File::open(directory).expect("the directory exists");
        write(root.as_fd(), &payload, owner).expect("written");
    }

    fn names(directory: &Path) -> BTreeSet<String> {
        std::fs::read_dir(directory)
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with("..2"))
            .collect()
    }

    #[test]
    fn files_have_their_bytes_and_modes_behind_the_data_link() {
        let volume = tempfile::tempdir().expect("a directory");
        let files: &[(_, _, &[u8])] = &[("a", 0o644, b"\x00\xff"), ("d/e/b", 0o400, b"")];
        write_to(volume.path(), files, Ownership::default());

        assert_eq!(std::fs::read(volume.path().join("a")).expect("a file"), b"\x00\xff");
        let mode = |path| std::fs::metadata(volume.path().join(path)).expect("exists").mode();
        assert_eq!(mode("a") & 0o7777, 0o644);
        assert_eq!(mode("d/e/b") & 0o7777, 0o400);
        assert_eq!(mode("d/e") & 0o7777, 0o755);
        let link = std::fs::read_link(volume.path().join("a")).expect("a link");
        assert_eq!(link, Path::new("..data/a"));
    }

    #[test]
    fn a_new_version_replaces_the_old_one_whole() {
        let volume = tempfile::tempdir().expect("a directory");
        write_to(
            volume.path(),
            &[("old", 0o644, b"1"), ("both", 0o644, b"1")],
            Ownership::default(),
        );
        write_to(
            volume.path(),
            &[("both", 0o644, b"2"), ("new", 0o644, b"2")],
            Ownership::default(),
        );

        assert_eq!(names(volume.path()), ["..data", "both", "new"].map(str::to_owned).into());
        assert_eq!(std::fs::read(volume.path().join("both")).expect("a file"), b"2");
        let versions = std::fs::read_dir(volume.path()).expect("readable");
        let dirs = versions.filter(|entry| {
            entry.as_ref().is_ok_and(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        });
        assert_eq!(dirs.count(), 1, "the old version is removed");
    }

    #[test]
    fn the_fs_group_may_read_what_only_the_owner_could() {
        // Only root gives files to a group that it is not in.
        let is_root = rustix::process::geteuid().is_root();
        let group = if is_root { 2000 } else { rustix::process::getegid().as_raw() };
        let volume = tempfile::tempdir().expect("a directory");
        let owner = Ownership { fs_group: Some(group) };
        write_to(volume.path(), &[("key", 0o400, b"k")], owner);
        let file = std::fs::metadata(volume.path().join("key")).expect("exists");
        assert_eq!((file.mode() & 0o7777, file.gid()), (0o440, group));
        let root = std::fs::metadata(volume.path()).expect("exists");
        assert_eq!((root.mode() & 0o7777, root.gid()), (0o2755, group));
    }
}
