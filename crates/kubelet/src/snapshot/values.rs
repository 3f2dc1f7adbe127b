//! Values in a snapshot that are not a record of a Secret: texts behind placeholders, and what texts about
//! the pod are redacted by.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use coffer_api::secret::SecretBytes;
use data_encoding::HEXLOWER;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::file::{put_whole, read_bytes, read_key};
use super::{Record, Snapshot};
use crate::mount::tmpfs;

/// How much the superseded values of a pod's volumes may take, in pages. Texts about a pod that has had
/// more are withheld.
pub(super) const SUPERSEDED_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// No secret has a name that begins with a dot.
const VALUES: &str = "..env";
const SEEN: &str = "..seen";
const SUPERSEDED: &str = "..superseded";
const TOKENS: &str = "..tokens";
/// There instead of superseded values that were too many to keep.
const SUPERSEDED_LOST: &str = "..superseded_lost";
const VALUES_KEY: &str = "..key";
const VALUES_DRAFT: &str = "..draft";
/// A kept value's name is as many hex digits.
const VALUE_NAME_LEN: usize = 64;

/// What a volume no longer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Superseded {
    /// Of a Secret.
    Value,
    Token,
}

impl Snapshot {
    /// Keeps a text that the runtime is not to know, and returns its name.
    ///
    /// The name is made from the text with a key of the pod's own: the same text has the same name
    /// at each restart, and from a name nothing can be learned about a text.
    pub(crate) fn keep_value(&self, text: &str) -> io::Result<String> {
        self.keep(VALUES, text.as_bytes())
    }

