//! Files that are replaced atomically.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::Error;

/// Replaces a file by rename, so that no reader sees half of it. Returns whether it was different.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<bool, Error> {
    replace_if_changed(path, bytes, 0o600)
}

/// As [`write_if_changed`], with the mode that a new file gets.
pub(crate) fn replace_if_changed(path: &Path, bytes: &[u8], mode: u32) -> Result<bool, Error> {
    if std::fs::read(path).is_ok_and(|before| before == bytes) {
        return Ok(false);
    }
    let fresh = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(mode);
    options
        .open(&fresh)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(Error::file("write", &fresh))?;
    std::fs::rename(&fresh, path).map_err(Error::file("replace", path))?;
    Ok(true)
}
