//! What a volume of files will hold: relative path → bytes and mode. Pure.
//!
//! Bytes are borrowed from the object they come from, so that a secret has one copy in memory
//! until it is written to its tmpfs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Component, Path};

use k8s_openapi::api::core::v1::KeyToPath;

use crate::mount::tmpfs::{PAGE_BYTES, Size};

/// Mode of a file where neither the item nor the volume says.
pub(crate) const FILE_MODE_DEFAULT: i32 = 0o644;

/// The kernel's `PATH_MAX`, with the NUL.
const PATH_BYTES_MAX: usize = 4096;

/// A path inside a volume: relative, no `..`, no first component that begins with `..` (those
/// are the writer's own).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FilePath(String);

impl FilePath {
    pub(crate) fn parse(text: &str) -> Result<Self, PayloadError> {
        let path = Path::new(text);
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        let reserved = text.starts_with("..");
        if text.len() >= PATH_BYTES_MAX {
            return Err(PayloadError::PathTooLong(text[..text.floor_char_boundary(64)].to_owned()));
        }
        if text.is_empty() || !plain || reserved || text.ends_with('/') {
            return Err(PayloadError::Path(text.to_owned()));
        }
        // `a//b` and `a/./b` are read as `a/b`.
        let clean: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        Ok(Self(clean.join("/")))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The component that is seen in the volume's root.
    pub(crate) fn first(&self) -> &str {
        self.0.split_once('/').map_or(self.as_str(), |(first, _)| first)
    }

    /// The directory that holds the file, if it is not the volume's root.
    pub(crate) fn parent(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(parent, _)| parent)
    }
}

/// One file to be.
pub(crate) struct File<'a> {
    pub(crate) mode: u32,
    pub(crate) bytes: Cow<'a, [u8]>,
}

/// All files to be.
#[derive(Default)]
pub(crate) struct Payload<'a> {
    pub(crate) files: BTreeMap<FilePath, File<'a>>,
}

/// Why a volume's files cannot be made from the objects.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PayloadError {
    #[error("references non-existent {what} key: {key}")]
    MissingKey { what: &'static str, key: String },
    #[error("invalid path {0:?} in a volume item")]
    Path(String),
    #[error("the path {0:?}... in a volume item is longer than {PATH_BYTES_MAX} bytes")]
    PathTooLong(String),
    #[error("{0:?} is wanted both as a file and as a directory")]
    Conflict(String),
}

/// How one object's keys become files.
#[derive(Clone, Copy)]
pub(crate) struct Selection<'s> {
    /// `secret` or `config`, for the error about a missing key.
    pub(crate) what: &'static str,
    /// Only these keys, at these paths; all keys under their own names where absent or empty.
    pub(crate) items: Option<&'s [KeyToPath]>,
    pub(crate) default_mode: i32,
    /// Whether a missing key is passed over.
    pub(crate) optional: bool,
}

impl<'a> Payload<'a> {
    /// Room for exactly this in the writer's layout.
    pub(crate) fn size(&self) -> Size {
        let mut pages = 0;
        let mut directories = std::collections::BTreeSet::new();
        let mut links = std::collections::BTreeSet::new();
        for (path, file) in &self.files {
            pages += (file.bytes.len() as u64).div_ceil(PAGE_BYTES);
            links.insert(path.first());
            let mut parent = path.parent();
            while let Some(directory) = parent {
                directories.insert(directory);
                parent = directory.rsplit_once('/').map(|(parent, _)| parent);
            }
        }
        // Long link targets take a page each. The constants: the root, the version's directory,
        // `..data` and the link that is renamed over it.
        let long_links = links.iter().filter(|name| name.len() > 100).count() as u64;
        let inodes = self.files.len() + directories.len() + links.len() + 4;
        // Zero would mean "no limit".
        Size { bytes: (pages + long_links).max(1) * PAGE_BYTES, inodes: Some(inodes as u64) }
    }

