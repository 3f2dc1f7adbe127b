//! What a pod's secrets were when it started, kept for the pod's life.
//!
//! The guide: "Once the kubelet has started a pod's containers, its secret volumes will not
//! change". Volumes keep their own bytes. The rest is here, on one small tmpfs per pod that no
//! container sees: which version of each secret was taken, and the keys that environment
//! variables come from, so that a container restarted later, also by a later kubelet process and
//! with no API server, gets the same values. Nothing of it stays in the kubelet's memory.
//!
//! ```text
//! <pod>/snapshot/<secret>/..version    "<uid> <resourceVersion>", or empty: it did not exist
//! <pod>/snapshot/<secret>/<key>        bytes, for secrets that environment variables refer to
//! <pod>/snapshot/..env/<name>          a text that the runtime is told a placeholder for
//! <pod>/snapshot/..env/..key           what the names of these are made with
//! <pod>/snapshot/..seen/<name>         a value in use of a Secret that is not recorded
//! <pod>/snapshot/..superseded/<name>   a value that a volume held before it followed its Secret
//! <pod>/snapshot/..tokens/<name>       a token that a volume held before it was renewed
//! ```
//!
//! The mount also is the commit point of a pod's set-up: it is attached after all volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use coffer_api::secret::{Secret, SecretBytes};
use data_encoding::HEXLOWER;
use k8s_openapi::api::core::v1::PodSpec;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::objects::Version;
use crate::pod::{self, Layout, is_path_component};
use crate::volume::tmpfs::{self, Detached, Options, Size};
use crate::volume::{mountinfo, spec};

/// Room for one secret's keys: the payload's 1 MiB and a page of loss for each of many keys.
const SECRET_ROOM_BYTES: u64 = 4 * 1024 * 1024;
/// Room for the texts of one container that come from secrets: a new program gets no more than 6 MiB
/// of environment and arguments from the kernel.
const CONTAINER_ROOM_BYTES: u64 = 8 * 1024 * 1024;
/// How much the superseded values of a pod's volumes may take, in pages. Texts about a pod that has had
/// more are withheld.
const SUPERSEDED_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Room for the versions of secrets whose keys are not kept.
const BASE_ROOM_BYTES: u64 = 1024 * 1024;
const VERSION_FILE: &str = "..version";
const VERSION_FILE_NEXT: &str = "..version_next";
/// No secret has a name that begins with a dot.
const VALUES: &str = "..env";
const SEEN: &str = "..seen";
const SUPERSEDED: &str = "..superseded";
const TOKENS: &str = "..tokens";
/// There in the place of superseded values that were too many to keep.
const SUPERSEDED_LOST: &str = "..superseded_lost";
const VALUES_KEY: &str = "..key";
const VALUES_DRAFT: &str = "..draft";
/// A kept value's name is as many hex digits.
const VALUE_NAME_LEN: usize = 64;

/// Which keys of a secret are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Only the version: volumes hold the bytes.
    Version,
    Keys(BTreeSet<String>),
    All,
}

impl Keep {
    pub(crate) fn takes(&self, key: &str) -> bool {
        match self {
            Self::Version => false,
            Self::Keys(keys) => keys.contains(key),
            Self::All => true,
        }
    }
}

/// The secrets that a pod's environment variables refer to, and which of their keys.
pub(crate) fn env_secrets(spec: &PodSpec) -> BTreeMap<&str, Keep> {
    let mut secrets: BTreeMap<&str, Keep> = BTreeMap::new();
    for container in pod::all_containers(spec) {
        for source in container.env_from.iter().flatten() {
            if let Some(secret) = &source.secret_ref {
                secrets.insert(&secret.name, Keep::All);
            }
        }
        for variable in container.env.iter().flatten() {
            let source = variable.value_from.as_ref();
            let Some(secret) = source.and_then(|source| source.secret_key_ref.as_ref()) else {
                continue;
            };
            let keep = secrets.entry(&secret.name).or_insert(Keep::Keys(BTreeSet::new()));
            if let Keep::Keys(keys) = keep {
                keys.insert(secret.key.clone());
            }
        }
    }
    secrets
}

/// A key that some container cannot do without and that the secret does not have.
pub(crate) fn missing_key<'a>(spec: &'a PodSpec, name: &str, secret: &Secret) -> Option<&'a str> {
    let variables = pod::all_containers(spec).flat_map(|container| container.env.iter().flatten());
    let references =
        variables.filter_map(|variable| variable.value_from.as_ref()?.secret_key_ref.as_ref());
    let required = references
        .filter(|reference| reference.name == name && reference.optional != Some(true))
        .map(|reference| reference.key.as_str());
    required.into_iter().find(|key| !secret.data.contains_key(*key))
}

/// Whether a pod has a snapshot, and with it the commit mark of its set-up.
pub(crate) fn is_needed(spec: &PodSpec) -> bool {
    spec::has_files(spec) || !env_secrets(spec).is_empty()
}

