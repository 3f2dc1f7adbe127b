//! Files of a snapshot: whole or absent, and read into memory that is erased.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use coffer_api::secret::SecretBytes;

pub(super) fn write_key(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

/// Writes a file under another name and renames it. One pod has one worker: nothing else writes drafts.
pub(super) fn put_whole(draft: &Path, place: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let put = write_key(draft, bytes).and_then(|()| fs::rename(draft, place));
    if put.is_err() {
        // What is there of it takes room from the others.
        let _ = fs::remove_file(draft);
    }
    put
}

pub(super) fn read_key(path: &Path) -> io::Result<SecretBytes> {
    Ok(SecretBytes::new(std::mem::take(&mut *read_bytes(path)?)))
}

pub(super) fn read_bytes(path: &Path) -> io::Result<zeroize::Zeroizing<Vec<u8>>> {
    let mut file = fs::File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or_default();
    // Read into a buffer of the right size: one that grows leaves copies behind.
    let mut bytes = zeroize::Zeroizing::new(vec![0; length]);
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
