//! The sealing keys, and the file they live in.
//!
//! ```text
//! # comment
//! v1 <id: 16 hex digits> <key: 32 bytes in base64>
//! ```
//!
//! One line for each key. The first seals; all open, so that a key is rotated by putting a new line
//! first and taking the old one away once nothing is sealed with it. The file is made at the first
//! start, is read at each start, and is refused if anyone but its owner can read it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::TryRng as _;
use rand::rngs::{SysError, SysRng};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub(super) const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 8;
/// A key file of hundreds of keys is still smaller.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Names a sealing key without revealing anything about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; ID_BYTES]);

/// A key that wraps data keys; erased when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct SealingKey {
    #[zeroize(skip)]
    id: KeyId,
    bytes: [u8; KEY_BYTES],
}

/// At least one sealing key; the first is the one that seals.
#[derive(Debug)]
pub struct Keyring {
    keys: Vec<SealingKey>,
}

/// What is wrong with a key file. No variant quotes it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or made.
    #[error("key file {}: {source}", path.display())]
    Io {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner may read it, or its owner is another user.
    #[error(
        "key file {} must belong to the user that runs this and have mode 0600; \
         it belongs to uid {owner} and has mode {mode:04o}",
        path.display()
    )]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// It is not a key file, or not a whole one.
    #[error("key file {}, line {line}: {problem}", path.display())]
    Malformed {
        /// The key file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with the line.
        problem: &'static str,
    },
    /// It holds no key.
    #[error("key file {} holds no key", path.display())]
    Empty {
        /// The key file.
        path: PathBuf,
    },
    /// The system gave no random bytes for a new key.
    #[error("cannot generate a key: no random bytes: {0}")]
    Random(SysError),
}

impl Keyring {
    /// A ring of one new, random key.
    pub fn generate() -> Result<Self, KeyFileError> {
        let mut key = SealingKey { id: KeyId([0; ID_BYTES]), bytes: [0; KEY_BYTES] };
        SysRng.try_fill_bytes(&mut key.id.0).map_err(KeyFileError::Random)?;
        SysRng.try_fill_bytes(&mut key.bytes).map_err(KeyFileError::Random)?;
        Ok(Self { keys: vec![key] })
    }

    /// Reads a key file; `None` if it does not exist.
    pub fn load(path: &Path) -> Result<Option<Self>, KeyFileError> {
        let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        check_private(path, &file)?;
        let text = read(file).map_err(failed)?;
        Self::parse(path, &text).map(Some)
    }

    /// Writes the ring to a file that must not exist yet, mode 0600. A crash leaves the whole file
    /// or none.
    pub fn store_new(&self, path: &Path) -> Result<(), KeyFileError> {
        self.write(path).map_err(|source| KeyFileError::Io { path: path.to_owned(), source })
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let making = path.with_extension("key.new");
        // Left over from a crash between two lines of this function.
        match std::fs::remove_file(&making) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&making)?;
        file.write_all(&self.to_text())?;
        file.sync_all()?;
        // A link, not a rename: it fails if the file exists, and no key is ever overwritten.
        std::fs::hard_link(&making, path)?;
        std::fs::remove_file(&making)?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    }

    fn to_text(&self) -> Zeroizing<Vec<u8>> {
        let header = "# The first key seals, all keys open. Without this file no sealed value can be read.\n";
        let line = "v1 ".len() + 2 * ID_BYTES + 1 + 44 + 1;
        let mut text = Zeroizing::new(Vec::with_capacity(header.len() + line * self.keys.len()));
        text.extend_from_slice(header.as_bytes());
        for key in &self.keys {
            let bytes = Zeroizing::new(STANDARD.encode(key.bytes));
            text.extend_from_slice(format!("v1 {:?} ", key.id).as_bytes());
            text.extend_from_slice(bytes.as_bytes());
            text.push(b'\n');
        }
        text
    }

    fn parse(path: &Path, text: &[u8]) -> Result<Self, KeyFileError> {
        let mut keys: Vec<SealingKey> = Vec::new();
        for (n, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let key = SealingKey::parse(line).and_then(|key| {
                let again = keys.iter().any(|k| k.id == key.id);
                if again { Err("a key id comes twice") } else { Ok(key) }
            });
            keys.push(key.map_err(|problem| KeyFileError::Malformed {
                path: path.to_owned(),
                line: n + 1,
                problem,
            })?);
        }
        if keys.is_empty() {
            return Err(KeyFileError::Empty { path: path.to_owned() });
        }
        Ok(Self { keys })
    }

    /// The key that seals.
    pub(super) fn first(&self) -> &SealingKey {
        &self.keys[0]
    }

    /// The key of an id.
    pub(super) fn key(&self, id: KeyId) -> Option<&SealingKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// The ids of all keys, the one that seals first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(|key| key.id)
    }
}