/// What the snapshot says about one secret.
pub(crate) enum Record {
    /// It did not exist when it was looked for, and did not have to.
    Absent,
    Present {
        version: Version,
        keys: BTreeMap<String, SecretBytes>,
    },
}

/// How much a snapshot may come to hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    /// Secrets whose keys are kept.
    pub(crate) secrets: usize,
    /// Containers whose texts are kept.
    pub(crate) containers: usize,
}

/// What a volume no longer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Superseded {
    /// Of a Secret.
    Value,
    Token,
}

/// A pod's snapshot, by where it is.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    directory: PathBuf,
}

impl Snapshot {
    pub(crate) fn of(layout: &Layout, uid: &str) -> Self {
        Self { directory: layout.snapshot(uid) }
    }

    /// Whether the pod's set-up was finished.
    pub(crate) fn is_committed(&self) -> io::Result<bool> {
        mountinfo::is_mounted(&self.directory)
    }

    /// Makes the snapshot of `secrets` visible, complete.
    pub(crate) fn commit<'a>(
        &self,
        secrets: impl Iterator<Item = (&'a str, Option<&'a Secret>, &'a Keep)>,
        room_for: Room,
    ) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let bytes = BASE_ROOM_BYTES
            + SUPERSEDED_BYTES_MAX
            + SECRET_ROOM_BYTES * room_for.secrets as u64
            + CONTAINER_ROOM_BYTES * room_for.containers as u64;
        let size = Size { bytes, inodes: None };
        let tmpfs = Detached::new(Options { size, root_mode: 0o700, exec: false })?;
        // A detached mount can be walked through its descriptor.
        let root = tmpfs.root()?;
        let path =
            PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&root)));
        for (name, secret, keep) in secrets {
            record(&path, name, secret, keep)?;
        }
        drop(root);
        Ok(tmpfs.attach(&self.directory)?)
    }

    /// Adds a secret that was not there at the commit; one that is recorded stays as it is.
    pub(crate) fn add(&self, name: &str, secret: Option<&Secret>, keep: &Keep) -> io::Result<()> {
        record(&self.directory, name, secret, keep)
    }

    /// Records that volumes hold another version by now, for pods that follow their secrets.
    pub(crate) fn supersede(&self, name: &str, secret: Option<&Secret>) -> io::Result<()> {
        if !is_path_component(name) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a secret's name"));
        }
        let place = self.directory.join(name).join(VERSION_FILE);
        put_whole(&place.with_file_name(VERSION_FILE_NEXT), &place, version_text(secret).as_bytes())
    }

    /// Keeps a text that the runtime is not to know, and answers its name.
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

    /// What is recorded about a secret, with its kept keys.
    pub(crate) fn secret(&self, name: &str) -> io::Result<Option<Record>> {
        if !is_path_component(name) {
            return Ok(None);
        }
        let directory = self.directory.join(name);
        let Some(version) = read_version(&directory)? else { return Ok(None) };
        let Some(version) = version else { return Ok(Some(Record::Absent)) };
        let mut keys = BTreeMap::new();
        for entry in fs::read_dir(&directory)? {
            let key = entry?.file_name().to_string_lossy().into_owned();
            if key != VERSION_FILE && key != VERSION_FILE_NEXT {
                keys.insert(key.clone(), read_key(&directory.join(key))?);
            }
        }
        Ok(Some(Record::Present { version, keys }))
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

    /// Forgets those of the superseded tokens that are of no use to anybody.
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

    /// The versions of all recorded secrets; `None` for one that did not exist.
    pub(crate) fn versions(&self) -> io::Result<BTreeMap<String, Option<Version>>> {
        let mut versions = BTreeMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue; // A record that was being written when its writer died.
            }
            if let Some(version) = read_version(&self.directory.join(&name))? {
                versions.insert(name, version);
            }
        }
        Ok(versions)
    }
}

/// Whether this can be the name of a kept value.
pub(crate) fn is_value_name(name: &str) -> bool {
    name.len() == VALUE_NAME_LEN && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Writes a record beside its place and moves it there, so that it is whole or absent.
fn record(root: &Path, name: &str, secret: Option<&Secret>, keep: &Keep) -> io::Result<()> {
    if !is_path_component(name) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a secret's name"));
    }
    let target = root.join(name);
    // A secret's name begins with a letter or digit, so this is nobody's.
    let draft = root.join(format!("..{name}"));
    match fs::remove_dir_all(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(&draft)?;
    write_key(&draft.join(VERSION_FILE), version_text(secret).as_bytes())?;
    for (key, bytes) in secret.into_iter().flat_map(|secret| &secret.data) {
        // A key cannot be named as our own files are: keys do not begin with two dots.
        if keep.takes(key) && is_path_component(key) && !key.starts_with("..") {
            write_key(&draft.join(key), bytes.expose())?;
        }
    }
    match fs::rename(&draft, &target) {
        // Recorded already, and a record does not change.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            fs::remove_dir_all(&draft)
        }
        result => result,
    }
}