    fn keep(&self, place: &str, value: &[u8]) -> io::Result<String> {
        let path = self.place_of(place, value)?;
        if !path.try_exists()? {
            put_whole(&self.values().join(VALUES_DRAFT), &path, value)?;
        }
        Ok(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
    }

    /// Where a value is kept, or would be; the directory is there and in memory.
    fn place_of(&self, place: &str, value: &[u8]) -> io::Result<PathBuf> {
        for directory in [VALUES, place] {
            match fs::DirBuilder::new().mode(0o700).create(self.directory.join(directory)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let directory = self.directory.join(place);
        if !tmpfs::holds(fs::File::open(&directory)?)? {
            return Err(io::Error::other("the pod's snapshot is not mounted"));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.values_key()?.expose());
        Ok(directory.join(HEXLOWER.encode(hmac::sign(&key, value).as_ref())))
    }

    /// A text that was kept, by its name.
    pub(crate) fn kept_value(&self, name: &str) -> io::Result<zeroize::Zeroizing<Vec<u8>>> {
        if !is_value_name(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        read_bytes(&self.values().join(name))
    }

    /// Where the kept texts are.
    pub(crate) fn values(&self) -> PathBuf {
        self.directory.join(VALUES)
    }

    fn values_key(&self) -> io::Result<SecretBytes> {
        let directory = self.values();
        let path = directory.join(VALUES_KEY);
        match read_key(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let mut key = zeroize::Zeroizing::new([0; 32]);
        let random = SystemRandom::new().fill(&mut *key);
        random.map_err(|_| io::Error::other("the system gives no random bytes"))?;
        put_whole(&directory.join(VALUES_DRAFT), &path, &*key)?;
        Ok(SecretBytes::new(key.to_vec()))
    }

    /// Tells every value that the environment got, of the recorded Secrets and of those that could not
    /// be recorded, and those that volumes held before.
    ///
    /// # Errors
    /// Also when superseded values were too many to keep.
    pub(crate) fn each_value(&self, mut tell: impl FnMut(&[u8])) -> io::Result<()> {
        for name in self.versions()?.keys() {
            if let Some(Record::Present { keys, .. }) = self.secret(name)? {
                keys.values().for_each(|value| tell(value.expose()));
            }
        }
        if self.directory.join(SUPERSEDED_LOST).try_exists()? {
            return Err(io::Error::other("superseded values were too many to keep"));
        }
        for place in [SEEN, SUPERSEDED, TOKENS] {
            for path in self.kept(place)? {
                match read_bytes(&path) {
                    // A token that has expired meanwhile.
                    Err(error) if place == TOKENS && error.kind() == io::ErrorKind::NotFound => {}
                    value => tell(&value?),
                }
            }
        }
        Ok(())
    }

    /// Keeps values that volumes of the pod are about to lose, for as long as the pod lasts: a program
    /// that has read one may still print it. Where there is no room for all, a mark is left by which
    /// [`Self::each_value`] fails: nothing is shown of a pod some of whose values are not known.
    ///
    /// # Errors
    /// When neither the values nor the mark can be kept; then the volumes must stay as they are.
    pub(crate) fn keep_superseded<'v>(
        &self,
        mut values: impl Iterator<Item = (Superseded, &'v [u8])>,
    ) -> io::Result<()> {
        let mut bytes = 0;
        for place in [SUPERSEDED, TOKENS] {
            for path in self.kept(place)? {
                bytes += tmpfs::in_pages(fs::metadata(path)?.len());
            }
        }
        let put = |(kind, value): (Superseded, &[u8])| {
            let place = match kind {
                Superseded::Value => SUPERSEDED,
                Superseded::Token => TOKENS,
            };
            let path = self.place_of(place, value)?;
            if path.try_exists()? {
                return Ok(());
            }
            bytes += tmpfs::in_pages(value.len() as u64);
            if bytes > SUPERSEDED_BYTES_MAX {
                return Err(io::ErrorKind::StorageFull.into());
            }
            put_whole(&self.values().join(VALUES_DRAFT), &path, value)
        };
        match values.try_for_each(put) {
            // Also where the snapshot is from before there was room for these.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                let mut options = fs::OpenOptions::new();
                let lost = self.directory.join(SUPERSEDED_LOST);
                options.write(true).create(true).truncate(false).mode(0o600).open(lost).map(drop)
            }
            kept => kept,
        }
    }

    /// Forgets the superseded tokens that have expired.
    pub(crate) fn forget_tokens(&self, is_expired: impl Fn(&[u8]) -> bool) -> io::Result<()> {
        for path in self.kept(TOKENS)? {
            if is_expired(&read_bytes(&path)?) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The files of kept values.
    fn kept(&self, place: &str) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(self.directory.join(place)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => entries?.map(|entry| Ok(entry?.path())).collect(),
        }
    }

    /// Keeps a value that a container gets from a Secret that is not recorded, so that texts about the
    /// pod can be redacted.
    pub(crate) fn remember(&self, value: &[u8]) -> io::Result<()> {
        self.keep(SEEN, value).map(|_| ())
    }
}

/// Whether this can be the name of a kept value.
pub(crate) fn is_value_name(name: &str) -> bool {
    name.len() == VALUE_NAME_LEN && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_kept_text_has_one_name_which_tells_nothing_and_is_not_a_secret() {
        let memory = tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs");
        let at = |pod: &str| {
            let directory = memory.path().join(pod);
            fs::create_dir(&directory).expect("made");
            Snapshot { directory }
        };
        let (one, other) = (at("one"), at("other"));
        let name = one.keep_value("pass\nword").expect("kept");
        assert_eq!(one.keep_value("pass\nword").expect("kept"), name, "also at a restart");
        assert_ne!(one.keep_value("password").expect("kept"), name);
        assert_ne!(other.keep_value("pass\nword").expect("kept"), name, "pods do not compare");
        assert_eq!(*one.kept_value(&name).expect("there"), b"pass\nword");
        for nothing in [&*"0".repeat(64), VALUES_KEY, "../one", ""] {
            let error = one.kept_value(nothing).expect_err("nothing is kept there");
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{nothing}");
        }
        assert!(one.versions().expect("readable").is_empty());
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let unmounted = Snapshot { directory: disk.path().to_owned() };
        unmounted.keep_value("pass\\nword").expect_err("nothing is written to a disk");
    }

    fn in_memory() -> (tempfile::TempDir, Snapshot) {
        let memory = tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs");
        let snapshot = Snapshot { directory: memory.path().to_owned() };
        (memory, snapshot)
    }

    fn known(snapshot: &Snapshot) -> io::Result<Vec<Vec<u8>>> {
        let mut values = Vec::new();
        snapshot.each_value(|value| values.push(value.to_vec()))?;
        values.sort();
        Ok(values)
    }

    #[test]
    fn superseded_values_are_kept_once_and_tokens_until_they_expire() {
        let (memory, snapshot) = in_memory();
        let keep = |kind, value: &[u8]| snapshot.keep_superseded([(kind, value)].into_iter());
        keep(Superseded::Value, b"old").expect("kept");
        keep(Superseded::Value, b"older").expect("kept");
        keep(Superseded::Value, b"old").expect("known");
        keep(Superseded::Token, b"token-1").expect("kept");
        keep(Superseded::Token, b"token-2").expect("kept");
        assert_eq!(known(&snapshot).expect("known").len(), 4);
        snapshot.forget_tokens(|token| token != b"token-2").expect("forgotten");
        let later = Snapshot { directory: memory.path().to_owned() };
        let values = known(&later).expect("known after a restart, too");
        assert_eq!(values, [&b"old"[..], b"older", b"token-2"]);
        assert!(later.versions().expect("readable").is_empty(), "these are not Secrets");
        let mode = |path: &Path| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::metadata(path).expect("there").permissions().mode() & 0o777
        };
        assert_eq!(mode(&memory.path().join(SUPERSEDED)), 0o700);
        let files = snapshot.kept(SUPERSEDED).expect("readable");
        assert!(files.iter().all(|file| mode(file) == 0o600));
    }

    #[test]
    fn superseded_values_without_room_leave_the_pods_values_unknown() {
        let (_memory, snapshot) = in_memory();
        let large = vec![b'x'; usize::try_from(SUPERSEDED_BYTES_MAX).expect("fits") / 2];
        let keep = |value: &[u8]| {
            snapshot
                .keep_superseded([(Superseded::Value, value)].into_iter())
                .expect("kept, or lost");
        };
        keep(&large);
        keep(&large[1..]);
        assert_eq!(known(&snapshot).expect("known").len(), 2);
        keep(&large);
        known(&snapshot).expect("what is there already needs no room");
        keep(b"one more");
        known(&snapshot).expect_err("one is not known");
    }

    #[test]
    fn a_superseded_value_that_cannot_be_kept_is_an_error() {
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let unmounted = Snapshot { directory: disk.path().to_owned() };
        let value = [(Superseded::Value, &b"old"[..])];
        unmounted.keep_superseded(value.into_iter()).expect_err("nothing is written to a disk");
    }
}