impl SealingKey {
    fn parse(line: &[u8]) -> Result<Self, &'static str> {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        if words.next() != Some(b"v1") {
            return Err("it does not begin with v1");
        }
        let id = words.next().and_then(KeyId::parse).ok_or("the id is not 16 hex digits")?;
        let encoded = words.next().ok_or("the key is missing")?;
        if words.next().is_some() {
            return Err("there is something after the key");
        }
        let mut key = Self { id, bytes: [0; KEY_BYTES] };
        let decoded =
            Zeroizing::new(STANDARD.decode(encoded).map_err(|_| "the key is not base64")?);
        if decoded.len() != KEY_BYTES {
            return Err("the key is not 32 bytes long");
        }
        key.bytes.copy_from_slice(&decoded);
        Ok(key)
    }

    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealingKey({:?})", self.id)
    }
}

impl KeyId {
    pub(super) fn new(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }

    fn parse(hex: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(hex).ok()?;
        let digits = text.len() == 2 * ID_BYTES && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok()?;
        digits.then(|| Self(number.to_be_bytes()))
    }
}

impl std::fmt::Debug for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// Checks the open file, not its name, so that it cannot be replaced in between.
fn check_private(path: &Path, file: &File) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let own = owner == rustix::process::geteuid().as_raw();
    if !own || mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), owner, mode });
    }
    Ok(())
}

/// Reads into memory that is erased, and that does not move while it grows.
fn read(file: File) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = file.metadata()?.len();
    if length > FILE_BYTES_MAX {
        return Err(io::Error::other("it is too large for a key file"));
    }
    let mut text = Zeroizing::new(vec![0; usize::try_from(length).map_err(io::Error::other)?]);
    (&file).read_exact(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("sealing.key");
        std::fs::write(&path, text).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        (dir, path)
    }

    #[test]
    fn a_ring_that_was_stored_is_loaded_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("sealing.key");
        assert!(Keyring::load(&path).expect("a missing file is not an error").is_none());
        let ring = Keyring::generate().expect("random");
        ring.store_new(&path).expect("stores");
        let mode = std::fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).expect("dir").count(), 1, "no other file");
        let loaded = Keyring::load(&path).expect("loads").expect("exists");
        assert_eq!(loaded.first().id, ring.first().id);
        assert_eq!(loaded.first().bytes, ring.first().bytes);
        assert!(ring.store_new(&path).is_err(), "a key file is never overwritten");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let (_dir, path) = file("");
        Keyring::generate().expect("random").store_new(&path.with_file_name("k")).expect("stores");
        for mode in [0o640, 0o604, 0o660, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
            let error = Keyring::load(&path).expect_err("refused");
            assert!(
                matches!(&error, KeyFileError::Exposed { mode: m, .. } if *m == mode),
                "{error}"
            );
        }
    }

    #[test]
    fn an_invalid_key_file_is_rejected_without_being_quoted() {
        let canary = "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbmE=";
        let short = "c2hvcnQ=";
        for text in [
            canary.to_owned(),
            format!("v2 0123456789abcdef {canary}"),
            format!("v1 {canary}"),
            format!("v1 0123456789abcde+ {canary}"),
            "v1 0123456789abcdef".to_owned(),
            format!("v1 0123456789abcdef {canary}{canary}"),
            format!("v1 0123456789abcdef {short}"),
            format!("v1 0123456789abcdef {canary} {canary}"),
            format!("v1 0123456789abcdef {canary}\nv1 0123456789abcdef {canary}"),
        ] {
            let (_dir, path) = file(&text);
            let error = Keyring::load(&path).expect_err("refused");
            let said = format!("{error} {error:?}");
            assert!(matches!(error, KeyFileError::Malformed { .. }), "{said}");
            assert!(!said.contains(canary) && !said.contains(short), "{said}");
        }
        let (_dir, path) = file("# nothing\n\n");
        assert!(matches!(Keyring::load(&path), Err(KeyFileError::Empty { .. })));
    }

    #[test]
    fn the_debug_form_shows_ids_only() {
        let ring = Keyring::generate().expect("random");
        let shown = format!("{ring:?}");
        assert_eq!(shown, format!("Keyring {{ keys: [SealingKey({:?})] }}", ring.first().id));
    }
}