fn version_text(secret: Option<&Secret>) -> String {
    let version = secret.map(|secret| Version::of(&secret.metadata));
    version
        .map(|version| format!("{} {}", version.uid, version.resource_version))
        .unwrap_or_default()
}

fn write_key(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

/// Writes a file beside its place and moves it there. One pod has one worker: nobody else drafts.
fn put_whole(draft: &Path, place: &Path, bytes: &[u8]) -> io::Result<()> {
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

fn read_key(path: &Path) -> io::Result<SecretBytes> {
    Ok(SecretBytes::new(std::mem::take(&mut *read_bytes(path)?)))
}

fn read_bytes(path: &Path) -> io::Result<zeroize::Zeroizing<Vec<u8>>> {
    let mut file = fs::File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or_default();
    // Read into a buffer of the right size: one that grows leaves copies behind.
    let mut bytes = zeroize::Zeroizing::new(vec![0; length]);
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// `None` if nothing is recorded, `Some(None)` if the secret did not exist.
fn read_version(directory: &Path) -> io::Result<Option<Option<Version>>> {
    let text = match fs::read_to_string(directory.join(VERSION_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(text.split_once(' ').map(|(uid, version)| Version {
        uid: uid.to_owned(),
        resource_version: version.to_owned(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(version: &str, password: &[u8]) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.uid = Some("u-1".to_owned());
        secret.metadata.resource_version = Some(version.to_owned());
        secret.data.insert("password".to_owned(), SecretBytes::new(password.to_vec()));
        secret.data.insert("other".to_owned(), SecretBytes::new(b"unused".to_vec()));
        secret
    }

    fn password(snapshot: &Snapshot) -> Vec<u8> {
        match snapshot.secret("db").expect("readable") {
            Some(Record::Present { keys, .. }) => {
                assert!(!keys.contains_key("other"), "only what is referred to is kept");
                keys["password"].expose().to_vec()
            }
            _ => panic!("db is recorded"),
        }
    }

    #[test]
    fn a_record_does_not_change_once_it_is_made() {
        let directory = tempfile::tempdir().expect("a directory");
        let snapshot = Snapshot { directory: directory.path().to_owned() };
        let keep = Keep::Keys(["password".to_owned()].into());
        snapshot.add("db", Some(&secret("7", b"\x00old")), &keep).expect("recorded");
        snapshot.add("db", Some(&secret("8", b"new")), &keep).expect("passed over");
        snapshot.add("gone", None, &Keep::All).expect("recorded");
        snapshot.add("gone", Some(&secret("9", b"late")), &Keep::All).expect("passed over");

        assert_eq!(password(&snapshot), b"\x00old");
        let mut values = Vec::new();
        snapshot.each_value(|value| values.push(value.to_vec())).expect("readable");
        assert_eq!(values, [b"\x00old"]);
        assert!(matches!(snapshot.secret("gone"), Ok(Some(Record::Absent))));
        assert!(matches!(snapshot.secret("nosuch"), Ok(None)));
        let versions = snapshot.versions().expect("readable");
        let seven = Version { uid: "u-1".to_owned(), resource_version: "7".to_owned() };
        assert_eq!(versions, [("db".to_owned(), Some(seven)), ("gone".to_owned(), None)].into());
    }

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

    fn told(snapshot: &Snapshot) -> io::Result<Vec<Vec<u8>>> {
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
        assert_eq!(told(&snapshot).expect("known").len(), 4);
        snapshot.forget_tokens(|token| token != b"token-2").expect("forgotten");
        let later = Snapshot { directory: memory.path().to_owned() };
        let values = told(&later).expect("known after a restart, too");
        assert_eq!(values, [&b"old"[..], b"older", b"token-2"]);
        assert!(later.versions().expect("readable").is_empty(), "these are no Secrets");
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
        assert_eq!(told(&snapshot).expect("known").len(), 2);
        keep(&large);
        told(&snapshot).expect("what is there already needs no room");
        keep(b"one more");
        told(&snapshot).expect_err("one is not known");
    }

    #[test]
    fn a_superseded_value_that_cannot_be_kept_is_an_error() {
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let unmounted = Snapshot { directory: disk.path().to_owned() };
        let value = [(Superseded::Value, &b"old"[..])];
        unmounted.keep_superseded(value.into_iter()).expect_err("nothing is written to a disk");
    }

    #[test]
    fn the_keys_that_the_environment_needs_are_found_in_every_container() {
        let spec: PodSpec = serde_json::from_value(serde_json::json!({
            "initContainers": [{"name": "i", "env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a"}}}]}],
            "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "all"}}], "env": [
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "b"}}},
                {"name": "C", "valueFrom": {"secretKeyRef": {"name": "all", "key": "b"}}}]}],
        }))
        .expect("a spec");
        let keys = Keep::Keys(["a".to_owned(), "b".to_owned()].into());
        assert_eq!(env_secrets(&spec), [("all", Keep::All), ("s", keys)].into());
    }
}
