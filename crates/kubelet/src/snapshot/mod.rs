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

mod file;
mod references;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use coffer_api::secret::{Secret, SecretBytes};

use self::file::{put_whole, read_key, write_key};
pub(crate) use self::references::{Keep, env_secrets, missing_key};
use self::values::SUPERSEDED_BYTES_MAX;
pub(crate) use self::values::{Superseded, is_value_name};
use crate::mount::mountinfo;
use crate::mount::tmpfs::{Detached, Options, Size};
use crate::objects::Version;
use crate::pod::{Layout, is_path_component};

/// Room for one secret's keys: the payload's 1 MiB and a page of loss for each of many keys.
const SECRET_ROOM_BYTES: u64 = 4 * 1024 * 1024;
/// Room for the texts of one container that come from secrets: a new program gets no more than 6 MiB
/// of environment and arguments from the kernel.
const CONTAINER_ROOM_BYTES: u64 = 8 * 1024 * 1024;
/// Room for the versions of secrets whose keys are not kept.
const BASE_ROOM_BYTES: u64 = 1024 * 1024;
const VERSION_FILE: &str = "..version";
const VERSION_FILE_NEXT: &str = "..version_next";

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

/// Writes a record under another name and renames it, so that it is whole or absent.
fn record(root: &Path, name: &str, secret: Option<&Secret>, keep: &Keep) -> io::Result<()> {
    if !is_path_component(name) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a secret's name"));
    }
    let target = root.join(name);
    // A secret's name begins with a letter or digit, so this is not a secret's.
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
        snapshot.add("deleted", None, &Keep::All).expect("recorded");
        snapshot.add("deleted", Some(&secret("9", b"late")), &Keep::All).expect("passed over");

        assert_eq!(password(&snapshot), b"\x00old");
        let mut values = Vec::new();
        snapshot.each_value(|value| values.push(value.to_vec())).expect("readable");
        assert_eq!(values, [b"\x00old"]);
        assert!(matches!(snapshot.secret("deleted"), Ok(Some(Record::Absent))));
        assert!(matches!(snapshot.secret("nosuch"), Ok(None)));
        let versions = snapshot.versions().expect("readable");
        let seven = Version { uid: "u-1".to_owned(), resource_version: "7".to_owned() };
        assert_eq!(versions, [("db".to_owned(), Some(seven)), ("deleted".to_owned(), None)].into());
    }
}