    /// Adds an object's keys; a path that is taken is replaced, as in upstream's projected volumes.
    pub(crate) fn add_keys(
        &mut self,
        data: &BTreeMap<&'a str, &'a [u8]>,
        selection: Selection<'_>,
    ) -> Result<(), PayloadError> {
        match selection.items {
            None | Some([]) => {
                for (key, bytes) in data {
                    self.add(key, selection.default_mode, Cow::Borrowed(bytes))?;
                }
            }
            Some(items) => {
                for item in items {
                    let Some(bytes) = data.get(item.key.as_str()) else {
                        if selection.optional {
                            continue;
                        }
                        let key = item.key.clone();
                        return Err(PayloadError::MissingKey { what: selection.what, key });
                    };
                    let mode = item.mode.unwrap_or(selection.default_mode);
                    self.add(&item.path, mode, Cow::Borrowed(bytes))?;
                }
            }
        }
        Ok(())
    }

    /// Adds one file.
    pub(crate) fn add(
        &mut self,
        path: &str,
        mode: i32,
        bytes: Cow<'a, [u8]>,
    ) -> Result<(), PayloadError> {
        // Mode bits beyond 0777 have no meaning in a volume; validation does not let them pass.
        let mode = u32::try_from(mode).unwrap_or_default() & 0o777;
        self.files.insert(FilePath::parse(path)?, File { mode, bytes });
        Ok(())
    }

    /// Refuses `a` next to `a/b`: one would hide the other.
    pub(crate) fn check(&self) -> Result<(), PayloadError> {
        for path in self.files.keys() {
            let mut parent = path.parent();
            while let Some(directory) = parent {
                if self.files.contains_key(&FilePath(directory.to_owned())) {
                    return Err(PayloadError::Conflict(directory.to_owned()));
                }
                parent = directory.rsplit_once('/').map(|(parent, _)| parent);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &[(&str, &[u8])] = &[("password", b"value-2\r\n"), ("username", b"")];

    fn payload(
        items: Option<&[KeyToPath]>,
        optional: bool,
    ) -> Result<Payload<'static>, PayloadError> {
        let mut payload = Payload::default();
        let selection = Selection { what: "secret", items, default_mode: 0o644, optional };
        payload.add_keys(&DATA.iter().copied().collect(), selection)?;
        Ok(payload)
    }

    fn item(key: &str, path: &str, mode: Option<i32>) -> KeyToPath {
        KeyToPath { key: key.to_owned(), path: path.to_owned(), mode }
    }

    #[test]
    fn every_key_is_a_file_with_its_exact_bytes() {
        let payload = payload(None, false).expect("no items to be missing");
        let files: Vec<_> =
            payload.files.iter().map(|(path, file)| (path.as_str(), &*file.bytes)).collect();
        assert_eq!(files, DATA);
        assert!(payload.files.values().all(|file| file.mode == 0o644));
    }

    #[test]
    fn items_choose_keys_paths_and_modes() {
        let items = [item("password", "db/pw", Some(0o400))];
        let payload = payload(Some(&items), false).expect("the key exists");
        let (path, file) = payload.files.first_key_value().expect("one file");
        assert_eq!((path.as_str(), path.first(), file.mode), ("db/pw", "db", 0o400));
        assert_eq!(payload.files.len(), 1);
    }

    #[test]
    fn a_missing_key_is_an_error_unless_optional() {
        let items = [item("nosuch", "x", None)];
        let error = payload(Some(&items), false).err().expect("the key is missing");
        assert_eq!(error.to_string(), "references non-existent secret key: nosuch");
        assert!(payload(Some(&items), true).expect("optional").files.is_empty());
    }

    #[test]
    fn paths_that_leave_the_volume_or_hide_the_writers_own_are_refused() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "..data", "..x/y", "a/"] {
            assert!(FilePath::parse(path).is_err(), "{path:?}");
        }
        assert_eq!(FilePath::parse(".dockercfg").map(|path| path.0), Ok(".dockercfg".to_owned()));
    }

    #[test]
    fn a_file_cannot_also_be_a_directory() {
        let mut payload = Payload::default();
        payload.add("a", 0o644, Cow::Borrowed(b"")).expect("valid path");
        payload.add("a/b", 0o644, Cow::Borrowed(b"")).expect("valid path");
        assert_eq!(payload.check(), Err(PayloadError::Conflict("a".to_owned())));
    }
}
